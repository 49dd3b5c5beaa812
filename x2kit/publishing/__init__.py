"""Publish a trained model: folder, model card, upload to the Hub. Imports no torch."""

from __future__ import annotations

from x2kit.publishing.publication import Publication, publish

__all__ = ["Publication", "publish"]
