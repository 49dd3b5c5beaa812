"""Sources of data beside JSON Lines: annotation files and `datasets` folders. Imports no torch."""
