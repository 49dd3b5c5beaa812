"""Text generation: left-to-right reading, beam search, answer ranking."""
