"""Text assignment, X-VLM's pretraining for NLVR2. Imports no torch."""
