"""Limit the bytes and image formats that one record may read and decode. Imports no torch.

The limits are global to a process, like Pillow's pixel limit: the defaults until those of a recipe are applied. All
readers obey them, those of plugin sources included. Every process that opens sources applies them itself.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from x2kit.errors import DataError, Reason
from x2kit.plugin.choice import FROM_HERE

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM")
"""Formats that Pillow decodes by default: raster images that start no other program."""


class LimitsConfig(BaseModel):
    """Limits on the bytes and the image formats of a record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_record_bytes: Annotated[int, FROM_HERE] = Field(
        256 * 2**20,
        gt=0,
        description="largest decompressed size of a record: a line, an entry, the members of a tar record, a row, an "
        "encoded image or the body of a web response; a larger record is broken",
    )
    image_formats: Annotated[tuple[str, ...], FROM_HERE] = Field(
        (),
        description=f"Pillow formats allowed in addition to {', '.join(IMAGE_FORMATS)}: [TGA, ICNS]; EPS runs "
        "Ghostscript on the bytes of a record",
    )

    @field_validator("image_formats")
    @classmethod
    def _known_to_pillow(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if names:
            from PIL import Image

            Image.init()
            if unknown := [name for name in names if name not in Image.OPEN]:
                raise ValueError(
                    f"Pillow has no format {', '.join(unknown)}; it has {', '.join(sorted(Image.OPEN))}"
                )
        return names

    def apply(self) -> None:
        """Set these limits in this process."""
        _current[0] = self


_current = [LimitsConfig()]


def image_formats() -> tuple[str, ...]:
    """Return the formats that Pillow may decode."""
    return IMAGE_FORMATS + _current[0].image_formats


def max_record_bytes() -> int:
    """Return the largest decompressed size of a record in bytes."""
    return _current[0].max_record_bytes


def check_size(size: int, what: str) -> None:
    """Raise DataError if something has more bytes than a record may have."""
    if size > max_record_bytes():
        raise size_error(what, size)


def size_error(what: str, size: int | None = None) -> DataError:
    """Build the error for an object above the size limit; `size` is None if unknown."""
    found = "more bytes" if size is None else f"{size} bytes, more"
    return DataError(
        f"{what} has {found} than data.limits.max_record_bytes = {max_record_bytes()}; "
        "raise the limit if the record is valid",
        reason=Reason.BYTES_TOO_MANY,
    )
