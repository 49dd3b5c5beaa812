"""Cached outputs of a frozen vision encoder, which take the place of pixels in samples and batches."""
