"""Files to index, each with its version, metadata and content. Imports no torch.

The id of a file is its path or URL. A member of a tar shard is named `a.tar#7/8.jpg`.
"""

from __future__ import annotations

import hashlib
import mimetypes
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, TypeAlias

from x2kit.data.storage import files
from x2kit.data.storage.limits import check_size, image_formats
from x2kit.data.storage.locations import is_url, name_of
from x2kit.errors import DataError, Reason
from x2kit.inference.results import Rectangle

Kind: TypeAlias = Literal["image", "video"]
_CHUNK = 2**20
_SHARD = re.compile(r"(.*?\.tar)#", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Entry:
    """A file, or a member of a tar shard.

    Attributes:
        path: local path, URL, or `SHARD#MEMBER`.
        kind: by the ending of its name.
        source: folder, shard or list that it was found in.
        size: in bytes.
        mtime: time of the last change in seconds since 1970; None for remote files.
        version: tag of the content that a remote store reports.
        offset: of its first byte in the shard; None for a file of its own.
        columns: metadata of a list.
        fields: position and size of its JSON metadata in the shard.
        boxes: regions (x, y, width, height) in pixels.
    """

    path: str
    kind: Kind
    source: str
    size: int
    mtime: float | None = None
    version: str | None = None
    offset: int | None = None
    columns: Mapping[str, Any] = field(default_factory=dict)
    fields: tuple[int, int] | None = None
    boxes: tuple[Rectangle, ...] = ()

    @property
    def location(self) -> str:
        """File with the bytes: the shard of a member."""
        return self.path if self.offset is None else shard_of(self.path)

    @property
    def is_local_file(self) -> bool:
        """Whether it is a local file of its own."""
        return self.offset is None and not is_url(self.path)

    def read(self) -> bytes:
        """Read the content. Raises DataError if it cannot be read or exceeds the limit of records."""
        return read_content(self.location, self.offset, self.size)

    def digest(self) -> tuple[str, bytes | None]:
        """Return the SHA-256 of the content, and the content unless it is a local file.

        Raises: DataError if the content cannot be read, or an image exceeds the size limit of records.
        """
        if self.kind == "image":
            check_size(self.size, self.path)
        if not self.is_local_file:
            content = self.read()
            return hashlib.sha256(content).hexdigest(), content
        digest = hashlib.sha256()
        for chunk in files.chunks(self.path, _CHUNK):
            digest.update(chunk)
        return digest.hexdigest(), None


def shard_of(path: str) -> str:
    """Return the shard of a member `a.tar#7/8.jpg`."""
    found = _SHARD.match(path)
    return found[1] if found else path


def read_content(location: str, offset: int | None, size: int) -> bytes:
    """Read a file, or a member of a shard. Raises DataError if it cannot be read or exceeds the limit of records."""
    if offset is None:
        return files.read_limited(location)
    check_size(size, location)
    content = files.read(location, offset, offset + size)
    if len(content) < size:
        raise DataError(
            f"{location}: the shard ends after {offset + len(content)} bytes, inside a member",
            reason=Reason.SHARD_TRUNCATED,
        )
    return content


def kind_of(location: str) -> Kind | None:
    """Return whether a file is an image or a video, by its ending; None for other files."""
    name = name_of(location) if is_url(location) else location  # per file: no Path
    return _kind_of_ending(os.path.splitext(name)[1].lower())  # noqa: PTH122


@lru_cache(maxsize=512)
def _kind_of_ending(ending: str) -> Kind | None:
    if ending in _image_endings(image_formats()):
        return "image"
    return "video" if (mimetypes.guess_type(f"a{ending}")[0] or "").startswith("video/") else None


@lru_cache(maxsize=4)
def _image_endings(formats: tuple[str, ...]) -> frozenset[str]:
    from PIL import Image

    return frozenset(ending for ending, name in Image.registered_extensions().items() if name in formats)
