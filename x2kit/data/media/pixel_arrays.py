"""Read images as pixel arrays: `.npy`, TIFF, 16-bit PNG, arrays in memory. Imports no torch.

Headers are checked before the pixels are read, so that an unsuitable or huge image costs a header.
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
"""[H, W, C], in the type of the file."""
ValueRange: TypeAlias = tuple[float, float] | None
"""As in `ImageSpec.value_range`."""

NPY = b"\x93NUMPY"
TIFF = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
MAX_PAGES = 4096
"""Limit of pages in a TIFF file: more than the bands of any instrument."""
_EIGHT_BITS = 255
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
_NOT_NUMERIC = ("P", "PA", "1")
"""PIL modes whose values are palette indices or bits."""


class PixelArray(NamedTuple):
    """An array with its header read.

    Attributes:
        shape: [H, W], [H, W, C] or [C, H, W].
        dtype: type of its pixels.
        read: reads the pixels.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    read: Callable[[], Numbers]


class FittedArray(NamedTuple):
    """An array that meets the requirements of an encoder.

    Attributes:
        size: width and height in pixels.
        axis: axis of the channels; None for [H, W].
        source: the array.
    """

    size: tuple[int, int]
    axis: int | None
    source: PixelArray

    def load(self) -> Numbers:
        """Read the pixels, [H, W, C]. Raises DataError if one is not finite, and errors of the reader."""
        array = self.source.read()
        if array.shape != self.source.shape:
            raise ValueError(f"the header has shape {list(self.source.shape)}, the data {list(array.shape)}")
        array = array[..., None] if self.axis is None else np.moveaxis(array, self.axis, -1)
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise DataError(
                "the image contains NaN or Inf; fill missing pixels first",
                reason=Reason.IMAGE_NOT_FINITE,
            )
        return array


def npy_array(source: io.BytesIO | Path) -> PixelArray:
    """Open a `.npy` file without unpickling. Raises ValueError for a damaged header."""
    with _opened(source) as file:
        version = np.lib.format.read_magic(file)
        if version not in _HEADERS:
            raise ValueError(f"version {version} of the .npy format is not supported")
        shape, _, dtype = _HEADERS[version](file)

    def read() -> Numbers:
        with _opened(source) as file:
            return np.lib.format.read_array(file, allow_pickle=False)

    return PixelArray(shape, dtype, read)


def tiff_array(source: io.BytesIO | Path) -> PixelArray:
    """Open the first image of a TIFF file, with bands as samples or as pages.

    Raises: DataError if the reader is not installed, TiffFileError or ValueError for a damaged file.
    """
    try:
        import imagecodecs  # noqa: F401  # its decoders stop at the size of a tile, those of tifffile do not
        import tifffile
    except ImportError as error:
        raise DataError(
            f"TIFF images of many channels or more than 8 bits need tifffile and imagecodecs ({error}); "
            'pip install "x2kit[tiff]"',
            reason=Reason.IMAGE_UNREADABLE,
        ) from error
    with _opened(source) as file, tifffile.TiffFile(file) as tiff:
        _check_pages(tiff.pages)
        first = tiff.series[0]
        shape, dtype = tuple(first.shape), first.dtype
    if dtype is None:
        raise ValueError("the type of its pixels is not supported by NumPy")

    def read() -> Numbers:
        with _opened(source) as file, tifffile.TiffFile(file) as tiff:
            return np.asarray(tiff.series[0].asarray(maxworkers=1))  # the loader has its workers

    return PixelArray(shape, dtype, read)


def _check_pages(pages: Iterable[Any]) -> None:
    """Raise ValueError for a cycle of pages, which tifffile would follow for ever."""
    seen: set[int] = set()
    for page in pages:
        if page.offset in seen:
            raise ValueError(f"page {len(seen)} repeats an earlier page")
        if len(seen) == MAX_PAGES:
            raise ValueError(f"more than {MAX_PAGES} pages")
        seen.add(page.offset)


def pil_array(image: Image.Image) -> PixelArray:
    """Convert an opened PIL image. Raises DataError if PIL changes its values."""
    if image.mode in _NOT_NUMERIC:
        raise DataError(
            f"pixels of mode {image.mode} are palette indices or bits; convert the image first",
            reason=Reason.IMAGE_CHANNELS,
        )
    wide = image.mode.startswith(("I", "F"))
    if not wide and any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        raise DataError(
            "PIL reduces colours of 16 bits to 8; save the image as .npy or .tif",
            reason=Reason.IMAGE_TOO_DEEP,
        )
    bands = len(image.getbands())
    shape = (image.height, image.width) if bands == 1 else (image.height, image.width, bands)
    dtype = np.asarray(Image.new(image.mode, (1, 1))).dtype
    return PixelArray(shape, dtype, lambda: np.asarray(image))


def fitted(array: PixelArray, channels: int, value_range: ValueRange) -> FittedArray:
    """Check an array against the channels and values of an encoder.

    Two axes are one channel. Of three axes, the last, else the first, of length `channels` is the channel axis.

    Raises: DataError for other axes, channels, types or bit depths, and for no or too many pixels.
    """
    shape, dtype = array.shape, array.dtype
    if len(shape) not in (2, 3):
        raise DataError(
            f"an array of shape {list(shape)}; expected [H, W], [H, W, C] or [C, H, W]",
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
            f"an image of {width} x {height} pixels with {channels} channels of {8 * dtype.itemsize} bits; the limit "
            f"is {limit} pixels and {3 * limit} bytes: cut it into tiles",
            reason=Reason.IMAGE_TOO_LARGE,
        )
    return FittedArray((width, height), axis, array)


def to_unit(array: Numbers, value_range: tuple[float, float]) -> NDArray[np.float32]:
    """Scale values to float32 in [0, 1], clipped to the value range."""
    low, high = value_range
    scaled = (array.astype(np.float32) - np.float32(low)) / np.float32(high - low)
    return np.clip(scaled, 0, 1, out=scaled)


def _require_depth(dtype: np.dtype[Any], value_range: ValueRange) -> None:
    if dtype.kind not in "uif":
        raise DataError(f"pixels of type {dtype} are not numeric", reason=Reason.IMAGE_UNREADABLE)
    if value_range is None:
        if dtype != np.uint8:
            raise DataError(
                f"pixels of type {dtype} have more than the 8 bits of the encoder; convert the image to 8 bits first",
                reason=Reason.IMAGE_TOO_DEEP,
            )
    elif dtype == np.uint8 and value_range[1] > _EIGHT_BITS:
        raise DataError(
            f"pixels of 8 bits; the encoder needs values from {value_range[0]:g} to {value_range[1]:g}",
            reason=Reason.IMAGE_TOO_SHALLOW,
        )


def _other_channels(found: str, channels: int) -> DataError:
    return DataError(
        f"an image of {found}; the encoder needs {channels} channel{'s' if channels > 1 else ''}",
        reason=Reason.IMAGE_CHANNELS,
    )


@contextmanager
def _opened(source: io.BytesIO | Path) -> Iterator[BinaryIO]:
    """Open a file at its start; bytes in memory stay open."""
    if isinstance(source, Path):
        with source.open("rb") as file:
            yield file
    else:
        source.seek(0)
        yield source
