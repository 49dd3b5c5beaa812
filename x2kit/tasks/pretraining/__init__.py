"""Pretraining on images, regions, videos, parallel texts and texts alone. Imports no torch."""
