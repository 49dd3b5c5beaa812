"""Images that are arrays of numbers: `.npy`, TIFF, deep PNG, arrays in memory. Imports no torch.

What a file says of itself is looked at before its numbers are read, so that an image that does not fit, or that is
meant to fill the memory, costs a header.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from x2kit.errors import DataError, Reason

Numbers: TypeAlias = NDArray[Any]
"""[H, W, C], as the file has them."""
ValueRange: TypeAlias = tuple[float, float] | None
"""As `ImageSpec.value_range`."""

NPY = b"\x93NUMPY"
TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
MAX_PAGES = 4096
"""Of a TIFF file: more bands than any instrument has."""
_EIGHT_BITS = 255
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_PLACES = ("P", "PA", "1")
"""Modes of PIL whose numbers are places in a palette, or bits: they measure nothing."""


class PixelArray(NamedTuple):
    """An array whose header has been read.

    Attributes:
        shape: of the array, its axes in any order that `fitted` knows.
        dtype: of its numbers.
        read: reads them.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Numbers]


class FittedArray(NamedTuple):
    """An array that is what an encoder asks for.

    Attributes:
        size: width and height in pixels.
        axis: of the channels; None where there is one channel and no axis for it.
        source: where it comes from.
    """

    size: tuple[int, int]
    axis: int | None
    source: PixelArray

    def load(self) -> Numbers:
        """The numbers, [H, W, C]. Raises DataError if one is not finite, and what the file's reader raises."""
        array = self.source.read()
        if array.shape != self.source.shape:
            raise ValueError(f"shape {list(self.source.shape)} is told and {list(array.shape)} is there")
        array = array[..., None] if self.axis is None else np.moveaxis(array, self.axis, -1)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(
                "a number in it is not finite; fill what was not measured before",
                reason=Reason.IMAGE_NOT_FINITE,
            )
        return array


def npy_array(source: io.BytesIO | Path) -> PixelArray:
    """What a `.npy` file holds; nothing in it is ever unpickled. Raises ValueError for a damaged header."""
    with _opened(source) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"version {version} of the .npy format holds no plain numbers")
        shape, _, dtype = _HEADERS[version](file)

    def read() -> Numbers:
        with _opened(source) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    return PixelArray(shape, dtype, read)


def tiff_array(source: io.BytesIO | Path) -> PixelArray:
    """The first image of a TIFF file, its bands as samples or as pages.

    Raises: DataError if the reader is not installed, TiffFileError or ValueError for a damaged file.
    """
    try:
        import imagecodecs  # noqa: F401  # its decoders stop at a tile's size, those of tifffile itself do not
        import tifffile
    except ImportError as error:
        raise DataError(
            f"TIFF images of many channels or deep numbers are read by tifffile and imagecodecs ({error}); "
            'pip install "x2kit[tiff]"',
            reason=Reason.IMAGE_UNREADABLE,
        ) from error
    with _opened(source) as file, tifffile.TiffFile(file) as tiff:
        _require_an_end(tiff.pages)
        first = tiff.series[0]
        shape, dtype = tuple(first.shape), first.dtype
    if dtype is None:
        raise ValueError("its numbers are of a type that NumPy has not")

    def read() -> Numbers:
        with _opened(source) as file, tifffile.TiffFile(file) as tiff:
            return np.asarray(tiff.series[0].asarray(maxworkers=1))  # loading has processes of its own

    return PixelArray(shape, dtype, read)


def _require_an_end(pages: Iterable[Any]) -> None:
    """Raise ValueError for pages without an end, which tifffile would follow for ever: each names the next one."""
    seen: set[int] = set()
    for page in pages:
        if page.offset in seen:
            raise ValueError(f"its page {len(seen)} names one of the pages before it as the next")
        if len(seen) == MAX_PAGES:
            raise ValueError(f"more than {MAX_PAGES} pages")
        seen.add(page.offset)


