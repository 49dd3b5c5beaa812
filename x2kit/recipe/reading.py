"""Read, merge, parse and check recipes from names and options. Imports no torch.

Recipe is also registered as an option type of jsonargparse parsers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jsonargparse import set_parsing_settings
from jsonargparse.typing import register_type

from x2kit.errors import Fault, PluginError, RecipeError, X2KitError
from x2kit.model.config import ModelConfig
from x2kit.plugin.loading.manager import Plugins, load_plugins
from x2kit.plugin.loading.trust import trusted
from x2kit.plugin.registry import Registry
from x2kit.recipe.catalogue import BASE, RecipeFile, bases, is_overlay, read_documents
from x2kit.recipe.faults import place_of
from x2kit.recipe.merging import EMPTY, apply, inherit_sizes, merge, with_default_classes
from x2kit.recipe.parsing import parse_recipe
from x2kit.recipe.paths import absolute, absolute_plugin
from x2kit.recipe.schema import Recipe
from x2kit.recipe.validation import Checks, ModelFacts, validate
from x2kit.recipe.warnings import warnings_of
from x2kit.recipe.yaml_text import COMMAND_LINE, Node, Place, node_of, to_yaml

DEFAULT = "default"
_PARTS = ("model", *(f"model.{name}" for name in ModelConfig.model_fields))


@dataclass(frozen=True)
class ResolvedRecipe:
    """A checked recipe with its plugins, origins, facts and warnings.

    Attributes:
        recipe: all values, including defaults; paths are absolute.
        plugins: the plugins that it was resolved with.
        label: a short name for run directories.
        origins: place of each key that is written; keys with default values are absent.
        facts: facts of the model; None unless all checks were requested.
        warnings: settings that are valid but likely wrong, such as a learning rate too high for published weights;
            empty unless all checks were requested.
    """

    recipe: Recipe
    plugins: Plugins
    label: str
    origins: Mapping[str, Place]
    facts: ModelFacts | None
    warnings: tuple[Fault, ...] = ()

    def to_yaml(self, origins: bool = False) -> str:
        """Dump the whole recipe as YAML; `origins` adds a comment with the place of each value."""
        return to_yaml(self.recipe.model_dump(mode="json"), self.origin if origins else None)

    def origin(self, key: str) -> str:
        """Return the place of a key as text, or "default"."""
        return str(self.origins[key]) if key in self.origins else DEFAULT


def read_recipe(
    names: Sequence[str | Path],
    overrides: Sequence[tuple[str, Any]] = (),
    extra_plugins: Sequence[str] = (),
    *,
    checks: Checks = "all",
    saved: bool = False,
) -> ResolvedRecipe:
    """Read and merge recipes, set single keys, and check the result.

    Args:
        names: paths or names of shipped recipes; later ones are merged over earlier ones, except for the description.
        overrides: dotted keys and values, merged last; strings are parsed as YAML.
        extra_plugins: additional plugins; files are relative to the working directory.
        checks: what to check beyond names and types.
        saved: treat the first of `names` as a saved recipe, whose plugins need the user's consent. Files in run and
            weights directories are always treated so.
    Raises: RecipeError with every fault found, each with key and place; PluginError for plugins of a saved recipe
        that may not be imported (see `x2kit.plugin.loading.trust`).
    """
    files, tree = read_tree(names, overrides, saved)
    return resolve_tree(tree, files, extra_plugins, checks=checks)


def resolve_tree(
    tree: Node, files: Sequence[RecipeFile], extra_plugins: Sequence[str] = (), *, checks: Checks = "all"
) -> ResolvedRecipe:
    """Load plugins, parse and check a merged tree; arguments and errors as in `read_recipe`."""
    tree = with_plugins(tree, extra_plugins)
    plugins = _load(tree)
    tree = inherit_sizes(absolute(with_default_classes(tree), plugins.registry), plugins.registry)
    recipe = _parse(tree, plugins.registry, files)

    def place(key: str) -> str:
        return place_of(key, tree)

    facts = validate(recipe, checks, place)
    warnings = () if facts is None else warnings_of(recipe, place)
    return ResolvedRecipe(
        recipe, plugins, files[0].label if files else "recipe", dict(tree.walk()), facts, warnings
    )


def read_tree(
    names: Sequence[str | Path], overrides: Sequence[tuple[str, Any]] = (), saved: bool = False
) -> tuple[list[RecipeFile], Node]:
    """Read and merge recipes without parsing types. Raises RecipeError."""
    if not names:
        raise RecipeError([Fault("", "", "no recipe given\n  see: x2kit recipes list")])
    files, faults, tree = [], [], EMPTY
    for number, name in enumerate(names):
        file, documents = read_documents(name, saved and number == 0)
        files.append(file)
        for document in documents:
            tree, found = merge(tree, document if len(files) == 1 else _without_description(document))
            faults += found
    # A missing key has no line; it is reported for the file.
    tree, found = apply(Node(tree.value, Place(files[0].shown)), overrides)
    faults += found
    if faults:
        raise RecipeError(faults)
    return files, tree


def _without_description(overlay: Node) -> Node:
    # The description of an overlay does not describe the merged recipe.
    assert isinstance(overlay.value, dict)
    return Node({key: node for key, node in overlay.value.items() if key != "description"}, overlay.place)


def plugin_entries(tree: Node) -> list[Node]:
    """Return the entries of `plugins`; empty if not a list of strings, which validation reports."""
    plugins = tree.child("plugins")
    entries = plugins.value if plugins and isinstance(plugins.value, list) else []
    return entries if all(isinstance(entry.value, str) for entry in entries) else []


def with_plugins(tree: Node, extra: Sequence[str] = ()) -> Node:
    """Add extra plugins to a recipe and make plugin files absolute.

    Args:
        extra: plugins from the command line.
    Raises: PluginError for plugins of a saved recipe that may not be imported.
    """
    entries = [*_trusted(plugin_entries(tree), extra), *(Node(name, COMMAND_LINE) for name in extra)]
    if not entries:
        return tree
    # A dict keeps the first of equal entries.
    found = {absolute_plugin(str(entry.value), entry.place): entry.place for entry in reversed(entries)}
    nodes = [Node(name, place) for name, place in reversed(found.items())]
    assert isinstance(tree.value, dict)
    return Node({**tree.value, "plugins": Node(nodes, nodes[0].place)}, tree.place)


def _trusted(entries: Sequence[Node], extra: Sequence[str]) -> list[Node]:
    """Return the entries that may be imported: the user's, and trusted ones of a saved recipe."""
    own = [entry for entry in entries if entry.place.saved is None]
    saved = [entry for entry in entries if entry.place.saved is not None]
    if not saved:
        return own
    place = saved[0].place  # lists replace each other in a merge, so all come from one file
    names = [absolute_plugin(str(entry.value), entry.place) for entry in saved]
    assert place.saved is not None
    return [*(Node(name, place) for name in trusted(names, extra, place.saved)), *own]


def _load(tree: Node) -> Plugins:
    names = plugin_entries(tree)
    plugins = load_plugins([str(name.value) for name in names])
    faults = []
    for name in names:
        try:
            plugins.require([str(name.value)])
        except PluginError as error:
            faults.append(Fault("plugins", str(name.place), str(error)))
    if faults:
        raise RecipeError(faults)
    return plugins


def _parse(tree: Node, registry: Registry, files: Sequence[RecipeFile]) -> Recipe:
    """Parse the recipe; if the model is missing, report which files are overlays."""
    try:
        return parse_recipe(tree, registry)
    except RecipeError as error:
        if not any(fault.key in _PARTS and fault.message.startswith("missing") for fault in error.faults):
            raise
        raise RecipeError(
            [*error.faults, *(_overlay_fault(file) for file in files if is_overlay(file))]
        ) from error


def _overlay_fault(file: RecipeFile) -> Fault:
    message = f"is an overlay, not a recipe; merge it over one: x2kit SUBCOMMAND RECIPE --config {file.name}"
    return Fault("", file.shown, message)


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
