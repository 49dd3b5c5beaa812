"""Convert official checkpoints of X²-VLM, X-VLM and CCLM to weights directories, and back."""
