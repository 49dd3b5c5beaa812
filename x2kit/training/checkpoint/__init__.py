"""Checkpoints: save, load, shards, retention, resume."""
