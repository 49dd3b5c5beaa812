"""Copies of file plugins in run and weights directories, and their hashes. Imports none of them and no torch."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from x2kit.errors import PluginError
from x2kit.plugin.loading.file_modules import is_path

MAX_FILES, MAX_BYTES = 500, 8 * 2**20
"""Limits of one plugin; what is larger belongs in a distribution, which is recorded by name and version."""
SKIPPED = ("__pycache__", ".git")
"""Folders that are no part of a folder plugin."""


def files_of(path: Path) -> dict[str, Path]:
    """The files of a plugin by their relative paths; a single file has the path ".".

    Raises: PluginError if there is no such file, if a symbolic link leads out of the folder, or beyond the limits.
    """
    if path.is_file():
        found = {".": path}
    elif path.is_dir():
        found = {file.relative_to(path).as_posix(): file for file in _inside(path)}
    else:
        raise PluginError(f"plugin {path}: there is no such file or folder")
    size = sum(file.stat().st_size for file in found.values())
    if len(found) > MAX_FILES or size > MAX_BYTES:
        raise PluginError(
            f"plugin {path}: {len(found)} files of {size / 2**20:.1f} MiB; at most {MAX_FILES} files of "
            f"{MAX_BYTES // 2**20} MiB are copied into a run\n  keep data elsewhere, or make it a distribution: "
            "x2kit plugins new"
        )
    return dict(sorted(found.items()))


def digest(path: Path) -> str:
    """SHA-256 of a file, or of the names and contents of a folder's files. Raises as `files_of`."""
    files = files_of(path)
    if list(files) == ["."]:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    lines = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n" for name, file in files.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def carry(names: Sequence[str], folder: Path) -> dict[str, str]:
    """Copy file plugins into a folder.

    Args:
        names: entries of `plugins`: files by absolute paths, and modules, which are left alone.
        folder: exists; gets a file or folder for each.
    Returns: the name of each copy in the folder, by the entry.
    Raises: as `files_of`.
    """
    copies: dict[str, str] = {}
    for name in names:
        if is_path(name):
            path = Path(name)
            copies[name] = _free(path, set(copies.values()))
            for part, file in files_of(path).items():
                target = folder / copies[name] / part
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(file, target)
    return copies


def _inside(root: Path, below: Path | None = None) -> list[Path]:
    folder, found = below or root, list[Path]()
    for entry in sorted(folder.iterdir()):
        if entry.is_symlink() and (entry.is_dir() or not entry.resolve().is_relative_to(root.resolve())):
            raise PluginError(
                f"plugin {root}: {entry.relative_to(root)} is a link to {entry.resolve()}; a run copies its plugins, "
                "and only links to files inside the folder are followed: put a copy there instead"
            )
        if entry.is_dir():
            found += [] if entry.name in SKIPPED else _inside(root, entry)
        elif entry.is_file():
            found.append(entry)
        if len(found) > 100 * MAX_FILES:
            break  # enough for the message, before a whole disk is listed
    return found


def _free(path: Path, taken: set[str]) -> str:
    number, name = 1, path.name
    while name in taken:
        number += 1
        name = f"{path.stem}-{number}{path.suffix}"
    return name
