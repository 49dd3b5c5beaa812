"""Order, samples, streams, collation, sharing between ranks, loader."""
