"""Braces in paths, as bash and webdataset expand them: `shard-{000..003}.tar`, `{a,b}.jsonl`. Imports no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b
from itertools import islice
from typing import Annotated, Self

from pydantic import Field

from x2kit.data.storage import files
from x2kit.data.storage.index_cache import remembered_fingerprint
from x2kit.data.storage.url_policy import Root
from x2kit.errors import MissingFileError, SettingError
from x2kit.plugin.choice import HARMLESS
from x2kit.plugin.components import Location, SourceConfig

MAX_PATHS = 100_000
"""Of one pattern: more than any data set has shards, and few enough to look for each."""
_INNERMOST = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(-?\d+)\.\.(-?\d+)(?:\.\.([1-9]\d*))?")


def expand_braces(pattern: str) -> list[str]:
    """The paths that a pattern stands for, each once.

    `{a,b}` gives each text, `{8..11}` each number, `{008..011}` each with leading zeros, `{0..9..3}` every third.
    Braces may be nested. Braces of any other content stay as they are.

    Raises: ValueError for more than `MAX_PATHS` paths.
    """
    paths = list(dict.fromkeys(islice(_expanded_braces(pattern), MAX_PATHS + 1)))
    if len(paths) > MAX_PATHS:
        raise ValueError(f"{pattern} stands for more than {MAX_PATHS} paths")
    return paths


def _expanded_braces(pattern: str) -> Iterator[str]:
    for braces in _INNERMOST.finditer(pattern):
        if (choices := _choices(braces[1])) is not None:
            for choice in choices:
                yield from _expanded_braces(pattern[: braces.start()] + choice + pattern[braces.end() :])
            return
    yield pattern


def _choices(content: str) -> Iterator[str] | None:
    """What stands in one pair of braces; None for neither a list nor a range."""
    if found := _RANGE.fullmatch(content):
        first, last, step = int(found[1]), int(found[2]), int(found[3] or 1)
        padded = any(re.match(r"-?0\d", text) for text in found.group(1, 2))
        width = max(len(found[1]), len(found[2])) if padded else 0
        numbers = range(first, last + 1, step) if first <= last else range(first, last - 1, -step)
        return (f"{number:0{width}}" for number in numbers)
    return iter(content.split(",")) if "," in content else None


SPLIT = "{split}"


def in_split(location: Location, split: str) -> str:
    """The location with the split in place of `{split}`."""
    return location.replace(SPLIT, split)


def root_in_split(root: Root, split: str) -> Root:
    """The setting `root` with the split in place of `{split}`."""
    return in_split(root, split) if isinstance(root, str) else root


def check_root(root: Root, split: str) -> None:
    """Raise MissingFileError if `root` names a folder that is missing."""
    if isinstance(root, str):
        check_folders("root", [in_split(root, split)])


def files_at(setting: str, locations: Iterable[Location], split: str) -> list[str]:
    """The files that settings lead to, each once, braces expanded.

    Raises: MissingFileError for a path that leads to none, SettingError for braces that stand for too many.
    """
    found: dict[str, None] = {}
    for location in (path for written in locations for path in _expanded(setting, in_split(written, split))):
        matches = files.matching(location)
        if not matches:
            raise MissingFileError(setting, f"{location} leads to no file{files.nearest_to(location)}")
        found.update(dict.fromkeys(match.location for match in matches))
    return list(found)


def _expanded(setting: str, location: Location) -> list[str]:
    try:
        return expand_braces(location)
    except ValueError as error:
        raise SettingError(setting, str(error)) from error


def check_folders(setting: str, folders: Iterable[str]) -> None:
    """Raise MissingFileError for the first folder that is missing."""
    for folder in folders:
        if not files.is_url(folder) and not files.is_folder(
            folder
        ):  # stores of objects have no empty folders
            raise MissingFileError(setting, f"no folder {folder}{files.nearest_to(folder)}")


def check_split(config: SourceConfig, split: str, locations: Sequence[Location]) -> None:
    """Raise SettingError if another split is asked for and no location tells it."""
    if split != getattr(config, "split", None) and not any(SPLIT in each for each in locations):
        raise SettingError(
            "split",
            f"these files have no part {split!r}: write {SPLIT} where its name stands in the path, "
            f"or set split: {split} if they are that part",
        )


def fingerprint_of(settings: str, locations: Sequence[str]) -> str:
    """A hash of settings and of all that files hold; their folder does not matter. Raises DataError as reading does."""
    return remembered_fingerprint(locations, lambda: _hashed(settings, locations), f"files {settings}")


def _hashed(settings: str, locations: Sequence[str]) -> str:
    digest = blake2b(settings.encode(), digest_size=8)
    for location in locations:
        digest.update(f"\0{files.name_of(location)}\0".encode())
        for chunk in files.chunks(location):
            digest.update(chunk)
    return digest.hexdigest()


class SplitFiles(SourceConfig):
    """Records in files; a subclass says of what layout, and opens them."""

    files: Annotated[tuple[Location, ...], HARMLESS] = Field(
        min_length=1, description="files, patterns or folders; {split} in a path stands for the split"
    )
    split: str = Field("train", min_length=1, description="what {split} in a path stands for")

    def check(self) -> None:
        """Raise SettingError if a path leads to no file."""
        self.paths()

    def for_split(self, split: str) -> Self:
        """The files of another split. Raises SettingError if no path has `{split}` in it."""
        check_split(self, split, self.files)
        return super().for_split(split)

    def paths(self) -> list[str]:
        """The files in order, each once. Raises SettingError for a path that leads to none."""
        return files_at("files", self.files, self.split)
