"""JSON Lines files with records broken in every way, among valid ones."""

from __future__ import annotations

import base64
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from x2kit.plugin import Reason

SIDE = 16


def encoded_image(number: int, form: str = "PNG") -> bytes:
    """Encode coloured noise seeded by the number."""
    pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    packed = io.BytesIO()
    Image.fromarray(pixels).save(packed, form)
    return packed.getvalue()


def png_header(width: int, height: int) -> bytes:
    """A PNG that declares this size and has no pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = chunk(b"IDAT", zlib.compress(b""))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + pixels + chunk(b"IEND", b"")


def deep_image() -> bytes:
    """An image with 16 bits per pixel."""
    packed = io.BytesIO()
    Image.fromarray(np.zeros((SIDE, SIDE), np.uint16)).save(packed, "PNG")
    return packed.getvalue()


def many_channels() -> bytes:
    """An array with eight channels of 8 bits."""
    packed = io.BytesIO()
    np.save(packed, np.zeros((SIDE, SIDE, 8), np.uint8))
    return packed.getvalue()


def packed(content: bytes) -> str:
    """Encode as base64, as in a record."""
    return base64.b64encode(content).decode()


def sound(number: int) -> dict[str, Any]:
    """A valid record with an image, a caption in two languages, and two regions."""
    return {
        "id": f"good-{number}",
        "binary": packed(encoded_image(number)),
        "caption": {"en": f"a dog {number}", "de": f"ein Hund {number}"},
        "regions": [
            {"bbox": [0, 0, 8, 8], "caption": "left ear"},
            {"bbox": [4, 4, 8.5, 12], "caption": {"en": "tail", "de": "Schwanz"}},
        ],
    }


def _with(**fields: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda record: json.dumps({**record, **fields}).encode()


def _with_box(*box: Any) -> Callable[[dict[str, Any]], bytes]:
    return _with(regions=[{"bbox": list(box), "caption": "ear"}])


def _without(*names: str) -> Callable[[dict[str, Any]], bytes]:
    return lambda record: json.dumps({k: v for k, v in record.items() if k not in names}).encode()


def _cut(record: dict[str, Any]) -> bytes:
    return json.dumps(record).encode()[:-40]


def _latin(record: dict[str, Any]) -> bytes:
    return json.dumps({**record, "caption": "Mädchen"}, ensure_ascii=False).encode("latin-1")


def _truncated_base64(record: dict[str, Any]) -> bytes:
    return json.dumps({**record, "binary": record["binary"][:-7]}).encode()


KINDS: dict[str, tuple[Reason, Callable[[dict[str, Any]], bytes]]] = {
    "truncated-line": (Reason.NOT_JSON, _cut),
    "a-list": (Reason.NOT_JSON, lambda record: json.dumps([record]).encode()),
    "endless-number": (Reason.NOT_JSON, lambda record: b'{"id": ' + b"9" * 5000 + b"}"),
    "latin-1": (Reason.NOT_UTF8, _latin),
    "half-a-character": (Reason.NOT_UTF8, _with(caption="a \ud83d dog")),
    "no-caption": (Reason.FIELD_MISSING, _without("caption")),
    "no-image": (Reason.FIELD_MISSING, _without("binary")),
    "region-without-caption": (Reason.FIELD_MISSING, _with(regions=[{"bbox": [0, 0, 1, 1]}])),
    "caption-a-number": (Reason.FIELD_TYPE, _with(caption=7)),
    "regions-a-word": (Reason.FIELD_TYPE, _with(regions="none")),
    "image-a-number": (Reason.FIELD_TYPE, _with(binary=12)),
    "empty-caption": (Reason.TEXT_EMPTY, _with(caption="")),
    "caption-of-points": (Reason.TEXT_EMPTY, _with(caption=" ...! ")),
    "other-language": (Reason.LANGUAGE_MISSING, _with(caption={"fi": "koira"})),
    "truncated-base64": (Reason.BASE64, _truncated_base64),
    "no-base64": (Reason.BASE64, _with(binary="%%%")),
    "missing-file": (
        Reason.FILE_MISSING,
        _with(image="nowhere.png"),
    ),
    "a-folder": (
        Reason.FILE_UNREADABLE,
        _with(image="."),
    ),
    "no-image-bytes": (Reason.IMAGE_UNREADABLE, _with(binary=packed(b"no image at all"))),
    "truncated-png": (Reason.IMAGE_UNREADABLE, _with(binary=packed(encoded_image(1)[:400]))),
    "truncated-jpeg": (Reason.IMAGE_UNREADABLE, _with(binary=packed(encoded_image(1, "JPEG")[:-200]))),
    "no-bytes": (
        Reason.IMAGE_EMPTY,
        _with(image="empty.png"),
    ),
    "no-pixels": (Reason.IMAGE_EMPTY, _with(binary=packed(png_header(0, 5)))),
    "bomb": (Reason.IMAGE_TOO_LARGE, _with(binary=packed(png_header(30_000, 30_000)))),
    "deep": (Reason.IMAGE_TOO_DEEP, _with(binary=packed(deep_image()))),
    "many-channels": (Reason.IMAGE_CHANNELS, _with(binary=packed(many_channels()))),
    "box-of-three": (Reason.BOX_TYPE, _with_box(0, 0, 5)),
    "box-of-words": (Reason.BOX_TYPE, _with_box("0", 0, 5, 5)),
    "box-beyond-numbers": (Reason.BOX_TYPE, _with_box(0, 0, 10**400, 5)),
    "flat-box": (Reason.BOX_EMPTY, _with_box(2, 2, 0, 5)),
    "box-of-nan": (Reason.BOX_EMPTY, _with_box(2, 2, float("nan"), 5)),
    "box-outside": (Reason.BOX_OUTSIDE, _with_box(10, 10, 7, 2)),
    "box-before": (Reason.BOX_OUTSIDE, _with_box(-1, 0, 4, 4)),
    "many-boxes": (
        Reason.BOXES_TOO_MANY,
        _with(regions=[{"bbox": [0, 0, 2, 2], "caption": "ear"}] * 41),
    ),
}
"""By name of the fault: the expected reason, and a function that makes the broken line of a valid record."""
MAX_BOXES = 40


def write(folder: Path, kinds: list[str], sound_between: int) -> Path:
    """Write a file with one record of each kind, its id the kind's name, each after `sound_between` valid ones."""
    (folder / "empty.png").write_bytes(b"")
    lines = []
    for number, kind in enumerate(kinds):
        lines += [_with()(sound(number * sound_between + place)) for place in range(sound_between)]
        lines.append(KINDS[kind][1]({**sound(0), "id": kind}))
    file = folder / "records.jsonl"
    file.write_bytes(b"\n".join(lines) + b"\n")
    return file
