"""Each benchmark compares x2kit with the plain formulation: equal results first, then `ratio: X.XX` as the last line."""
