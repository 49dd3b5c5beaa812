"""Read typed recipes from YAML, merge overlays and check them. Imports no torch."""

from x2kit.recipe.changes import differences
from x2kit.recipe.reading import ResolvedRecipe, read_recipe
from x2kit.recipe.schema import Recipe
from x2kit.recipe.validation import ModelFacts, validate

__all__ = ["ModelFacts", "Recipe", "ResolvedRecipe", "differences", "read_recipe", "validate"]
