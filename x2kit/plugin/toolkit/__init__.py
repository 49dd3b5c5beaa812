"""Helpers for plugin authors: pretrained files, weights, official keys, SentencePiece, positions."""
