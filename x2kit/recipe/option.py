"""Register Recipe as an option type of jsonargparse parsers. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jsonargparse import set_parsing_settings
from jsonargparse.typing import register_type

from x2kit.errors import Fault, RecipeError, X2KitError
from x2kit.recipe.catalogue import BASE, bases
from x2kit.recipe.merging import EMPTY, merge
from x2kit.recipe.reading import read_tree, resolve_tree
from x2kit.recipe.schema import Recipe
from x2kit.recipe.yaml_text import COMMAND_LINE, Node, node_of


def recipe_from(value: Any) -> Recipe:
    """Parse the value of an option of type Recipe.

    Args:
        value: a name or path; a mapping, complete or with `base`; or a list of these. Later entries are merged over
            earlier ones, and mappings over all names.
    Raises: RecipeError with every fault found, each with key and place.
    """
    names: list[Any] = []
    overlays: list[Node] = []
    for part in value if isinstance(value, list) else [value]:
        if isinstance(part, Mapping):
            names += [entry.value for entry in bases(node_of(dict(part), COMMAND_LINE))]
            overlays.append(node_of({key: item for key, item in part.items() if key != BASE}, COMMAND_LINE))
        else:
            names.append(str(part))
    files, tree = read_tree(names) if names or not overlays else ([], EMPTY)
    faults: list[Fault] = []
    for overlay in overlays:
        tree, found = merge(tree, overlay)
        faults += found
    if faults:
        raise RecipeError(faults)
    return resolve_tree(tree, files).recipe


def _dump(recipe: Recipe) -> dict[str, Any]:
    return recipe.model_dump(mode="json")


# Without this, jsonargparse adds an option for every field and accepts neither names nor overlays.
set_parsing_settings(subclasses_enabled=[Recipe])
register_type(Recipe, serializer=_dump, deserializer=recipe_from, deserializer_exceptions=X2KitError)
