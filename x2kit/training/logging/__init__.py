"""Metrics, run record, callbacks, progress."""
