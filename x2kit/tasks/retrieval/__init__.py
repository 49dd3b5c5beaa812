"""Image-text retrieval in any language."""
