"""The training step: encoder passes, fusion pass, losses, gradient caching, negatives."""
