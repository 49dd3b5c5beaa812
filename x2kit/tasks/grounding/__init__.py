"""Grounding: the box that a text names."""
