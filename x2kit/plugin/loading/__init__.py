"""Plugin loading: discovery, admission, quarantine."""
