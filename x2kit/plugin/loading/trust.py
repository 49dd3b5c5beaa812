"""Decide which plugins of a saved recipe may be imported. Imports none of them and no torch.

The recipe of a weights or run directory is data, possibly from strangers. A plugin that it names and that is not
installed is imported only if the user names it (`--plugin`, `plugins=`), if this process has imported it already, or if
the same user named the same file when the run started. For the last case, hashes are stored outside the directory, in
`$X2KIT_STATE`, else in `x2kit` under the user's state folder (`$XDG_STATE_HOME`, `~/.local/state`).
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from x2kit.errors import PluginError
from x2kit.plugin.loading.carried import digest
from x2kit.plugin.loading.discovery import installed, module_file
from x2kit.plugin.loading.file_modules import imported_files, is_path, locate, module_name


def trusted(saved: Sequence[str], given: Sequence[str], recipe: Path, everything: bool = False) -> list[str]:
    """Return the plugins of a saved recipe that may be imported, files by absolute paths.

    Args:
        saved: entries of its `plugins`; relative paths start at the recipe's folder.
        given: plugins that the user named, relative to the working directory. A file of the same name or content, or
            the same module, replaces the saved entry, which is not returned.
        recipe: file of the saved recipe.
        everything: trust all plugins that the recipe names.
    Raises: PluginError with the option that allows each rejected entry.
    """
    free = {candidate.identity for candidate in installed()}
    replaced = {_base_name(name) for name in given}
    same = {_hash(absolute(name, Path())) for name in given} - {None}
    found, refused = [], []
    for name in (absolute(name, recipe.parent) for name in saved):
        if _base_name(name) in replaced or (same and _hash(name) in same):
            continue
        running = _imported(name)
        if running is not None or name in free or everything or _remembered(name, recipe.parent):
            found.append(running or name)
        else:
            refused.append(name)
    if refused:
        raise PluginError("\n".join(_refusal(name, recipe) for name in refused))
    return found


def remember(names: Sequence[str], directory: Path) -> str | None:
    """Store the hashes of the plugins that the user named for a run or weights directory, outside of it.

    Args:
        names: entries of `plugins`, files by absolute paths.
        directory: the run or weights directory.
    Returns: a warning if they cannot be stored, so that later commands need --plugin; else None.
    """
    hashes = {name: found for name in names if (found := _hash(name)) is not None}
    if not hashes:
        return None
    file = _record(directory.resolve())
    temporary = file.with_suffix(f".{os.getpid()}")
    content = {"directory": str(directory.resolve()), "plugins": hashes}
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        temporary.replace(file)
    except OSError as error:
        return (
            f"{file}: cannot be written ({error.strerror}), so commands on {directory} will need --plugin; "
            "set X2KIT_STATE to another folder"
        )
    return None


def absolute(name: str, base: Path) -> str:
    """Return an entry of `plugins` with an absolute path; module names are unchanged."""
    return str(locate(name, base)) if is_path(name) else name


def _base_name(name: str) -> str:
    return Path(name).name if is_path(name) else name


def _imported(name: str) -> str | None:
    """Return the plugin with the same code that this process has imported already, if any."""
    if not is_path(name):
        return name if name in sys.modules else None
    if module_name(Path(name)) in sys.modules:
        return name
    wanted = _hash(name)
    return next((str(path) for path in imported_files() if wanted and _hash(str(path)) == wanted), None)


def _remembered(name: str, directory: Path) -> bool:
    """Whether the user named the same code when a run started in the directory or in a parent of it."""
    wanted = _hash(name)
    if wanted is None:
        return False
    place = directory.resolve()
    for folder in (place, *place.parents):
        try:
            kept = json.loads(_record(folder).read_text(encoding="utf-8"))
            hashes = kept["plugins"] if kept["directory"] == str(folder) else {}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # no record or a damaged one: the user must confirm
        # modules are compared by name too; the path of a file changes when it is copied
        if wanted in hashes.values() if is_path(name) else hashes.get(name) == wanted:
            return True
    return False


def _hash(name: str) -> str | None:
    """Hash the file or folder, or the file of a module; None if there is none."""
    try:
        path = Path(name) if is_path(name) else module_file(name)
        return digest(path) if path is not None else None
    except (PluginError, OSError, ValueError):
        return None


def _record(directory: Path) -> Path:
    name = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    return state_folder() / "plugins-of-runs" / f"{name}.json"


def state_folder() -> Path:
    """Return the folder for hashes, never inside a run or weights directory."""
    if "X2KIT_STATE" in os.environ:
        return Path(os.environ["X2KIT_STATE"])
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "x2kit"


def _refusal(name: str, recipe: Path) -> str:
    if is_path(name) and not Path(name).exists():
        other = Path(name).name
        return (
            f"{recipe}: plugins: there is no file {name}\n"
            f"  pass a file of the same name: --plugin PATH/{other}, or x2kit.load(…, plugins=['PATH/{other}'])"
        )
    what = f"the {'file' if is_path(name) else 'module'} {name}"
    return (
        f"{recipe}: plugins: {what} is not installed as a plugin, and a saved recipe alone does not run code\n"
        f"  after reading it, allow it: --plugin {shlex.quote(name)}, or x2kit.load(…, plugins=[{name!r}])"
        "\n  to allow all plugins of a directory: x2kit.load(…, trust_plugins=True)"
    )
