"""Split, join and name locations: local paths and URLs as text. Imports no torch."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from x2kit.errors import DataError, Reason

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")


class FileInfo(NamedTuple):
    """Size and version of a file at one time.

    Attributes:
        location: local path or URL.
        size: in bytes.
        version: changes with every write; None if the store reports none.
        changed: time of the last change of a local file, in seconds since 1970; None for a remote one.
    """

    location: str
    size: int
    version: str | None
    changed: float | None = None


class FileMissing(DataError):
    """There is no file at a location."""

    def __init__(self, location: str) -> None:
        super().__init__(f"{location}: no such file", reason=Reason.FILE_MISSING)


def is_url(location: str) -> bool:
    """Return whether a location is a URL rather than a local path."""
    return "://" in location and _URL.match(location) is not None


def join(folder: str, name: str) -> str:
    """Join a folder and a name; URLs and absolute paths stay unchanged."""
    if is_url(name) or not name:
        return name or folder
    if is_url(folder):
        return f"{folder.rstrip('/')}/{name.removeprefix('./').lstrip('/')}"
    return str(Path(folder, name))


def folder_of(location: str) -> str:
    """Return the folder that contains a file."""
    return location.rpartition("/")[0] if is_url(location) else str(Path(location).parent)


def name_of(location: str) -> str:
    """Return the last part of a location, without the query of a URL."""
    path = location.split("?")[0].rstrip("/") if is_url(location) else location.rstrip(os.sep)
    return os.path.basename(path)  # noqa: PTH119  # of each of many shards


def relative_names(locations: Iterable[str]) -> list[str]:
    """Return names below the common folder: unique, and unchanged when the data moves."""
    split = [
        location.rpartition("/") if is_url(location) else os.path.split(location) for location in locations
    ]
    parts = {
        folder: _parts(folder) for folder in {folder for folder, *_ in split}
    }  # many shards, few folders
    depth = min(map(len, parts.values()))
    common = next((n for n in range(depth) if len({part[n] for part in parts.values()}) > 1), depth)
    below = {folder: "".join(f"{part}/" for part in parts[folder][common:]) for folder in parts}
    return [below[folder] + name for folder, *_, name in split]


def _parts(folder: str) -> list[str]:
    """Split a folder, or the URL of one, into its parts from the root or the scheme on."""
    return (folder if is_url(folder) else Path(folder).absolute().as_posix()).split("/")
