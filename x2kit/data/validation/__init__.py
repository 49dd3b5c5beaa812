"""Checks of all records, duplicates, bad records."""
