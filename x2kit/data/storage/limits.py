"""Limits on what one record may make a process read and decode. Imports no torch.

One set of limits is in force in a process, as Pillow's own limit of pixels is: the defaults, until a recipe's are
applied. Every reader obeys it, those of plugin sources included. Each process that opens sources applies its own.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from x2kit.errors import DataError, Reason
from x2kit.plugin.choice import FROM_HERE

IMAGE_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "JPEG2000", "PPM")
"""Formats that Pillow may decode by default: raster images, decoded without starting another program."""


class LimitsConfig(BaseModel):
    """Limits on the bytes and the image formats of a record."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_record_bytes: Annotated[int, FROM_HERE] = Field(
        256 * 2**20,
        gt=0,
        description="bytes that a record may unpack to: a line, an entry, the members of a tar record, a row, an "
        "encoded image or the body of a web server's answer; a larger record is broken",
    )
    image_formats: Annotated[tuple[str, ...], FROM_HERE] = Field(
        (),
        description=f"Pillow formats that are decoded beside {', '.join(IMAGE_FORMATS)}: [TGA, ICNS]; EPS starts "
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
        """Put these limits in force in this process."""
        _in_force[0] = self


_in_force = [LimitsConfig()]


def image_formats() -> tuple[str, ...]:
    """The formats that Pillow may decode."""
    return IMAGE_FORMATS + _in_force[0].image_formats


def max_record_bytes() -> int:
    """Bytes that a record may unpack to."""
    return _in_force[0].max_record_bytes


def require_few_bytes(size: int, what: str) -> None:
    """Raise DataError if something has more bytes than a record may unpack to."""
    if size > max_record_bytes():
        raise too_many_bytes(what, size)


def too_many_bytes(what: str, size: int | None = None) -> DataError:
    """The error for something that is larger than a record may be, of a size that may be unknown."""
    found = "more bytes" if size is None else f"{size} bytes, more"
    return DataError(
        f"{what} has {found} than data.limits.max_record_bytes = {max_record_bytes()}; "
        "raise the limit if the record is sound",
        reason=Reason.BYTES_TOO_MANY,
    )
