"""Checks of vector indexes: writing, conditions, searching, and several processes."""
