"""Parse the name of a model: a path, a repository of the Hub, or a tag of the catalogue. Imports no torch."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from x2kit.errors import WeightsError
from x2kit.hub.catalogue import PublishedModel, catalogue

HUB = "hf-hub:"
"""Start of names of repositories on the Hugging Face Hub."""
ALLOWED = (
    "a run or weights directory, an official checkpoint (.th, .pth, .pt, .safetensors), hf-hub:ORGANISATION/NAME, or a "
    "name of x2kit models list"
)
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class LocalModel(NamedTuple):
    """A run or weights directory, or an official checkpoint."""

    path: Path

    @property
    def name(self) -> str:
        """The path."""
        return str(self.path)

    @property
    def is_file(self) -> bool:
        """Whether it is an official checkpoint."""
        return self.path.is_file()


class HubModel(NamedTuple):
    """A repository of the Hugging Face Hub; `revision` is a branch, tag or commit, None for the main branch."""

    repository: str
    revision: str | None = None

    @property
    def name(self) -> str:
        """The name as it is parsed."""
        return f"{HUB}{self.repository}" + (f"@{self.revision}" if self.revision else "")


class NamedWeights(NamedTuple):
    """The weights of a named model on this machine.

    Attributes:
        name: as given.
        directory: the weights directory.
        file: the published or own file of weights, whose hash identifies the model.
        origin: what the name stood for: revision, or SHA-256 of the official checkpoint; empty for a directory.
    """

    name: str
    directory: Path
    file: Path
    origin: Mapping[str, str]


ModelName = LocalModel | HubModel | PublishedModel
"""A parsed name; each has `name`."""


def parse_name(name: str | Path) -> ModelName:
    """Parse the name of a model. An existing path wins over a tag.

    Raises: WeightsError for an unknown name, with the nearest tag and all kinds of names.
    """
    if isinstance(name, str) and name.startswith(HUB):
        return _hub(name)
    path = Path(name).expanduser()
    if str(name) and os.path.exists(path):  # noqa: PTH110  # Path.exists() raises for names that are too long
        return LocalModel(path)
    if isinstance(name, Path):
        raise WeightsError(f"{path}: no such directory or file")
    known = catalogue()
    if name in known:
        return known[name]
    raise WeightsError(_unknown(name, list(known)))


def is_local(name: str | Path) -> bool:
    """Return whether a name is an existing run or weights directory, in which results may be written."""
    return not str(name).startswith(HUB) and os.path.isdir(Path(name).expanduser())  # noqa: PTH112


def _hub(name: str) -> HubModel:
    repository, at, revision = name.removeprefix(HUB).partition("@")
    if not _REPOSITORY.fullmatch(repository) or (at and not revision):
        raise WeightsError(
            f"{name}: expected hf-hub:ORGANISATION/NAME, optionally with @REVISION (branch, tag or commit)"
        )
    return HubModel(repository, revision or None)


def _unknown(name: str, known: list[str]) -> str:
    if Path(name).is_absolute() or name.startswith((".", "~")):
        return f"{name}: no such directory or file"
    return (
        f"{name}: no such directory or file, and no published model of this name{_nearest(name, known)}\n"
        f"  allowed: {ALLOWED}"
    )


def _nearest(name: str, known: list[str]) -> str:
    """Suggest a published model, a path beside a missing one, or the prefix of a repository."""
    if near := difflib.get_close_matches(name.lower(), known, n=1, cutoff=0.5):
        return f"; nearest published model: {near[0]}"
    folder = Path(name).parent
    if folder != Path() and os.path.isdir(folder):  # noqa: PTH112
        beside = difflib.get_close_matches(Path(name).name, os.listdir(folder), n=1)  # noqa: PTH208
        return f"; nearest: {folder / beside[0]}" if beside else ""
    if _REPOSITORY.fullmatch(name.partition("@")[0]):
        return f"; a repository of the Hub is {HUB}{name}"
    return ""
