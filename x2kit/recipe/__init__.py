"""Recipes: typed, read from YAML, overlaid, checked before anything is built. Imports no torch."""

import x2kit.recipe.option  # noqa: F401  # registers Recipe as the type of an option
from x2kit.recipe.changes import differences
from x2kit.recipe.reading import ResolvedRecipe, read_recipe
from x2kit.recipe.schema import Recipe
from x2kit.recipe.validation import ModelFacts, validate

__all__ = ["ModelFacts", "Recipe", "ResolvedRecipe", "differences", "read_recipe", "validate"]
