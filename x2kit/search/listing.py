"""List the images and videos of folders, tar shards, lists and remote stores. Imports no torch.

A folder is walked with its subfolders, and the shards in it are opened; hidden files and other indexes are skipped.
Symbolic links may lead to files inside the folder, not out of it.
"""

from __future__ import annotations

import os
import stat as stat_modes
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from x2kit.data.index.tar_members import MemberIndex, key_and_ending
from x2kit.data.storage import files
from x2kit.data.storage.locations import FileInfo, FileMissing, folder_of, is_url, join, name_of
from x2kit.errors import DataError, X2KitError
from x2kit.search.entries import Entry, kind_of
from x2kit.search.lists import ListOptions, is_list, list_entries
from x2kit.search.manifest import MANIFEST

SHARD = ".tar"


@dataclass
class Listing:
    """Files of several sources.

    Attributes:
        entries: by path.
        broken: messages by the name of a file that cannot be indexed.
        unread: folders, shards and lists that could not be listed wholly; their files may exist.
        others: number of files that are neither images nor videos.
        roots: folders, shards and URLs that contain all files.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)
    others: int = 0
    roots: list[str] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """Add a file; one that a list names keeps the metadata of the list."""
        before = self.entries.get(entry.path)
        if before is None or not before.columns:
            self.entries[entry.path] = entry

    def fail(self, name: str, error: object, unread: bool = False) -> None:
        """Add a file that cannot be indexed; `unread` if it holds others."""
        self.broken[name] = str(error)
        if unread:
            self.unread.append(name)


def list_sources(sources: Sequence[str | Path], options: ListOptions | None = None) -> Listing:
    """List all files of the sources.

    Args:
        sources: folders, files, tar shards, lists (.jsonl, .parquet), each a local path or URL.
        options: where the paths of lists may lead.
    Raises: DataError for a source that does not exist or cannot be read.
    """
    listing = Listing()
    for source in sources:
        _add_source(listing, absolute(source), options or ListOptions())
    return listing


def absolute(source: str | Path) -> str:
    """Return a URL unchanged, a local path absolute and without a final slash."""
    return str(source).rstrip("/") if is_url(str(source)) else str(Path(source).absolute())


def _add_source(listing: Listing, source: str, options: ListOptions) -> None:
    if is_list(source):
        listing.roots.extend(options.roots(folder_of(source)))
        for found in list_entries(source, options):
            if isinstance(found, Entry):
                listing.add(found)
            else:
                listing.fail(*found)
        return
    listing.roots.append(source)
    if is_url(source):
        _add_remote(listing, source)
    elif Path(source).is_dir():
        _walk(listing, source, source)
    elif source.endswith(SHARD):
        _add_shard(listing, source, source, _mtime(source))
    elif Path(source).is_file():
        _add_file(listing, source, source, Path(source).stat())
    else:
        raise DataError(f"{source}: no such file or folder{files.nearest_hint(source)}")


def _mtime(path: str) -> float:
    try:
        return Path(path).stat().st_mtime
    except OSError as error:
        hint = files.nearest_hint(path)
        raise DataError(f"{path}: cannot be read: {error.strerror}{hint}") from error


def _walk(listing: Listing, folder: str, source: str) -> None:
    """Add the files of a local folder and its subfolders."""
    try:
        with os.scandir(folder) as found:
            inside = sorted(found, key=lambda entry: entry.name)
    except OSError as error:
        listing.fail(_printable(folder), f"the folder cannot be read: {error.strerror}", unread=True)
        return
    if any(entry.name == MANIFEST for entry in inside):
        return  # the database of an index
    for entry in inside:
        if entry.name.startswith("."):
            continue
        try:
            if entry.is_dir(follow_symlinks=False):
                _walk(listing, entry.path, source)
            elif entry.is_symlink() and entry.is_dir():
                listing.fail(_printable(entry.path), "a symbolic link to a folder; it is not followed")
            elif entry.name.lower().endswith(SHARD) or kind_of(entry.name):
                _add_found(listing, entry, source)
            else:
                listing.others += 1
        except OSError as error:
            listing.fail(_printable(entry.path), f"cannot be read: {error.strerror}")


def _add_found(listing: Listing, entry: os.DirEntry[str], source: str) -> None:
    """Add an image, video or shard of a folder, if it is a regular file inside of it."""
    path = entry.path
    if (name := _printable(path)) != path:
        listing.fail(name, "the name is not valid UTF-8; rename the file")
        return
    if entry.is_symlink():
        target, root = os.path.realpath(path), os.path.realpath(source)
        if os.path.commonpath([target, root]) != root:
            listing.fail(
                path, f"a symbolic link to {_printable(target)}, outside {source}; it is not followed"
            )
            return
    status = entry.stat()
    if not stat_modes.S_ISREG(status.st_mode):
        listing.fail(path, "not a regular file")
    elif path.lower().endswith(SHARD):
        try:
            _add_shard(listing, path, source, status.st_mtime)
        except X2KitError as error:
            listing.fail(path, error, unread=True)
    else:
        _add_file(listing, path, source, status)


def _add_file(listing: Listing, path: str, source: str, status: os.stat_result) -> None:
    kind = kind_of(path)
    if kind is None:
        raise DataError(f"{path}: neither an image, a video, a tar shard nor a list (.jsonl, .parquet)")
    listing.add(Entry(path, kind, source, status.st_size, status.st_mtime))


def _add_shard(
    listing: Listing, shard: str, source: str, mtime: float | None = None, version: str | None = None
) -> None:
    """Add the images and videos of a tar shard. Raises DataError if it is no tar file."""
    index = MemberIndex(shard)
    for record in range(len(index)):
        members = index.members(record)
        endings = {found[1]: member for member in members if (found := key_and_ending(member.name))}
        about = endings.get("json")
        fields = (about.start, about.size) if about and about.size else None
        for member in members:
            name = f"{shard}#{member.name}"
            if member.size is None:
                listing.fail(name, f"{shard}: the shard ends inside this member", unread=True)
                listing.unread.append(shard)
            elif kind := kind_of(member.name):
                listing.add(
                    Entry(name, kind, source, member.size, mtime, version, member.start, fields=fields)
                )
            elif member is not about:
                listing.others += 1


def _add_remote(listing: Listing, source: str) -> None:
    """Add the files of a remote folder, or one remote file."""
    try:
        found = [files.stat(source)] if kind_of(source) or source.endswith(SHARD) else []
    except FileMissing:
        found = []
    found = found or files.list_files(join(source, "**"))
    if not found:
        raise DataError(f"{source}: no such file or folder, or it is empty")
    for info in found:
        if name_of(info.location).lower().endswith(SHARD):
            _add_remote_shard(listing, info, source)
        elif kind := kind_of(info.location):
            listing.add(Entry(info.location, kind, source, info.size, version=info.version))
        else:
            listing.others += 1


def _add_remote_shard(listing: Listing, info: FileInfo, source: str) -> None:
    try:
        _add_shard(listing, info.location, source, version=info.version)
    except X2KitError as error:
        listing.fail(info.location, error, unread=True)


def _printable(path: str) -> str:
    """Return the path, with bytes that are not UTF-8 written as \\xNN."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")
