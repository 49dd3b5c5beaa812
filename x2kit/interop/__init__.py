"""Reading and writing what others publish: official checkpoints of X²-VLM, CCLM and X-VLM."""
