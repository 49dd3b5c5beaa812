"""Keep images in memory by id and encode them for the page."""

from __future__ import annotations

import hashlib
import io
import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeAlias

from PIL import Image

import x2kit

MEMORY, NAMED = 256 * 10**6, 20_000
"""Limits of a store: bytes of uploaded images, and number of images elsewhere."""
PREVIEW, THUMBNAIL = 1280, 256
"""Longer sides in pixels."""
Opener: TypeAlias = Callable[[], Any]
"""Returns an image as the methods of a model take it: bytes, a path or a PIL image."""


class Pictures:
    """Images by id: uploaded ones in memory, those of the index and the examples where they are.

    Ids come from here alone, so that a request cannot name a file. The least recently used uploads are dropped
    above `memory` bytes. Methods may be called from several threads.

    Args:
        memory: bytes of uploaded images to keep.
    """

    def __init__(self, memory: int = MEMORY) -> None:
        self._memory = memory
        self._uploaded: OrderedDict[str, bytes] = OrderedDict()
        self._elsewhere: OrderedDict[str, Opener] = OrderedDict()
        self._used = 0
        self._secret = secrets.token_bytes(16)
        self._lock = threading.Lock()

    def _key(self, content: bytes) -> str:
        """Hash with a secret of this process: not to be guessed, and never that of a cached image of another one."""
        return hashlib.blake2b(content, key=self._secret, digest_size=16).hexdigest()

    def upload(self, content: bytes) -> tuple[str, tuple[int, int]]:
        """Check and keep an encoded image.

        Returns: its id; width and height in pixels.
        Raises: DataError if it cannot be decoded.
        """
        image = x2kit.ImageLike(content, upright=True)
        image.load()
        key = self._key(content)
        with self._lock:
            if key not in self._uploaded:
                self._uploaded[key] = content
                self._used += len(content)
            self._uploaded.move_to_end(key)
            while self._used > self._memory and len(self._uploaded) > 1:
                self._used -= len(self._uploaded.popitem(last=False)[1])
        return key, image.size

    def add(self, name: str, opener: Opener) -> str:
        """Make an image available that is read when it is asked for, and return its id.

        Args:
            name: unique name, such as its path.
            opener: reads it.
        """
        key = self._key(f"name {name}".encode())
        with self._lock:
            self._elsewhere[key] = opener
            self._elsewhere.move_to_end(key)
            if len(self._elsewhere) > NAMED:
                self._elsewhere.popitem(last=False)
        return key

    def get(self, key: str) -> Opener:
        """Return what opens an image. Raises KeyError if the id is unknown or was dropped."""
        with self._lock:
            if key not in self._uploaded:
                return self._elsewhere[key]
            self._uploaded.move_to_end(key)
            content = self._uploaded[key]
        return lambda: content


def encode(opener: Opener, longest: int) -> bytes:
    """Decode an image and encode it again as JPEG, so that no foreign bytes reach the browser.

    Args:
        opener: opens the image.
        longest: longer side in pixels; smaller images keep their size.
    Raises: DataError if the image cannot be decoded.
    """
    image = x2kit.ImageLike(opener(), upright=True)
    fitting = [factor for factor in (8, 4, 2) if max(image.size) // factor >= longest]
    decoded = image.load(fitting[0] if fitting else 1)
    assert isinstance(decoded, Image.Image)  # arrays are for encoders of other channels
    if max(decoded.size) > longest:
        decoded = decoded.copy()
        decoded.thumbnail((longest, longest))
    buffer = io.BytesIO()
    decoded.save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()
