"""Copy and hash file plugins of run and weights directories, without importing them. Imports no torch."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from x2kit.errors import PluginError
from x2kit.plugin.loading.file_modules import is_path

MAX_FILES, MAX_BYTES = 500, 8 * 2**20
"""Limits of one file plugin; a distribution has none, since only its name and version are recorded."""
SKIPPED = ("__pycache__", ".git")
"""Folders that are not copied."""


def files_of(path: Path) -> dict[str, Path]:
    """List the files of a plugin by relative path; a single file has the path ".".

    Raises: PluginError if there is no such file, a symbolic link leads out of the folder, or a limit is exceeded.
    """
    if path.is_file():
        found = {".": path}
    elif path.is_dir():
        found = {file.relative_to(path).as_posix(): file for file in _inside(path)}
    else:
        raise PluginError(f"plugin {path}: no such file or folder")
    size = sum(file.stat().st_size for file in found.values())
    if len(found) > MAX_FILES or size > MAX_BYTES:
        raise PluginError(
            f"plugin {path}: {len(found)} files of {size / 2**20:.1f} MiB; at most {MAX_FILES} files of "
            f"{MAX_BYTES // 2**20} MiB are copied into a run\n  store data elsewhere, or create a distribution: "
            "x2kit plugins new"
        )
    return dict(sorted(found.items()))


def digest(path: Path) -> str:
    """Compute the SHA-256 of a file, or of the names and contents of a folder. Raises as `files_of`."""
    files = files_of(path)
    if list(files) == ["."]:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    lines = (f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {name}\n" for name, file in files.items())
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def carry(names: Sequence[str], folder: Path) -> dict[str, str]:
    """Copy file plugins into a folder.

    Args:
        names: entries of `plugins`: files by absolute paths; modules are not copied.
        folder: an existing folder.
    Returns: the name of each copy in the folder, by entry.
    Raises: as `files_of`.
    """
    copies: dict[str, str] = {}
    for name in names:
        if is_path(name):
            path = Path(name)
            copies[name] = _unused_name(path, set(copies.values()))
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
                f"plugin {root}: {entry.relative_to(root)} is a link to {entry.resolve()}, and only links to "
                "files inside the folder are copied into a run; replace it by a copy"
            )
        if entry.is_dir():
            found += [] if entry.name in SKIPPED else _inside(root, entry)
        elif entry.is_file():
            found.append(entry)
        if len(found) > 100 * MAX_FILES:
            break  # enough for the message, without listing a whole disk
    return found


def _unused_name(path: Path, taken: set[str]) -> str:
    number, name = 1, path.name
    while name in taken:
        number += 1
        name = f"{path.stem}-{number}{path.suffix}"
    return name
