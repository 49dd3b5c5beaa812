"""Store the features of a source's images in shards of safetensors. Imports torch.

    FOLDER/manifest.json        facts that the features depend on, for people; the folder is named by their hash
    FOLDER/00000.safetensors    features of the first records, with the view of each image

A shard is written under another name, synced and renamed, so one that exists is complete. Its tensors are mapped into
memory: a process reads the rows that it asks for, and all processes of a machine share them.

R rows of a shard: its records, with their images, with the views of each. N patches, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from x2kit.data.storage.locations import is_url
from x2kit.data.transforms.view import Pixels, View
from x2kit.errors import StorageError
from x2kit.io.atomic import atomic_file
from x2kit.plugin.encoders import VisionFeatures

SHARD_BYTES = 128 * 2**20
"""Most bytes of a shard: of memory while it is filled, and of work that is lost when this is interrupted."""
SHARD_RECORDS = 1024
"""Most records of a shard, so that several ranks share the images of small data."""
OPEN_SHARDS = 256
"""Shards that a process keeps mapped; each holds a file open, of which a system allows some 1024."""
_COLUMNS = 12
"""Numbers of a row of `views`; see `_to_numbers`."""


class ImageFeatures(NamedTuple):
    """Features of an image in a sample, in place of its pixels: summary [D] and patches [N, D]."""

    summary: Tensor
    patches: Tensor


Visual: TypeAlias = Pixels | ImageFeatures
"""An image of a sample: pixels, or the features that a frozen encoder has of them."""


def stack_features(images: list[ImageFeatures], grid: tuple[int, int]) -> VisionFeatures:
    """Stack the features of images as the output of an encoder with this grid."""
    return VisionFeatures(
        torch.stack([image.summary for image in images]),
        torch.stack([image.patches for image in images]),
        grid,
    )


class Stamp(NamedTuple):
    """State of an image file: bytes, time of its last change in nanoseconds, hash of its content."""

    size: int = -1
    changed: int = 0
    digest: int = 0


NO_FILE = Stamp()
"""Of an image that is no local file: the fingerprint of its source covers it."""


def stamp_of(image: Any) -> Stamp:
    """Return the state of an image that is a local file. Raises OSError if it cannot be read."""
    path = _local(image)
    if path is None:
        return NO_FILE
    facts = path.stat()
    return Stamp(facts.st_size, facts.st_mtime_ns, _content(path))


def is_unchanged(image: Any, stamp: Stamp) -> bool:
    """Return whether an image has the content of its stamp; that of a file is read only if its time differs.

    Raises: OSError if the file cannot be read.
    """
    path = _local(image)
    if path is None or stamp == NO_FILE:
        return path is None and stamp == NO_FILE
    facts = path.stat()
    if facts.st_size != stamp.size:
        return False
    return facts.st_mtime_ns == stamp.changed or _content(path) == stamp.digest


def _local(image: Any) -> Path | None:
    return Path(image) if isinstance(image, str | Path) and not is_url(str(image)) else None


def _content(path: Path) -> int:
    return int.from_bytes(blake2b(path.read_bytes(), digest_size=8).digest(), "little", signed=True)


class StoredImage(NamedTuple):
    """A row of a shard.

    Attributes:
        features: undefined without a view.
        view: None for an image that could not be read.
        stamp: of the image.
    """

    features: ImageFeatures
    view: View | None
    stamp: Stamp


@dataclass(frozen=True)
class FeatureFolder:
    """Layout of the features of a source, known before any is computed; a file that differs is not used.

    Attributes:
        path: the folder.
        records: of the source.
        images: of a record.
        views: of an image.
        grid: rows and columns of the patches.
        width: D.
        summary, patches: types of the encoder's outputs.
    """

    path: Path
    records: int
    images: int
    views: int
    grid: tuple[int, int]
    width: int
    summary: torch.dtype
    patches: torch.dtype

    @property
    def image_bytes(self) -> int:
        """Bytes of a view of an image."""
        return sum(prod(shape) * dtype.itemsize for shape, dtype in self._layout(1).values())

    @property
    def shard_records(self) -> int:
        """Records of a shard; the last one may have fewer."""
        most = SHARD_BYTES // (self.image_bytes * self.images * self.views)
        return max(1, min(most, SHARD_RECORDS))

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.records // self.shard_records)

    def records_of(self, shard: int) -> range:
        """Return the positions of the records of a shard."""
        start = shard * self.shard_records
        return range(start, min(start + self.shard_records, self.records))

    def rows_of(self, shard: int) -> int:
        """Return R, the rows of a shard."""
        return len(self.records_of(shard)) * self.images * self.views

    def bytes_of(self, shard: int) -> int:
        """Return the bytes of a shard, without its header."""
        return self.rows_of(shard) * self.image_bytes

    def file(self, shard: int) -> Path:
        """Return the file of a shard."""
        return self.path / f"{shard:05d}.safetensors"

    def empty(self, shard: int) -> dict[str, Tensor]:
        """Allocate the tensors of a shard: summary [R, D], patches [R, N, D], and zeros for views [R, 12]."""
        layout = self._layout(self.rows_of(shard))
        return {name: torch.zeros(shape, dtype=dtype) for name, (shape, dtype) in layout.items()}

    def write(self, shard: int, tensors: Mapping[str, Tensor]) -> None:
        """Write a shard. Raises StorageError if the disk is full or refuses the write."""
        with atomic_file(self.file(shard)) as partial:
            save_file(dict(tensors), partial)

    def read(self, shard: int) -> dict[str, Tensor] | None:
        """Map the tensors of a shard; None if the file is missing, damaged or has another layout."""
        layout = self._layout(self.rows_of(shard))
        try:
            with safe_open(self.file(shard), "pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
        except (OSError, SafetensorError):
            return None
        same = {name: (tuple(value.shape), value.dtype) for name, value in found.items()} == layout
        return found if same else None

    def missing(self) -> list[int]:
        """List the shards that are missing, damaged or of another layout."""
        return [shard for shard in range(self.shards) if self.read(shard) is None]

    def _layout(self, rows: int) -> dict[str, tuple[tuple[int, ...], torch.dtype]]:
        return {
            "summary": ((rows, self.width), self.summary),
            "patches": ((rows, prod(self.grid), self.width), self.patches),
            "views": ((rows, _COLUMNS), torch.int64),
        }


def to_numbers(view: View | None, stamp: Stamp) -> Tensor:
    """Return the row of `views` of an image: zeros if it could not be read, so has no view."""
    if view is None:
        return torch.zeros(_COLUMNS, dtype=torch.int64)
    crop = view.crop or (0, 0, 0, 0)
    return torch.tensor([1, *view.size, view.crop is not None, *crop, view.flip, *stamp], dtype=torch.int64)


def _from_numbers(numbers: Tensor) -> tuple[View | None, Stamp]:
    readable, width, height, cropped, x0, y0, x1, y1, flip, *stamp = numbers.tolist()
    if not readable:
        return None, NO_FILE
    return View((width, height), (x0, y0, x1, y1) if cropped else None, bool(flip)), Stamp(*stamp)


class FeatureReader:
    """Read the features of single images.

    Args:
        folder: all shards complete.
    """

    def __init__(self, folder: FeatureFolder) -> None:
        self.folder = folder
        self._shard = lru_cache(maxsize=OPEN_SHARDS)(self._open)

    def image(self, record: int, number: int, view: int) -> StoredImage:
        """Read a view of an image of a record, each by its position."""
        folder = self.folder
        shard, place = divmod(record, folder.shard_records)
        tensors = self._shard(shard)
        row = (place * folder.images + number) * folder.views + view
        found, stamp = _from_numbers(tensors["views"][row])
        return StoredImage(ImageFeatures(tensors["summary"][row], tensors["patches"][row]), found, stamp)

    def _open(self, shard: int) -> dict[str, Tensor]:
        tensors = self.folder.read(shard)
        if tensors is None:
            raise StorageError(
                f"{self.folder.file(shard)}: missing or damaged, though it was complete when the run began; resume the "
                "run, which computes it again"
            )
        return tensors
