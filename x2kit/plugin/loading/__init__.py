"""Discover, admit and load plugins, and quarantine those that fail."""
