"""Record metrics and broken records, call reporters and hooks, show progress."""