def pil_array(image: Image.Image) -> PixelArray:
    """An image that PIL has opened. Raises DataError if PIL would change its numbers."""
    if image.mode in _PLACES:
        raise DataError(
            f"pixels of mode {image.mode} are no measured numbers; convert the image first",
            reason=Reason.IMAGE_CHANNELS,
        )
    wide = image.mode.startswith(("I", "F"))
    if not wide and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        raise DataError(
            "PIL reads colours of 16 bits as 8; save the image as .npy or .tif",
            reason=Reason.IMAGE_TOO_DEEP,
        )
    bands = len(image.getbands())
    shape = (image.height, image.width) if bands == 1 else (image.height, image.width, bands)
    dtype = np.asarray(Image.new(image.mode, (1, 1))).dtype
    return PixelArray(shape, dtype, lambda: np.asarray(image))


def fitted(array: PixelArray, channels: int, value_range: ValueRange) -> FittedArray:
    """The array as an encoder of these channels and numbers sees it.

    Of two axes there is one channel. Of three, the last or else the first is that of the channels, whichever is as
    long as there are channels.

    Raises: DataError for other axes, other channels, numbers of another type or depth, no pixels, or too many.
    """
    shape, dtype = array.shape, array.dtype
    if len(shape) not in (2, 3):
        raise DataError(
            f"an array of shape {list(shape)}; an image is [H, W], [H, W, C] or [C, H, W]",
            reason=Reason.IMAGE_CHANNELS,
        )
    axis = None
    if len(shape) == 2 and channels != 1:
        raise _other_channels("1 channel", channels)
    if len(shape) == 3:
        axis = 2 if shape[2] == channels else 0
        if shape[axis] != channels:
            raise _other_channels(f"shape {list(shape)}", channels)
    _require_depth(dtype, value_range)
    height, width = (length for place, length in enumerate(shape) if place != axis)
    if 0 in (height, width):
        raise DataError(f"an image of {width} x {height} pixels", reason=Reason.IMAGE_EMPTY)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and (
        width * height > limit or width * height * channels * dtype.itemsize > 3 * limit
    ):
        raise DataError(
            f"an image of {width} x {height} pixels with {channels} channels of {8 * dtype.itemsize} bits; at most "
            f"{limit} pixels and {3 * limit} bytes are read; cut it into tiles",
            reason=Reason.IMAGE_TOO_LARGE,
        )
    return FittedArray((width, height), axis, array)


def to_unit(array: Numbers, value_range: tuple[float, float]) -> NDArray[np.float32]:
    """Numbers as float32 in [0, 1]: the ends of the range become 0 and 1, what lies outside becomes its end."""
    low, high = value_range
    scaled = (array.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return np.clip(scaled, 0, 1, out=scaled)


def _require_depth(dtype: np.dtype[Any], value_range: ValueRange) -> None:
    if dtype.kind not in "uif":
        raise DataError(f"pixels of type {dtype} are no numbers", reason=Reason.IMAGE_UNREADABLE)
    if value_range is None:
        if dtype != np.uint8:
            raise DataError(
                f"pixels of type {dtype} are deeper than 8 bits, which the encoder asks for; convert the image to "
                "8 bits first",
                reason=Reason.IMAGE_TOO_DEEP,
            )
    elif dtype == np.uint8 and value_range[1] > _EIGHT_BITS:
        raise DataError(
            f"pixels of 8 bits, but the encoder asks for numbers from {value_range[0]:g} to {value_range[1]:g}",
            reason=Reason.IMAGE_TOO_SHALLOW,
        )


def _other_channels(found: str, channels: int) -> DataError:
    return DataError(
        f"an image of {found}; the encoder asks for {channels} channel{'s' if channels > 1 else ''}",
        reason=Reason.IMAGE_CHANNELS,
    )


@contextmanager
def _opened(source: io.BytesIO | Path) -> Iterator[BinaryIO]:
    """The file from its beginning; bytes in memory stay open."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    else:
        source.seek(0)
        yield source
