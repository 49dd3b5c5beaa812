"""Non-finite losses: guard, saved batch, replay."""
