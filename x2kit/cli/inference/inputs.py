"""List the images and texts of a command: files, folders, patterns, standard input. Imports no torch."""

from __future__ import annotations

import glob
import json
import mimetypes
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from x2kit.data.storage.limits import image_formats
from x2kit.data.storage.locations import is_url

STDIN = "-"
NOT_A_FILE = "a pipe or device, not a file"
Fail = Callable[[str, str], None]
"""Called with the name of an input and what is wrong with it."""
T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """One input.

    Attributes:
        image: path or URL of an image or a video; None for texts alone.
        texts: texts to use with it.
    """

    image: str | None
    texts: tuple[str, ...] = ()


def read_items(inputs: Iterable[str], texts: Sequence[str], fail: Fail) -> Iterator[Item]:
    """Yield the items of files, folders, patterns and standard input, in order, as they are read.

    Args:
        inputs: files, URLs, folders, patterns such as `photos/**/*.jpg`, or - for standard input.
        texts: texts of every item that brings none.
        fail: called for an input that does not exist or cannot be read.
    """
    for name in inputs:
        if name == STDIN:
            yield from _lines(sys.stdin.buffer, tuple(texts), fail)
        else:
            yield from (Item(path, tuple(texts)) for path in _paths(name, fail))


def read_images(inputs: Iterable[str], texts: Sequence[str], fail: Fail) -> Iterator[Item]:
    """Yield the items of `read_items` that have an image; others fail."""
    for item in read_items(inputs, texts, fail):
        if item.image is None:
            fail("standard input", f'a line has a "text" and no "image": {item.texts[0]}')
        else:
            yield item


def batched(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Yield lists of `size` items; the last one may be shorter."""
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch


def _paths(name: str, fail: Fail) -> Iterator[str]:
    if is_url(name) or Path(name).is_file():
        yield name
    elif Path(name).is_dir():
        yield from _or_fail(_files_below(name, fail), name, fail, "no image and no video in this folder")
    elif glob.has_magic(name):
        matches = sorted(glob.glob(name, recursive=True))  # noqa: PTH207 - the pattern may be absolute
        found = (path for path in matches if Path(path).is_file())
        yield from _or_fail(found, name, fail, "no file matches this pattern")
    else:
        fail(name, NOT_A_FILE if Path(name).exists() else "no such file or folder")


def _or_fail(paths: Iterable[str], name: str, fail: Fail, message: str) -> Iterator[str]:
    empty = True
    for path in paths:
        empty = False
        yield path
    if empty:
        fail(name, message)


def _files_below(folder: str, fail: Fail) -> Iterator[str]:
    """Yield images and videos by suffix, sorted; hidden ones and links to folders are left out."""
    from PIL import Image

    Image.init()
    images = {suffix for suffix, name in Image.EXTENSION.items() if name in image_formats()}
    for place, folders, files in os.walk(
        folder, onerror=lambda error: fail(str(error.filename), str(error.strerror))
    ):
        folders[:] = sorted(inner for inner in folders if not inner.startswith("."))
        for file in sorted(files):
            is_video = (mimetypes.guess_type(file)[0] or "").startswith("video/")
            if file.startswith(".") or not (is_video or Path(file).suffix.lower() in images):
                continue
            path = os.path.join(place, file)  # noqa: PTH118 - Path would drop a leading ./
            if Path(path).exists() and not Path(path).is_file():  # reading a pipe would wait for its writer
                fail(path, NOT_A_FILE)
            else:
                yield path


def _lines(stream: Iterable[bytes], texts: tuple[str, ...], fail: Fail) -> Iterator[Item]:
    for number, line in enumerate(stream, 1):
        line = line.rstrip(b"\r\n")
        if line.startswith(b"{"):
            try:
                yield _record(json.loads(line), texts)
            except ValueError as error:
                fail(f"standard input, line {number}", str(error))
        elif line:
            yield Item(os.fsdecode(line), texts)


def _record(record: dict[str, Any], texts: tuple[str, ...]) -> Item:
    """Read one JSON object. Raises ValueError if it has neither image nor text, or one that is not a string."""
    image, text = record.get("image"), record.get("text")
    if not isinstance(image, str | None) or not isinstance(text, str | None) or not (image or text):
        raise ValueError('expected a path, or {"image": PATH, "text": TEXT} with one or both')
    return Item(image or None, (text,) if text else texts)
