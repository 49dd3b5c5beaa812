"""Checks of the components that train a model: objectives, optimisers, reporters."""
