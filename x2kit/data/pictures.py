"""Pictures from files, bytes and memory, checked. Imports no torch."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from x2kit.errors import DataError

REDUCTIONS = (8, 4, 2)
"""By how much JPEG pictures can be reduced while they are decoded: the inverse transform skips high frequencies."""
_MODES = {1: "L", 3: "RGB"}


class Picture:
    """A picture whose header has been read; its pixels are read by `load`.

    Attributes:
        size: width and height in pixels.

    Args:
        picture: a PIL image, the bytes of an encoded picture, or a path.
        channels: 3 for colour, 1 for grey.
    Raises: DataError if it is none of these, missing, not a picture, empty, of deeper pixels, or so large that its
            file must be meant to fill the memory.
    """

    def __init__(self, picture: Any, channels: int = 3) -> None:
        if channels not in _MODES:
            raise DataError(
                f"pictures of {channels} channels cannot be read yet; 1 (grey) and 3 (colour) can",
                reason="channels that cannot be read",
            )
        self._picture, self._mode = picture, _MODES[channels]
        with self._readable():
            self._image = picture if isinstance(picture, Image.Image) else _open(picture)
        if self._image.mode.startswith(("I", "F")):
            raise DataError(
                f"pixels of mode {self._image.mode} are deeper than 8 bits; convert the picture to 8 bits first",
                reason="pixels deeper than 8 bits",
            )
        self.size: tuple[int, int] = self._image.size
        if 0 in self.size:
            raise DataError(
                f"a picture of {self.size[0]} x {self.size[1]} pixels", reason="picture without pixels"
            )

    def load(self, reduction: int = 1) -> Image.Image:
        """The picture with its pixels in memory.

        Args:
            reduction: a JPEG that has not been read yet is given smaller by this factor (2, 4 or 8); other pictures
                are given as they are.
        Raises: DataError if the picture is damaged.
        """
        with self._readable():
            # an image that was given as such belongs to its owner, and draft would change it
            if reduction > 1 and self._image is not self._picture:
                self._image.draft(None, (self.size[0] // reduction, self.size[1] // reduction))
            if self._image.mode != self._mode:
                return self._image.convert(self._mode)
            self._image.load()
        return self._image

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except DataError:
            raise
        except FileNotFoundError as error:
            raise DataError(f"no picture at {self._picture}", reason="picture missing") from error
        except Exception as error:  # damaged bytes make PIL's decoders raise nearly anything
            what = f"{len(self._picture)} bytes" if isinstance(self._picture, bytes) else str(self._picture)
            raise DataError(
                f"not a readable picture ({what}): {error}", reason="picture not readable"
            ) from error


def decode(picture: Any, channels: int = 3) -> Image.Image:
    """A picture with its pixels in memory. Arguments and errors are those of `Picture` and its `load`."""
    return Picture(picture, channels).load()


def _open(picture: Any) -> Image.Image:
    if isinstance(picture, bytes | bytearray | memoryview):
        source: Any = io.BytesIO(picture)
    elif isinstance(picture, str | Path):
        source = Path(picture)
    else:
        raise DataError(
            f"a picture is a PIL image, bytes or a path, found {type(picture).__name__}",
            reason="picture of a wrong type",
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # a small file that fills the memory
        return Image.open(source)
