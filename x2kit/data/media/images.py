"""Read and check images from files, bytes and memory. Imports no torch."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile

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
from x2kit.data.storage.files import read_limited
from x2kit.data.storage.limits import check_size, image_formats
from x2kit.data.storage.locations import is_url
from x2kit.errors import DataError, Reason

if TYPE_CHECKING:
    from torch import Tensor

REDUCTIONS = (8, 4, 2)
"""Factors by which a JPEG can be reduced while decoding: its inverse transform skips high frequencies."""
Loaded: TypeAlias = Image.Image | Numbers
"""A decoded image: a PIL image for 8 bits in grey or colour, else an array [H, W, C]."""
_MODES = {1: "L", 3: "RGB"}
_TURNED_SIDEWAYS = range(5, 9)
"""Values of Exif's orientation that exchange width and height."""
_WARNING_FILTERS = Lock()
"""Held while the filters of warnings are changed, which all threads share."""
_SIZES = {b"\x89PNG": (">II", 16), b"GIF8": ("<HH", 6), b"BM": ("<ii", 18)}
"""Layout and offset of width and height by the first bytes of a format."""


class ImageLike:
    """An image with a checked header; `load` reads its pixels.

    Attributes:
        size: width and height in pixels.

    Args:
        image: a PIL image, an array, the bytes of an encoded image, a path, or a URL.
        channels: channels of the encoder; images of 8 bits are converted to 3 (colour) or 1 (grey), others must
            have this number.
        value_range: as in `ImageSpec.value_range`; None for images of 8 bits.
        upright: turn photos (files and bytes of 8 bits in grey or colour) as Exif's orientation says, as viewers and
            browsers do. Not for training: the boxes of published annotations refer to the stored pixels. A PIL image
            is taken as it is.
    Raises: DataError if the image is of another type, missing, invalid, empty, has other channels or another bit
            depth, or exceeds the pixel limit.
    """

    def __init__(
        self, image: Any, channels: int = 3, value_range: ValueRange = None, *, upright: bool = False
    ) -> None:
        self._image = image
        self._turned = False
        self._mode = _MODES.get(channels) if value_range is None else None
        sideways = False
        with self._readable():
            content = image if isinstance(image, Image.Image) else _open(image, self._mode is not None)
            if upright and self._mode and isinstance(content, Image.Image) and content is not image:
                orientation = _orientation(content)
                self._turned, sideways = orientation != 1, orientation in _TURNED_SIDEWAYS
            if isinstance(content, Image.Image) and self._mode is None:
                content = pil_array(content)
            self._content = (
                fitted(content, channels, value_range) if isinstance(content, PixelArray) else content
            )
        if isinstance(self._content, Image.Image) and self._content.mode.startswith(("I", "F")):
            raise DataError(
                f"pixels of mode {self._content.mode} have more than the 8 bits of the encoder; convert the image to "
                "8 bits first",
                reason=Reason.IMAGE_TOO_DEEP,
            )
        width, height = self._content.size
        self.size: tuple[int, int] = (height, width) if sideways else (width, height)
        if 0 in self.size:
            raise DataError(f"an image of {self.size[0]} x {self.size[1]} pixels", reason=Reason.IMAGE_EMPTY)

    def load(self, reduction: int = 1) -> Loaded:
        """Decode the pixels.

        Args:
            reduction: factor (2, 4 or 8) by which a JPEG is reduced while decoding; other images keep their size.
        Raises: DataError if the image is damaged.
        """
        with self._readable():
            if not isinstance(self._content, Image.Image):
                array = self._content.load()
                grey = self._mode == "L"
                return array if self._mode is None else Image.fromarray(array[..., 0] if grey else array)
            # draft would change a PIL image of the caller
            if reduction > 1 and self._content is not self._image:
                width, height = self._content.size
                self._content.draft(None, (width // reduction, height // reduction))
            if self._turned:
                self._content, self._turned = ImageOps.exif_transpose(self._content), False
            if self._content.mode != self._mode:
                return self._content.convert(self._mode)
            self._content.load()
            return self._content

    def load_planes(self) -> Tensor | None:
        """Decode a JPEG in colour as [3, H, W] uint8 by torchvision: equal to `load`, in 3/4 of its time.

        Returns: None where only `load` decodes: another format or mode, a PIL image, a turned photo, a damaged file.
        """
        image = self._content
        if (
            image is self._image
            or self._turned
            or self._mode != "RGB"
            or not isinstance(image, JpegImageFile)
        ):
            return None
        if image.format != "JPEG" or image.mode not in ("RGB", "L") or image.fp is None:
            return None
        import torch
        from torchvision.io import ImageReadMode, decode_jpeg

        with self._readable():
            image.fp.seek(0)
            encoded = bytearray(image.fp.read())  # torch needs a writable buffer
        try:
            decoded: Tensor = decode_jpeg(torch.frombuffer(encoded, dtype=torch.uint8), ImageReadMode.RGB)
        except RuntimeError:  # PIL knows what is wrong, and reads more variants
            return None
        return decoded if decoded.shape[1:] == (image.height, image.width) else None

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
                f"an image of more than {Image.MAX_IMAGE_PIXELS} pixels ({self._describe()}); make it smaller",
                reason=Reason.IMAGE_TOO_LARGE,
            ) from error
        except Exception as error:  # the decoders of PIL raise nearly any error on damaged bytes
            from_system = (
                isinstance(error, OSError) and error.errno is not None
            )  # errors of PIL have no errno
            raise DataError(
                f"not a readable image ({self._describe()}): {error}",
                reason=Reason.FILE_UNREADABLE if from_system else Reason.IMAGE_UNREADABLE,
            ) from error

    def _describe(self) -> str:
        if isinstance(self._image, np.ndarray):
            return f"an array of shape {list(self._image.shape)}"
        return f"{len(self._image)} bytes" if isinstance(self._image, bytes) else str(self._image)


def decode(image: Any, channels: int = 3, value_range: ValueRange = None) -> Loaded:
    """Decode an image, with the arguments and errors of `ImageLike` and its `load`."""
    return ImageLike(image, channels, value_range).load()


def _orientation(image: Image.Image) -> int:
    """Return Exif's orientation; 1, as stored, if there is none or its block is damaged, as in viewers."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, ValueError, struct.error):
        return 1
    return orientation if orientation in range(1, 9) else 1


def _open(image: Any, by_pil: bool) -> Image.Image | PixelArray:
    """Read the header of an image; `by_pil` prefers PIL, which converts to the mode of the encoder."""
    if isinstance(image, np.ndarray):
        return PixelArray(image.shape, image.dtype, lambda: image)
    if isinstance(image, bytes | bytearray | memoryview):
        check_size(len(image), "the image")
        source: Any = io.BytesIO(image)
    elif isinstance(image, str) and is_url(image):
        source = io.BytesIO(read_limited(image))
    elif isinstance(image, str | Path):
        source = Path(image)
    else:
        raise DataError(
            f"expected a PIL image, an array, bytes or a path, found {type(image).__name__}",
            reason=Reason.FIELD_TYPE,
        )
    if not (source.getbuffer() if isinstance(source, io.BytesIO) else source.stat().st_size):
        raise DataError(f"an image of 0 bytes{_location(source)}", reason=Reason.IMAGE_EMPTY)
    if not by_pil and (array := _open_array(source)):
        return array
    with _WARNING_FILTERS, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # a small file with huge dimensions
        try:
            return Image.open(source, formats=_formats())
        except UnidentifiedImageError as error:
            if by_pil and (array := _open_array(source)):
                return array
            raise _unidentified(source) from error


def _formats() -> list[str]:
    """Return the allowed formats that this build of Pillow supports."""
    Image.init()
    return [name for name in image_formats() if name in Image.OPEN]


def _open_array(source: io.BytesIO | Path) -> PixelArray | None:
    """Open a file in an array format; None for another format."""
    head = _head(source)
    if head.startswith(NPY):
        return npy_array(source)
    return tiff_array(source) if head.startswith(TIFF) else None


def _head(source: io.BytesIO | Path) -> bytes:
    """Read the first bytes, which identify the format."""
    if isinstance(source, io.BytesIO):
        return bytes(source.getbuffer()[:32])
    with source.open("rb") as file:
        return file.read(32)


def _unidentified(source: io.BytesIO | Path) -> DataError:
    """Build the error for an image without a decoder: another format, or a header of 0 pixels."""
    head = _head(source)
    for start, (layout, offset) in _SIZES.items():
        if head.startswith(start) and len(head) >= offset + struct.calcsize(layout):
            width, height = struct.unpack_from(layout, head, offset)
            if 0 in (width, height):
                return DataError(
                    f"an image of {width} x {height} pixels{_location(source)}", reason=Reason.IMAGE_EMPTY
                )
    return DataError(
        f"not a readable image, of none of the formats {', '.join(image_formats())}{_location(source)}; it begins "
        f"{head[:8]!r}; add others to data.limits.image_formats",
        reason=Reason.IMAGE_UNREADABLE,
    )


def _location(source: io.BytesIO | Path) -> str:
    return f": {source}" if isinstance(source, Path) else ""
