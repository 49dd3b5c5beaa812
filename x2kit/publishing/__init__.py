"""Publish a trained model: folder, model card, upload to the Hub. Imports no torch."""
