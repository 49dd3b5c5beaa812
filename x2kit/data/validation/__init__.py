"""Validation: check of all records, duplicates, statistics, bad records."""
