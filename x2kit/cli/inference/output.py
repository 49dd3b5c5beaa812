"""Write results as lines and drawings, and failures to standard error. Imports no torch."""

from __future__ import annotations

import json
import math
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from x2kit.cli.inference.inputs import Item
from x2kit.errors import DataError, X2KitError
from x2kit.io.atomic import make_folder, storage_errors

if TYPE_CHECKING:
    from PIL.Image import Image

    from x2kit.inference import Embeddings

LONGEST_NAME = 60
"""Characters of a drawing's name without number and suffix, of up to 4 bytes each; file systems allow 255 bytes."""
CONTROL = ("Cc", "Zl", "Zp")
"""Unicode categories: control characters, line and paragraph separators."""
R = TypeVar("R")


class Output:
    """Results on standard output, failures on standard error.

    Args:
        as_json: write JSON objects instead of cells separated by tabs.
        folder: of drawings; None draws nothing.

    Attributes:
        failed: number of inputs that failed.

    Raises: X2KitError if the folder is a file.
    """

    def __init__(self, as_json: bool, folder: str | None = None) -> None:
        self.failed = 0
        self._as_json = as_json
        self._folder = None if folder is None else Path(folder)
        self._drawings: Counter[str] = Counter()
        if self._folder is not None and self._folder.exists() and not self._folder.is_dir():
            raise X2KitError(f"--draw: {folder}: is a file, not a folder")

    @property
    def status(self) -> int:
        """The exit status: 1 if any input failed."""
        return 1 if self.failed else 0

    def write(
        self,
        fields: Mapping[str, Any],
        rows: Sequence[Sequence[str]],
        draw: Callable[[], Image] | None = None,
        names: Sequence[str] = (),
    ) -> None:
        """Write one result at once, so that the next program in a pipe can start.

        Args:
            fields: of the JSON object.
            rows: cells of its lines.
            draw: draws it.
            names: what the drawing shows; its file is named after them.
        """
        if self._folder is not None and draw is not None:
            fields = {**fields, "drawing": str(self._save(draw(), names))}
        if self._as_json:
            lines = [json.dumps(fields, ensure_ascii=False)]
        else:
            lines = ["\t".join(map(printable, row)) for row in rows]
        for line in lines:
            # a file name that is not UTF-8 becomes \udc80, which is an escape of JSON too
            print(line.encode("utf-8", "backslashreplace").decode("utf-8"))
        sys.stdout.flush()

    def fail(self, name: str, message: str) -> None:
        """Count and report a failed input."""
        self.failed += 1
        line = message if message.startswith(name) else f"{name}: {message}"
        print(printable(line), file=sys.stderr)

    @contextmanager
    def failures(self, item: Item) -> Iterator[None]:
        """Report an image that cannot be read, and go on after the block."""
        try:
            yield
        except DataError as error:
            self.fail(str(item.image), str(error))

    def each(self, batch: list[Item], compute: Callable[[list[Item]], list[R]]) -> Iterator[R]:
        """Yield the results of a batch; after an unreadable image, item by item to find it."""
        try:
            yield from compute(batch)
        except DataError:
            for item in batch:
                with self.failures(item):
                    yield from compute([item])

    def readable(self, found: Embeddings) -> Embeddings:
        """Report the unreadable inputs of a batch, and return the others."""
        import numpy as np

        from x2kit.inference import Embeddings

        for error in found.errors:
            self.fail(error.name, error.message)
        kept = ~np.isnan(found.vectors).any(1)
        return Embeddings(found.vectors[kept], [found.names[row] for row in kept.nonzero()[0]])

    def _save(self, image: Image, names: Sequence[str]) -> Path:
        """Write a drawing under a free name; files that were there stay."""
        assert self._folder is not None
        stem = _file_name(names)
        with storage_errors(self._folder):
            make_folder(self._folder)
            while True:
                self._drawings[stem] += 1
                number = self._drawings[stem]
                path = self._folder / (f"{stem}.png" if number == 1 else f"{stem}-{number}.png")
                with suppress(FileExistsError), path.open("xb") as file:
                    image.save(file, format="PNG")
                    return path


def printable(text: str) -> str:
    """Escape control characters, which would break lines or act on the terminal."""
    return "".join(
        char.encode("unicode_escape").decode() if unicodedata.category(char) in CONTROL else char
        for char in text
    )


def number(value: float | None) -> str:
    """Format a score with four decimals; - if there is none."""
    return "-" if value is None or math.isnan(value) else f"{value:.4f}"


def box_cell(pixels: Sequence[float]) -> str:
    """Format a box as left, top, width and height in pixels."""
    return " ".join(f"{value:.0f}" for value in pixels)


def _file_name(names: Sequence[str]) -> str:
    """Join words of the names by -, so that no part of them is a folder."""
    words: str = re.sub(r"\W+", "-", " ".join(names))
    return words[:LONGEST_NAME].strip("-") or "drawing"
