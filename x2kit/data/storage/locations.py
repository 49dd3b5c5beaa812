"""Split, join and name locations: local paths and URLs as text. Imports no torch."""

from __future__ import annotations

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
    """

    location: str
    size: int
    version: str | None


class FileMissing(DataError):
    """There is no file at a location."""

    def __init__(self, location: str) -> None:
        super().__init__(f"{location}: no such file", reason=Reason.FILE_MISSING)


def is_url(location: str) -> bool:
    """Return whether a location is a URL rather than a local path."""
    return _URL.match(location) is not None


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
    return location.split("?")[0].rstrip("/").rpartition("/")[2] if is_url(location) else Path(location).name


def relative_names(locations: Iterable[str]) -> list[str]:
    """Return names below the common folder: unique, and unchanged when the data moves."""
    full = [location if is_url(location) else Path(location).absolute().as_posix() for location in locations]
    parts = [location.split("/") for location in full]
    depth = min(map(len, parts)) - 1
    common = next((n for n in range(depth) if len({part[n] for part in parts}) > 1), depth)
    return ["/".join(part[common:]) for part in parts]
