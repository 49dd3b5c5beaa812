"""Discover plugins: entry points of installed distributions, and named files or modules, without importing them.

The order matters, since the first plugin keeps a duplicate name: x2kit's entry points, then those of other
distributions, sorted by distribution and entry point, then the named plugins in the order given.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from importlib.machinery import PathFinder
from importlib.metadata import Distribution, EntryPoint, entry_points
from pathlib import Path

from x2kit.plugin.hookspecs import PROJECT
from x2kit.plugin.loading.file_modules import import_file, is_path, locate


@dataclass(frozen=True)
class Candidate:
    """A plugin that is found but not imported.

    Attributes:
        name: name of the entry point or module, or stem of the file.
        long_name: name to use if another plugin has `name`.
        origin: "entry point", or the text that named it.
        distribution: name and version, or the path of the file; empty for a module until it is imported.
        identity: equal for two mentions of one plugin.
        remedy: what to do if it fails.
        load: imports it; raises any error of its code.
    """

    name: str
    long_name: str
    origin: str
    distribution: str
    identity: str
    remedy: str
    load: Callable[[], object]


def installed() -> Iterator[Candidate]:
    """Iterate over entry points of group "x2kit", in order."""
    described = cache(_description)  # all entry points of a distribution share it
    for entry_point in sorted(
        entry_points(group=PROJECT), key=lambda point: _order(point, described(point.dist))
    ):
        distribution = described(entry_point.dist)
        own = distribution[0] == PROJECT
        yield Candidate(
            name=entry_point.name,
            long_name=f"{distribution[0]}:{entry_point.name}",
            origin="entry point",
            distribution=" ".join(part for part in distribution if part),
            identity=entry_point.value.partition("[")[0].strip(),
            remedy="reinstall x2kit"
            if own
            else f"install its dependencies, or update or uninstall {distribution[0]}",
            load=entry_point.load,
        )


def named(extra: Sequence[str], base: Path) -> Iterator[Candidate]:
    """Iterate over plugins that a recipe or the command line names, by path (from `base`) or module name."""
    for text in extra:
        remedy = f"fix it, or remove {text!r} from the plugins of the recipe or command line"
        if is_path(text):
            path = locate(text, base)
            place = str(path)
            yield Candidate(path.stem, place, text, place, place, remedy, partial(import_file, path))
        else:
            if os.path.isfile(locate(f"{text}.py", base)):  # noqa: PTH113  # no error for long names
                remedy = f"to load the file, write {text}.py"
            load = partial(importlib.import_module, text)
            yield Candidate(text, f"module {text}", text, "", text, remedy, load)


def module_file(module: str) -> Path | None:
    """Find the file of a module without importing its packages; None if there is none."""
    top, *parts = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except ValueError:  # not a valid module name
        return None
    for part in parts:
        if spec is None:
            return None
        # importlib.util.find_spec would import the package
        spec = PathFinder.find_spec(f"{spec.name}.{part}", spec.submodule_search_locations or [])
    return Path(spec.origin) if spec is not None and spec.origin else None


def _description(distribution: Distribution | None) -> tuple[str, str]:
    """Return name and version of a distribution, empty if missing."""
    if distribution is None:
        return "", ""
    metadata = distribution.metadata
    name = metadata["Name"] if "Name" in metadata else ""  # noqa: SIM401  (its protocol has no `get`)
    version = metadata["Version"] if "Version" in metadata else ""  # noqa: SIM401
    return name, version


def _order(entry_point: EntryPoint, description: tuple[str, str]) -> tuple[bool, str, str, str]:
    normalised = re.sub(r"[-_.]+", "-", description[0]).lower()
    return normalised != PROJECT, normalised, entry_point.name, entry_point.value
