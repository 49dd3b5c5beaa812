"""From names, files and single keys to one checked recipe. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from x2kit.errors import Fault, PluginError, RecipeError
from x2kit.model.config import ModelConfig
from x2kit.plugin.loading.manager import Plugins, load_plugins
from x2kit.plugin.loading.trust import trusted
from x2kit.plugin.registry import Registry
from x2kit.recipe.catalogue import RecipeFile, is_overlay, read_documents
from x2kit.recipe.faults import place_of
from x2kit.recipe.merging import EMPTY, apply, merge, with_sizes_of_replaced
from x2kit.recipe.parsing import parse_recipe
from x2kit.recipe.paths import absolute, absolute_plugin
from x2kit.recipe.rates import warnings_of
from x2kit.recipe.schema import Recipe
from x2kit.recipe.validation import Checks, ModelFacts, validate
from x2kit.recipe.yaml_text import COMMAND_LINE, Node, Place, to_yaml

DEFAULT = "default"
_PARTS = ("model", *(f"model.{name}" for name in ModelConfig.model_fields))


@dataclass(frozen=True)
class ResolvedRecipe:
    """A recipe that was read, with all that was learned on the way.

    Attributes:
        recipe: every value, defaults included; paths are absolute.
        plugins: the plugins it was resolved with.
        label: a short name, for run directories.
        origins: from keys to where they were written; keys that nobody wrote are absent.
        facts: what is known of the model; None unless all checks were asked for.
        warnings: what can be trained and should not be, such as published weights at a rate that ruins them; empty
            unless all checks were asked for.
    """

    recipe: Recipe
    plugins: Plugins
    label: str
    origins: Mapping[str, Place]
    facts: ModelFacts | None
    warnings: tuple[Fault, ...] = ()

    def to_yaml(self, origins: bool = False) -> str:
        """The whole recipe as YAML; with `origins`, a comment at each value says where it was written."""
        return to_yaml(self.recipe.model_dump(mode="json"), self.origin if origins else None)

    def origin(self, key: str) -> str:
        """Where the value of this key was written, or "default"."""
        return str(self.origins[key]) if key in self.origins else DEFAULT


def read_recipe(
    names: Sequence[str | Path],
    overrides: Sequence[tuple[str, Any]] = (),
    extra_plugins: Sequence[str] = (),
    *,
    checks: Checks = "all",
    saved: bool = False,
) -> ResolvedRecipe:
    """Read recipes, lay them over each other, set single keys, and check the result.

    Args:
        names: paths or names of shipped recipes; later ones are laid over earlier ones, but the description
            stays that of the first.
        overrides: keys with dots and their values, which win over all files; a text is read as YAML.
        extra_plugins: plugins beside those of the recipe, files relative to the working directory.
        checks: how much is checked beyond names and types.
        saved: the first of `names` is the saved recipe of a directory: data, whose plugins are not the user's word.
            A file in a run or weights directory counts as such anyway.
    Raises: RecipeError with every fault found, each with key and place; PluginError for plugins of a saved recipe
        that may not be imported (see `x2kit.plugin.loading.trust`).
    """
    files, tree = read_tree(names, overrides, saved)
    return resolve_tree(tree, files, extra_plugins, checks=checks)


def resolve_tree(
    tree: Node, files: Sequence[RecipeFile], extra_plugins: Sequence[str] = (), *, checks: Checks = "all"
) -> ResolvedRecipe:
    """Load the plugins of a merged tree, build its recipe and check it. Arguments and errors as `read_recipe`."""
    tree = with_plugins(tree, extra_plugins)
    plugins = _load(tree)
    tree = with_sizes_of_replaced(absolute(tree, plugins.registry), plugins.registry)
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
    """The recipe as it was written, before names and types are looked at. Raises RecipeError."""
    if not names:
        raise RecipeError([Fault("", "", "no recipe was named\n  see: x2kit recipes list")])
    files, faults, tree = [], [], EMPTY
    for number, name in enumerate(names):
        file, documents = read_documents(name, saved and number == 0)
        files.append(file)
        for document in documents:
            tree, found = merge(tree, document if len(files) == 1 else _without_description(document))
            faults += found
    # A key that nobody wrote has no line: the recipe as a whole lacks it.
    tree, found = apply(Node(tree.value, Place(files[0].shown)), overrides)
    faults += found
    if faults:
        raise RecipeError(faults)
    return files, tree


def _without_description(overlay: Node) -> Node:
    # The description of an overlay tells of the overlay, not of the recipe that it is laid over.
    assert isinstance(overlay.value, dict)
    return Node({key: node for key, node in overlay.value.items() if key != "description"}, overlay.place)


def plugin_entries(tree: Node) -> list[Node]:
    """The entries of `plugins`; none where they are no list of texts, which validation then reports."""
    plugins = tree.child("plugins")
    entries = plugins.value if plugins and isinstance(plugins.value, list) else []
    return entries if all(isinstance(entry.value, str) for entry in entries) else []


def with_plugins(tree: Node, extra: Sequence[str] = ()) -> Node:
    """The recipe with all plugins that are to be loaded, files by absolute paths.

    Args:
        extra: plugins that the command line names.
    Raises: PluginError for plugins of a saved recipe that may not be imported.
    """
    entries = [*_trusted(plugin_entries(tree), extra), *(Node(name, COMMAND_LINE) for name in extra)]
    if not entries:
        return tree
    # A dict, so that a plugin named twice is kept once, where it came first.
    found = {absolute_plugin(str(entry.value), entry.place): entry.place for entry in reversed(entries)}
    nodes = [Node(name, place) for name, place in reversed(found.items())]
    assert isinstance(tree.value, dict)
    return Node({**tree.value, "plugins": Node(nodes, nodes[0].place)}, tree.place)


def _trusted(entries: Sequence[Node], extra: Sequence[str]) -> list[Node]:
    """The entries of the user's own files, and those of a saved recipe that may be imported."""
    own = [entry for entry in entries if entry.place.saved is None]
    saved = [entry for entry in entries if entry.place.saved is not None]
    if not saved:
        return own
    place = saved[0].place  # a later list of plugins replaces an earlier one, so all come from one recipe
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
    """Parse the recipe; where the model is missing, say which of the files are overlays."""
    try:
        return parse_recipe(tree, registry)
    except RecipeError as error:
        if not any(fault.key in _PARTS and fault.message.startswith("missing") for fault in error.faults):
            raise
        raise RecipeError(
            [*error.faults, *(_overlay_alone(file) for file in files if is_overlay(file))]
        ) from error


def _overlay_alone(file: RecipeFile) -> Fault:
    message = f"is an overlay, which changes a recipe: lay it over one, x2kit SUBCOMMAND RECIPE --config {file.name}"
    return Fault("", file.shown, message)
