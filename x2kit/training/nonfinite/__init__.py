"""Skip updates with NaN or Inf, save such a step, and replay it."""
