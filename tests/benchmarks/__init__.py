"""Each benchmark compares x2kit with the plain way: equal results first, then `ratio: X.XX` as its last line."""
