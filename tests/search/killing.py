"""A process that indexes slowly and in small batches, to be killed; started by a server that has imported torch."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import islice
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from tests.model import tiny
from tests.search.conftest import OPTIONS
from x2kit.inference import Model, load
from x2kit.search import index_folders, indexing

BATCH, MOST = 4, 6


def index_slowly(photos: Path, place: Path, weights: Path, started: Event) -> None:
    """Index with a pause of some milliseconds before each batch of four files, which is written at once.

    `started` is set once a batch is written. After MOST batches the process waits to be killed.
    """
    stream = Model.stream_images

    def slow(self: Model, images: Any, **settings: Any) -> Iterator[Any]:
        for batch in islice(stream(self, images, **{**settings, "batch_size": BATCH}), MOST):
            time.sleep(0.005)
            yield batch
            started.set()
        time.sleep(600)

    Model.stream_images = slow  # type: ignore[method-assign]
    indexing.COMMIT_ROWS = BATCH
    model = load(weights, "cpu", plugins=[tiny.__file__])
    index_folders([photos], place, model, OPTIONS)
