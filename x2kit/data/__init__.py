"""Data: records to samples to batches, in an order that follows from (seed, epoch, position)."""
