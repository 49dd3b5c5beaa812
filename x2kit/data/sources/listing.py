"""Files and folders that settings name, where `{split}` stands for the split. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b

from x2kit.data import files
from x2kit.data.addresses import Root
from x2kit.data.index_cache import remembered_fingerprint
from x2kit.data.sources.braces import expand_braces
from x2kit.errors import MissingFileError, SettingError
from x2kit.plugin.components import Location, SourceConfig

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
