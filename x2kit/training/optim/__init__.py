"""Parameter groups, schedule, AdamW, gradient norm."""
