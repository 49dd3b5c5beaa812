"""Encode files into rows: the whole image or video, frames of videos, regions of images. Imports no torch.

Files are read and hashed in threads ahead of the model, which decodes in threads of its own; results keep the order.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from x2kit.data.media.frames import evaluation_frames
from x2kit.data.media.threads import in_threads
from x2kit.data.media.video_files import decode_frames
from x2kit.data.sources.fields import parse_object
from x2kit.data.storage import files
from x2kit.errors import DataError, X2KitError
from x2kit.plugin.indexes import ColumnType, Rows
from x2kit.search.entries import Entry, read_content
from x2kit.search.lists import fitting, metadata

if TYPE_CHECKING:
    from x2kit.inference.model import Model

_YEAR_9999 = 253_370_764_800
AHEAD = 64
"""Files read ahead of the model."""


class Hashed(NamedTuple):
    """A file that was read.

    Attributes:
        hash: SHA-256; None after an error.
        content: None for a local file.
        error: why it could not be read.
    """

    entry: Entry
    hash: str | None
    content: bytes | None
    error: str | None = None


@dataclass
class Encoded:
    """Rows of a file.

    Attributes:
        ids: of the rows: the path, `PATH#frame=7`, `PATH#box=0`.
        vectors: [E] float32 each.
        extra: columns of each row that differ between them.
        error: why it was not encoded; None if it was.
    """

    entry: Entry
    hash: str | None
    ids: list[str] = field(default_factory=list)
    vectors: list[NDArray[np.float32]] = field(default_factory=list)
    extra: list[dict[str, Any]] = field(default_factory=list)
    error: str | None = None
    unread: bool = False


@dataclass(frozen=True)
class EncodingOptions:
    """What is encoded of a file.

    Attributes:
        frames: number of frames of a video with a row each, in addition to the row of the video.
        regions: whether the regions of lists have a row each.
        batch_size: images of one pass.
        workers: decoding threads; None chooses.
    """

    frames: int = 0
    regions: bool = False
    batch_size: int = 64
    workers: int | None = None


class _Piece(NamedTuple):
    """One input of the model, which becomes a row; `last` of its file."""

    file: Encoded
    id: str
    extra: dict[str, Any]
    last: bool


def read_ahead(entries: Iterable[Entry], threads: int | None = None) -> Iterator[Hashed]:
    """Read and hash files in threads, in order."""
    return in_threads(_hash, entries, AHEAD, threads or min(16, 4 * (os.cpu_count() or 1)))


def _hash(entry: Entry) -> Hashed:
    try:
        digest, content = entry.digest()
    except DataError as error:
        return Hashed(entry, None, None, str(error))
    return Hashed(entry, digest, content)


def encode_files(
    model: Callable[[], Model], hashed: Iterable[Hashed], options: EncodingOptions
) -> Iterator[Encoded]:
    """Encode files in order; those that cannot be read or decoded have an error.

    Args:
        model: called when the first file is to be encoded.
        hashed: files; consumed a few batches ahead.
        options: what is encoded.
    """
    pieces: deque[_Piece] = deque()
    failed: deque[Encoded] = deque()
    first = next(iterator := iter(hashed), None)
    if first is None:
        return

    def images() -> Iterator[Any]:
        for item in _chain(first, iterator):
            encoded = Encoded(item.entry, item.hash, error=item.error, unread=item.error is not None)
            try:
                inputs = [] if item.error else list(_inputs(item, loaded, options.frames))
            except X2KitError as error:
                encoded.error, inputs = str(error), []
            if not inputs:
                failed.append(encoded)
            for number, (suffix, extra, image) in enumerate(inputs, 1):
                pieces.append(_Piece(encoded, item.entry.path + suffix, extra, number == len(inputs)))
                yield image

    loaded = model()
    batches = loaded.stream_images(images(), batch_size=options.batch_size, workers=options.workers)
    for batch in batches:
        messages = iter(batch.errors)
        for vector in np.asarray(batch.vectors, dtype=np.float32):
            file, name, extra, last = pieces.popleft()
            if np.isnan(vector).any():
                file.error = next(messages).message
            else:
                file.ids.append(name)
                file.vectors.append(vector)
                file.extra.append(extra)
            if last:
                yield _with_regions(file, loaded) if options.regions else file
        yield from _drain(failed)
    yield from _drain(failed)


def _chain(first: Hashed, others: Iterator[Hashed]) -> Iterator[Hashed]:
    yield first
    yield from others


def _drain(files_: deque[Encoded]) -> Iterator[Encoded]:
    while files_:
        yield files_.popleft()


def _inputs(item: Hashed, model: Model, frames: int) -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Yield (ending of the id, columns, image) of each row of a file."""
    entry = item.entry
    source: Any = entry.path if item.content is None else item.content
    if entry.kind == "image":
        yield "", {}, source
        return
    count = model.reader.frames
    if count:
        yield "", {}, entry.path if item.content is None else video_frames(entry, item.content, count)[1]
    if frames:
        numbers, images = video_frames(entry, item.content, frames)
        for number, image in zip(numbers, images, strict=True):
            yield f"#frame={number}", {"frame": number}, image
    elif not count:
        raise DataError("a video, but the model has no frame positions; index frames as images: --frames 4")


