"""Read the images at hand on the page: of a folder, a JSON Lines file, or an index."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from x2kit.plugin import DataError
from x2kit_demo.pictures import Opener

COUNT = 24
"""Maximum number of examples."""
SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".jp2", ".ppm")
)


@dataclass(frozen=True)
class Example:
    """An image to choose on the page.

    Attributes:
        label: for the user.
        opener: reads the image.
        texts: texts about it by language; "" if the language is unknown. The first one is its caption.
    """

    label: str
    opener: Opener
    texts: Mapping[str, list[str]] = field(default_factory=dict)


def read_examples(path: Path) -> list[Example]:
    """Read at most `COUNT` examples.

    Args:
        path: a folder of images, or a JSON Lines file with `image`, relative to the file, and optionally `caption`
            and `regions[].caption`, each a text or texts by language.
    Raises: DataError for a missing file, a folder without images or a broken line.
    """
    if path.is_dir():
        found = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES)
        if not found:
            raise DataError(f"--examples {path}: no images in the folder")
        return [Example(file.name, partial(Path, file)) for file in found[:COUNT]]
    try:
        with path.open(encoding="utf-8") as lines:
            return list(islice(_read_lines(path, lines), COUNT))
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--examples {path}: expected a folder or a JSON Lines file: {error}") from error


def _read_lines(path: Path, lines: Iterator[str]) -> Iterator[Example]:
    folder = path.parent.resolve()
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line)
            image = (folder / record["image"]).resolve()
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}, line {number}: expected an object with `image`: {error!r}") from error
        if not image.is_relative_to(folder):
            raise DataError(
                f"{path}, line {number}: image {record['image']} is outside the folder of the file"
            )
        regions = record.get("regions", [])
        texts: dict[str, list[str]] = {}
        for described in (record, *(regions if isinstance(regions, list) else ())):
            _add_texts(texts, described.get("caption") if isinstance(described, dict) else None)
        yield Example(str(record.get("id", image.name)), partial(Path, image), texts)


def _add_texts(texts: dict[str, list[str]], caption: Any) -> None:
    """Add a caption: a text, texts, or these by language."""
    by_language = caption if isinstance(caption, dict) else {"": caption}
    for language, found in by_language.items():
        for text in found if isinstance(found, list) else [found]:
            if isinstance(text, str) and text not in texts.setdefault(language, []):
                texts[language].append(text)
