"""Compare x2kit with plain formulations: check equal results, then print `ratio: X.XX` as the last line."""
