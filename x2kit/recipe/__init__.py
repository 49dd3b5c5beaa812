"""Recipes: typed, read from YAML, overlaid, checked before anything is built. Imports no torch."""

from x2kit.recipe.differences import differences
from x2kit.recipe.reading import ResolvedRecipe, read_recipe
from x2kit.recipe.resolve import ModelFacts, validate
from x2kit.recipe.schema import Recipe

__all__ = ["ModelFacts", "Recipe", "ResolvedRecipe", "differences", "read_recipe", "validate"]
