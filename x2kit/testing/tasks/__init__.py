"""Checks of tasks and of the heads that they add to a model."""
