"""Find the files of a source: braces, patterns and splits in paths. Imports no torch.

Braces are expanded as in bash and webdataset: `shard-{000..003}.tar`, `{a,b}.jsonl`. `{split}` is the split.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Annotated, Literal, Self

from pydantic import Field

from x2kit.data.storage.files import is_folder, list_files, nearest_hint
from x2kit.data.storage.locations import FileInfo, is_url
from x2kit.data.storage.url_policy import ROOT
from x2kit.errors import MissingFileError, SettingError
from x2kit.plugin.choice import FROM_HERE, HARMLESS, Location
from x2kit.plugin.components import SourceConfig

SPLIT = "{split}"
Language = Annotated[str | None, Field(description="language code of texts without one")]
ImageHosts = Annotated[
    tuple[str, ...],
    Field(
        description="scheme and host, with an optional folder, of URLs allowed as paths of images: "
        "https://images.example.org, s3://bucket/folder; a record with any other URL is broken"
    ),
]
Outside = Annotated[
    Literal["refuse", "clip"],
    Field(
        description="boxes that exceed their image by more than a pixel or have no area: refuse makes the record "
        "broken, clip clips them and drops those without an area; nothing is clipped where the size is unknown"
    ),
]
Root = Annotated[Location | bool | None, FROM_HERE, Field(description=ROOT)]
MAX_PATHS = 100_000
"""Paths of one pattern: more than any data set has shards, and few enough to check each."""
_INNERMOST = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.([1-9]\d*))?")


class SplitFiles(SourceConfig):
    """Settings of sources that read files of one split; subclasses define the layout."""

    files: Annotated[tuple[Location, ...], HARMLESS] = Field(
        min_length=1, description="files, patterns or folders; {split} in a path is the name of the split"
    )
    split: str = Field("train", min_length=1, description="value of {split} in paths")

    def check(self) -> None:
        """Raise SettingError if a path matches no file."""
        self.paths()

    def for_split(self, split: str) -> Self:
        """Return the settings of another split. Raises SettingError if no path contains `{split}`."""
        check_split(self, split, self.files)
        return super().for_split(split)

    def paths(self) -> list[str]:
        """List the files in order without duplicates. Raises SettingError if a path matches none."""
        return [file.location for file in self.found()]

    def found(self) -> list[FileInfo]:
        """List the files as `paths`, with size and version."""
        return found_at("files", self.files, self.split)


def expand_braces(pattern: str) -> list[str]:
    """Expand the braces of a pattern into paths without duplicates.

    `{a,b}` expands to each text, `{8..11}` to each number, `{008..011}` to numbers with leading zeros, `{0..9..3}` to
    every third. Braces may be nested; those with other content are kept.

    Raises: ValueError for more than `MAX_PATHS` paths.
    """
    paths = list(dict.fromkeys(islice(_expansions(pattern), MAX_PATHS + 1)))
    if len(paths) > MAX_PATHS:
        raise ValueError(f"{pattern} expands to more than {MAX_PATHS} paths")
    return paths


def _expansions(pattern: str) -> Iterator[str]:
    for braces in _INNERMOST.finditer(pattern):
        if (choices := _choices(braces[1])) is not None:
            for choice in choices:
                yield from _expansions(pattern[: braces.start()] + choice + pattern[braces.end() :])
            return
    yield pattern


def _choices(content: str) -> Iterator[str] | None:
    """Return the choices in a pair of braces; None if it is neither a list nor a range."""
    if found := _RANGE.fullmatch(content):
        first, last, step = int(found[1]), int(found[2]), int(found[3] or 1)
        padded = any(re.match(r"-?0\d", text) for text in found.group(1, 2))
        width = max(len(found[1]), len(found[2])) if padded else 0
        numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
        return (f"{number:0{width}}" for number in numbers)
    return iter(content.split(",")) if "," in content else None


def in_split(location: Location, split: str) -> str:
    """Replace `{split}` in a location."""
    return location.replace(SPLIT, split)


def root_in_split(root: str | bool | None, split: str) -> str | bool | None:
    """Replace `{split}` in the setting `root`."""
    return in_split(root, split) if isinstance(root, str) else root


def files_at(setting: str, locations: Iterable[Location], split: str) -> list[str]:
    """List the files of a setting as `found_at`."""
    return [file.location for file in found_at(setting, locations, split)]


def found_at(setting: str, locations: Iterable[Location], split: str) -> list[FileInfo]:
    """List the files of a setting without duplicates, braces and patterns expanded.

    Raises: MissingFileError for a path without a file, SettingError for braces with too many paths.
    """
    found: dict[str, FileInfo] = {}
    for pattern in locations:
        try:
            paths = expand_braces(in_split(pattern, split))
        except ValueError as error:
            raise SettingError(setting, str(error)) from error
        for path in paths:
            matches = list_files(path)
            if not matches:
                raise MissingFileError(setting, f"no file at {path}{nearest_hint(path)}")
            found.update((match.location, match) for match in matches)
    return list(found.values())


def check_folders(setting: str, folders: Iterable[str]) -> None:
    """Raise MissingFileError for the first folder that is missing."""
    for folder in folders:
        if not is_url(folder) and not is_folder(folder):  # object stores have no empty folders
            raise MissingFileError(setting, f"no folder {folder}{nearest_hint(folder)}")


def check_root(root: str | bool | None, split: str) -> None:
    """Raise MissingFileError if `root` is a missing folder."""
    if isinstance(root, str):
        check_folders("root", [in_split(root, split)])


def check_split(config: SourceConfig, split: str, locations: Sequence[Location]) -> None:
    """Raise SettingError if the split differs from that of the settings and no path contains `{split}`."""
    if split != getattr(config, "split", None) and not any(SPLIT in each for each in locations):
        raise SettingError(
            "split",
            f"no file for split {split!r}: put {SPLIT} in the path, or set split: {split} if these are its files",
        )
