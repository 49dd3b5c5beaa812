"""A model as other libraries expect it: open_clip, clip_benchmark, mteb. Imports no torch."""
