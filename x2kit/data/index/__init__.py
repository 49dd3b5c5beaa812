"""Positions of lines, tar members and JSON elements in large files."""
