"""Create and open the table of an index; remember what this user has indexed. Imports no torch.

x2kit-index.json          component of the table and its settings, plugins, and a random id
x2kit-broken-N.json       unreadable files of part N with their version, which are not tried again
x2kit-build.json          last build of the approximate index

An index is data, and may come from elsewhere: its paths are opened (to re-rank, to locate, for thumbnails) only inside
folders that this user has indexed into it, which are remembered in the state folder, or that are passed as `roots`.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from x2kit.data.storage import files
from x2kit.data.storage.locations import FileMissing, is_url, join
from x2kit.data.storage.url_policy import require_inside
from x2kit.errors import DataError, Reason, X2KitError
from x2kit.io.atomic import atomic_file
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.components import IndexConfig
from x2kit.plugin.indexes import Index, IndexSpec
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.loading.trust import state_folder, trusted
from x2kit.plugin.registry import Registry
from x2kit.search.entries import Entry

MANIFEST, BUILD = "x2kit-index.json", "x2kit-build.json"
FRAMES, REGIONS = "frames", "regions"
"""Facts of a table: what is encoded of a file."""
_FORMAT = 1


@dataclass(frozen=True)
class Manifest:
    """Description of an index, stored beside its table.

    Attributes:
        store: name of the index component.
        settings: of the component, without defaults.
        plugins: files and modules that define the component, if it is not installed.
        id: random, of this index.
    """

    store: str
    settings: Mapping[str, Any]
    plugins: tuple[str, ...]
    id: str

    def config(self, location: str, allowed: Sequence[str] = (), trust_plugins: bool = False) -> IndexConfig:
        """Build the component. Raises PluginError for a plugin that is neither installed nor allowed."""
        names = trusted(self.plugins, allowed, Path(location) / MANIFEST, everything=trust_plugins)
        return store_config(self.store, self.settings, [*names, *allowed])


def store_config(store: str | None, settings: Mapping[str, Any], plugins: Sequence[str] = ()) -> IndexConfig:
    """Build an index component by name, by default the one that is declared `default`.

    Raises: X2KitError for an unknown name or invalid settings, or without a name if not one component is the default.
    """
    loaded = load_plugins(plugins)
    loaded.require(plugins)
    if store is None:
        store = _default_store(loaded.registry)
    component = loaded.registry.get("index", store)
    try:
        config = component(**settings)
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise X2KitError(f"invalid settings of the index {store}: {faults}") from error
    assert isinstance(config, IndexConfig)
    config.check()
    return config


def _default_store(registry: Registry) -> str:
    kinds = [entry.component for entry in registry if issubclass(entry.component, IndexConfig)]
    found = [component.component_name() for component in kinds if component.default]
    if len(found) != 1:
        raise X2KitError(
            f"{len(found)} components are the default store ({', '.join(found) or 'none'}); choose one: --store NAME, "
            "see x2kit plugins list --kind index"
        )
    return found[0]


def has_index(location: str) -> bool:
    """Return whether there is an index. Raises DataError if the store cannot be read."""
    try:
        files.stat(join(location, MANIFEST))
    except FileMissing:
        return False
    return True


def read_manifest(location: str) -> Manifest:
    """Read the description of an index. Raises DataError if there is none or it is invalid."""
    file = join(location, MANIFEST)
    try:
        values = json.loads(files.read_limited(file))
        if values["x2kit_index"] != _FORMAT:
            raise ValueError(f"format {values['x2kit_index']}, expected {_FORMAT}")
        return Manifest(
            str(values["store"]),
            dict(values["settings"]),
            tuple(map(str, values["plugins"])),
            str(values["id"]),
        )
    except FileMissing as error:
        hint = files.nearest_hint(location)
        raise DataError(
            f"{location}: no index ({MANIFEST} is missing){hint}; build one: x2kit search index FOLDER --model M "
            f"--index {location}",
            reason=Reason.FILE_MISSING,
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: not the description of an index: {error}") from error


def create_table(location: str, config: IndexConfig, plugins: Sequence[str], spec: IndexSpec) -> Index:
    """Create an empty table and its description.

    A table without description is adopted if it is equal: a process was killed between the two, or another is just
    creating it.

    Raises: DataError if there is another table.
    """
    with component_faults(config):
        try:
            table = config.create(location, spec)
        except DataError:
            if (found := _equal_table(location, config, spec)) is None:
                raise
            table = found
    manifest = {
        "x2kit_index": _FORMAT,
        "id": secrets.token_hex(8),
        "store": config.component_name(),
        "settings": config.model_dump(mode="json", exclude_defaults=True),
        "plugins": list(plugins),
    }
    write_json(location, MANIFEST, manifest)
    return table


def _equal_table(location: str, config: IndexConfig, spec: IndexSpec) -> Index | None:
    """Open the table of this description; None without one."""
    try:
        table = config.open(location)
    except DataError:
        return None
    if table.spec.to_dict() == spec.to_dict():
        return table
    table.close()
    return None


def open_table(location: str, config: IndexConfig) -> Index:
    """Open the table. Raises DataError if it cannot be read."""
    with component_faults(config):
        return config.open(location)


def read_json(location: str, name: str) -> dict[str, Any]:
    """Read a file of the index; empty if it is missing or damaged, since it can be written again."""
    try:
        found = json.loads(files.read_limited(join(location, name)))
    except (FileMissing, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def write_json(location: str, name: str, values: Mapping[str, Any]) -> None:
    """Write a file of the index whole. Raises StorageError, and DataError for a failed remote write."""
    text = json.dumps(values, ensure_ascii=True, indent=1) + "\n"
    if not is_url(location):
        with atomic_file(Path(location) / name) as partial:
            partial.write_text(text, encoding="utf-8")
        return
    import fsspec

    target = join(location, name)
    try:
        fs, path = fsspec.url_to_fs(target)
        fs.pipe_file(path, text.encode())
    except Exception as error:  # the libraries of the stores share no base class of errors
        raise DataError(f"{target}: cannot be written: {error}", reason=Reason.REMOTE_UNREADABLE) from error


def remember_roots(index: str, roots: Sequence[str]) -> None:
    """Remember that this user has indexed these folders into an index, given its id."""
    with atomic_file(_roots_file(index)) as partial:
        known = sorted({*known_roots(index), *roots})
        partial.write_text(json.dumps(known), encoding="utf-8")


def known_roots(index: str) -> list[str]:
    """Return the folders and URLs that this user has indexed into an index, given its id."""
    try:
        found = json.loads(_roots_file(index).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [str(root) for root in found]


def require_root(location: str, roots: Sequence[str]) -> None:
    """Raise DataError for a file outside all folders whose files may be opened."""
    for root in roots:
        try:
            require_inside(location, root, location)
        except DataError:
            continue
        return
    raise DataError(
        f"{location}: not opened: the index names it, but it is outside the folders that you have indexed or allowed "
        f"({', '.join(roots) or 'none'}); allow its folder: --roots FOLDER, or open_index(…, roots=[FOLDER])",
        reason=Reason.ADDRESS_REFUSED,
    )


def _roots_file(index: str) -> Path:
    safe = "".join(letter for letter in index if letter.isalnum())[:64]
    return state_folder() / "indexes" / f"{safe}.json"


class BrokenFiles:
    """Files that could not be decoded, by version, so that they are tried again only if changed.

    Args:
        location: of the index.
        part: name of the share of the files, such as 0-of-1.
        retry: forget all.
    """

    def __init__(self, location: str, part: str, retry: bool) -> None:
        self._location = location
        self._name = f"x2kit-broken-{part}.json"
        self._files = {} if retry else read_json(location, self._name)
        self._changed = False

    def message(self, entry: Entry) -> str | None:
        """Return why a file is broken, if it has not changed since."""
        found = self._files.get(entry.path)
        if isinstance(found, list) and found[:-1] == [entry.size, entry.mtime, entry.version]:
            return str(found[-1])
        return None

    def add(self, entry: Entry, message: str) -> None:
        """Add a file."""
        self._files[entry.path] = [entry.size, entry.mtime, entry.version, message]
        self._changed = True

    def save(self, present: Mapping[str, Entry]) -> None:
        """Write the files of the listing, if one was added."""
        if self._changed:
            write_json(self._location, self._name, {p: v for p, v in self._files.items() if p in present})


def quoted(text: str) -> str:
    """Return a text as an SQL literal."""
    return "'" + text.replace("'", "''") + "'"
