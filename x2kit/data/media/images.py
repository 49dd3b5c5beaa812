"""Images from files, bytes and memory, checked. Imports no torch."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from x2kit.data.media.pixel_arrays import (
    NPY,
    TIFF,
    Numbers,
    PixelArray,
    ValueRange,
    fitted,
    npy_array,
    pil_array,
    tiff_array,
)
from x2kit.data.storage.files import is_url, read_limited
from x2kit.data.storage.limits import image_formats, require_few_bytes
from x2kit.errors import DataError, Reason

REDUCTIONS = (8, 4, 2)
"""By how much JPEG images can be reduced while they are decoded: the inverse transform skips high frequencies."""
Loaded: TypeAlias = Image.Image | Numbers
"""An image with its pixels in memory: of 8 bits in grey or colour as PIL has it, any other as numbers [H, W, C]."""
_MODES = {1: "L", 3: "RGB"}
_SIZES = {b"\x89PNG": (">II", 16), b"GIF8": ("<HH", 6), b"BM": ("<ii", 18)}
"""Where formats that begin so keep width and height."""


class ImageLike:
    """An image whose header has been read; its pixels are read by `load`.

    Attributes:
        size: width and height in pixels.

    Args:
        image: a PIL image, an array of numbers, the bytes of an encoded image, a path, or a URL.
        channels: that the encoder asks for; images of 8 bits are brought to 3 (colour) or 1 (grey), all others
            must have so many.
        value_range: as `ImageSpec.value_range`; None for images of 8 bits.
    Raises: DataError if it is none of these, missing, not an image, empty, of other channels or another depth than
            asked for, or so large that its file must be meant to fill the memory.
    """

    def __init__(self, image: Any, channels: int = 3, value_range: ValueRange = None) -> None:
        self._image = image
        self._mode = _MODES.get(channels) if value_range is None else None
        with self._readable():
            found = image if isinstance(image, Image.Image) else _open(image, self._mode is not None)
            if isinstance(found, Image.Image) and self._mode is None:
                found = pil_array(found)
            self._found = fitted(found, channels, value_range) if isinstance(found, PixelArray) else found
        if isinstance(self._found, Image.Image) and self._found.mode.startswith(("I", "F")):
            raise DataError(
                f"pixels of mode {self._found.mode} are deeper than 8 bits, which the encoder asks for; convert the "
                "image to 8 bits first",
                reason=Reason.IMAGE_TOO_DEEP,
            )
        self.size: tuple[int, int] = self._found.size
        if 0 in self.size:
            raise DataError(f"an image of {self.size[0]} x {self.size[1]} pixels", reason=Reason.IMAGE_EMPTY)

    def load(self, reduction: int = 1) -> Loaded:
        """The image with its pixels in memory.

        Args:
            reduction: a JPEG that has not been read yet is given smaller by this factor (2, 4 or 8); other images
                are given as they are.
        Raises: DataError if the image is damaged.
        """
        with self._readable():
            if not isinstance(self._found, Image.Image):
                array = self._found.load()
                grey = self._mode == "L"
                return array if self._mode is None else Image.fromarray(array[..., 0] if grey else array)
            # an image that was given as such belongs to its owner, and draft would change it
            if reduction > 1 and self._found is not self._image:
                self._found.draft(None, (self.size[0] // reduction, self.size[1] // reduction))
            if self._found.mode != self._mode:
                return self._found.convert(self._mode)
            self._found.load()
            return self._found

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except (FileNotFoundError, NotADirectoryError) as error:
            raise DataError(f"no image at {self._image}", reason=Reason.FILE_MISSING) from error
        except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
            raise DataError(
                f"an image of more than {Image.MAX_IMAGE_PIXELS} pixels ({self._in_words()}); make it smaller",
                reason=Reason.IMAGE_TOO_LARGE,
            ) from error
        except Exception as error:  # damaged bytes make PIL's decoders raise nearly anything
            unreadable = (
                isinstance(error, OSError) and error.errno is not None
            )  # PIL's own errors have no number
            raise DataError(
                f"not a readable image ({self._in_words()}): {error}",
                reason=Reason.FILE_UNREADABLE if unreadable else Reason.IMAGE_UNREADABLE,
            ) from error

    def _in_words(self) -> str:
        if isinstance(self._image, np.ndarray):
            return f"an array of shape {list(self._image.shape)}"
        return f"{len(self._image)} bytes" if isinstance(self._image, bytes) else str(self._image)


def decode(image: Any, channels: int = 3, value_range: ValueRange = None) -> Loaded:
    """An image with its pixels in memory. Arguments and errors are those of `ImageLike` and its `load`."""
    return ImageLike(image, channels, value_range).load()


def _open(image: Any, by_pil: bool) -> Image.Image | PixelArray:
    """An image with its header read; `by_pil` if PIL shall bring it to the wanted mode where it knows its format."""
    if isinstance(image, np.ndarray):
        return PixelArray(image.shape, image.dtype, lambda: image)
    if isinstance(image, bytes | bytearray | memoryview):
        require_few_bytes(len(image), "the image")
        source: Any = io.BytesIO(image)
    elif isinstance(image, str) and is_url(image):
        source = io.BytesIO(read_limited(image))
    elif isinstance(image, str | Path):
        source = Path(image)
    else:
        raise DataError(
            f"an image is a PIL image, an array, bytes or a path, found {type(image).__name__}",
            reason=Reason.FIELD_TYPE,
        )
    if not (source.getbuffer() if isinstance(source, io.BytesIO) else source.stat().st_size):
        raise DataError(f"an image of 0 bytes{_named(source)}", reason=Reason.IMAGE_EMPTY)
    if not by_pil and (array := _array(source)):
        return array
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # a small file that fills the memory
        try:
            return Image.open(source, formats=_formats())
        except UnidentifiedImageError as error:
            if by_pil and (array := _array(source)):
                return array
            raise _unidentified(source) from error


def _formats() -> list[str]:
    """The allowed formats that this Pillow was built with."""
    Image.init()
    return [name for name in image_formats() if name in Image.OPEN]


def _array(source: io.BytesIO | Path) -> PixelArray | None:
    """What the file holds if it is of a format that holds arrays."""
    head = _head(source)
    if head.startswith(NPY):
        return npy_array(source)
    return tiff_array(source) if head.startswith(TIFF) else None


def _head(source: io.BytesIO | Path) -> bytes:
    """The first bytes, which tell the format."""
    if isinstance(source, io.BytesIO):
        return bytes(source.getbuffer()[:32])
    with source.open("rb") as file:
        return file.read(32)


def _unidentified(source: io.BytesIO | Path) -> DataError:
    """What is wrong with an image that no decoder takes: most often it is none, or its header says 0 pixels."""
    head = _head(source)
    for start, (layout, offset) in _SIZES.items():
        if head.startswith(start) and len(head) >= offset + struct.calcsize(layout):
            width, height = struct.unpack_from(layout, head, offset)
            if 0 in (width, height):
                return DataError(
                    f"an image of {width} x {height} pixels{_named(source)}", reason=Reason.IMAGE_EMPTY
                )
    return DataError(
        f"not a readable image, of none of the formats {', '.join(image_formats())}{_named(source)}; it begins "
        f"{head[:8]!r}; data.limits.image_formats allows others",
        reason=Reason.IMAGE_UNREADABLE,
    )


def _named(source: io.BytesIO | Path) -> str:
    return f": {source}" if isinstance(source, Path) else ""
