"""Which plugins of a saved recipe may be imported. Imports none of them and no torch.

The recipe in a weights or run directory is data: it may come from anyone. Beyond what is installed, a plugin that it
names is imported only if the user named it (`--plugin`, `plugins=`), if it runs in this process already, or if it is
the file that this user named when the run began here. For the last, hashes are kept outside the directory, in
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
    """The plugins of a saved recipe that may be imported, files by absolute paths.

    Args:
        saved: entries of its `plugins`; relative paths start at the recipe's folder.
        given: what the user named, relative to the working directory. A file of the same name or content, or the same
            module, takes the place of the saved entry, which is then left out.
        recipe: the file of the saved recipe.
        everything: the user trusts all that the recipe names.
    Raises: PluginError that says for each refused entry what to type.
    """
    free = {candidate.identity for candidate in installed()}
    replaced = {_short(name) for name in given}
    same = {_hash(absolute(name, Path())) for name in given} - {None}
    found, refused = [], []
    for name in (absolute(name, recipe.parent) for name in saved):
        if _short(name) in replaced or (same and _hash(name) in same):
            continue
        running = _running(name)
        if running is not None or name in free or everything or _known(name, recipe.parent):
            found.append(running or name)
        else:
            refused.append(name)
    if refused:
        raise PluginError("\n".join(_refusal(name, recipe) for name in refused))
    return found


def remember(names: Sequence[str], directory: Path) -> str | None:
    """Keep the hashes of the plugins that the user named for a run or weights directory, outside of it.

    Args:
        names: entries of `plugins`, files by absolute paths.
        directory: whose recipe names them.
    Returns: a warning if they cannot be kept, so that the user will be asked; else None.
    """
    hashes = {name: found for name in names if (found := _hash(name)) is not None}
    if not hashes:
        return None
    file = _record(directory.resolve())
    beside = file.with_suffix(f".{os.getpid()}")
    content = {"directory": str(directory.resolve()), "plugins": hashes}
    try:
        file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        beside.replace(file)
    except OSError as error:
        return (
            f"{file}: not written ({error.strerror}), so commands on {directory} will ask for --plugin; "
            "X2KIT_STATE names another folder"
        )
    return None


def absolute(name: str, base: Path) -> str:
    """An entry of `plugins`: a file as an absolute path, a module's name as it is."""
    return str(locate(name, base)) if is_path(name) else name


def _short(name: str) -> str:
    return Path(name).name if is_path(name) else name


def _running(name: str) -> str | None:
    """The same code as this process has imported already: importing it again runs nothing."""
    if not is_path(name):
        return name if name in sys.modules else None
    if module_name(Path(name)) in sys.modules:
        return name
    wanted = _hash(name)
    return next((str(path) for path in imported_files() if wanted and _hash(str(path)) == wanted), None)


def _known(name: str, directory: Path) -> bool:
    """Whether the user named this very code when a run began in the directory, or in one that holds it."""
    wanted = _hash(name)
    if wanted is None:
        return False
    place = directory.resolve()
    for folder in (place, *place.parents):
        try:
            kept = json.loads(_record(folder).read_text(encoding="utf-8"))
            hashes = kept["plugins"] if kept["directory"] == str(folder) else {}
        except (OSError, ValueError, KeyError, TypeError):
            continue  # no record, or one that is damaged: the user is asked
        # a module is known by its name too; a file's path changes as it is copied
        if wanted in hashes.values() if is_path(name) else hashes.get(name) == wanted:
            return True
    return False


def _hash(name: str) -> str | None:
    """Of the file or folder, or of the file that a module's name leads to; None if there is none."""
    try:
        path = Path(name) if is_path(name) else module_file(name)
        return digest(path) if path is not None else None
    except (PluginError, OSError, ValueError):
        return None


def _record(directory: Path) -> Path:
    name = hashlib.sha256(str(directory).encode()).hexdigest()[:16]
    return state_folder() / "plugins-of-runs" / f"{name}.json"


def state_folder() -> Path:
    """Where hashes are kept; never in a run or weights directory."""
    if "X2KIT_STATE" in os.environ:
        return Path(os.environ["X2KIT_STATE"])
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "x2kit"


def _refusal(name: str, recipe: Path) -> str:
    if is_path(name) and not Path(name).exists():
        other = Path(name).name
        return (
            f"{recipe}: plugins: there is no file {name}\n"
            f"  give a file of the same name: --plugin PATH/{other}, or x2kit.load(…, plugins=['PATH/{other}'])"
        )
    what = f"the {'file' if is_path(name) else 'module'} {name}"
    return (
        f"{recipe}: plugins: {what} is not installed as a plugin, and a saved recipe alone does not run code\n"
        f"  read it; to allow it: --plugin {shlex.quote(name)}, or x2kit.load(…, plugins=[{name!r}])"
        "\n  to allow all that a directory names: x2kit.load(…, trust_plugins=True)"
    )