def video_frames(entry: Entry, content: bytes | None, count: int) -> tuple[list[int], list[Any]]:
    """Decode evenly spaced frames of a video. Raises DataError if it is damaged.

    Returns: their numbers and images; fewer if the video is shorter.
    """
    numbers: list[int] = []

    def choose(length: int) -> list[int]:
        numbers[:] = sorted(set(evaluation_frames(length, count)))
        return numbers

    with files.open_file(entry.path) if content is None else BytesIO(content) as file:
        images = decode_frames(file, choose, entry.path)
    return numbers, list(images)


def _with_regions(file: Encoded, model: Model) -> Encoded:
    """Add a row for each box of a list. A box outside the image makes the file broken."""
    boxes = file.entry.boxes
    if file.error or not boxes:
        return file
    entry = file.entry
    try:
        image = entry.path if entry.is_local_file else entry.read()
        vectors = np.asarray(model.embed_regions(image, list(boxes)).vectors, dtype=np.float32)
    except DataError as error:
        file.error = f"regions: {error}"
        return file
    for number, (box, vector) in enumerate(zip(boxes, vectors, strict=True)):
        file.ids.append(f"{entry.path}#box={number}")
        file.vectors.append(vector)
        file.extra.append({"box": ",".join(f"{side:g}" for side in box)})
    return file


def columns_of(
    entry: Entry, digest: str | None, types: Mapping[str, ColumnType]
) -> tuple[dict[str, Any], list[str]]:
    """Return the columns of a file, without those of its frames and regions, and messages about unfit metadata."""
    fields, broken = dict(entry.columns), []
    if entry.fields is not None:
        try:
            fields |= metadata(parse_object(read_content(entry.location, *entry.fields)))
        except DataError as error:
            broken.append(str(error))
    values, faults = fitting(fields, types)
    own = {
        "path": entry.path,
        "source": entry.source,
        "size": entry.size,
        "mtime": entry.mtime,
        "modified": _utc(entry.mtime),
        "version": entry.version,
        "hash": digest,
        "offset": entry.offset,
        "frame": None,
        "box": None,
        "gone": None,
    }
    return values | own, broken + faults


def _utc(mtime: float | None) -> str | None:
    """Return a time as text; None for one that no calendar has, as a damaged disk may report."""
    if mtime is None or not 0 <= mtime < _YEAR_9999:
        return None
    return datetime.fromtimestamp(mtime, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def to_rows(files_: Iterable[tuple[Encoded, Mapping[str, Any]]], names: Iterable[str]) -> Rows:
    """Build the rows of encoded files, each with the columns of its file; columns without a value are null."""
    ids, vectors, columns = [], [], []
    for encoded, own in files_:
        ids += encoded.ids
        vectors += encoded.vectors
        columns += [{**own, **extra} for extra in encoded.extra]
    values = {name: [row.get(name) for row in columns] for name in names}
    return Rows(ids, np.stack(vectors).astype(np.float32) if vectors else None, values)
