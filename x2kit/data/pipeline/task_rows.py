"""Draw the rows of a task from records, and collate them. Imports torch.

B rows of a stream, I images of a row, L text tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from x2kit.data.config import StreamConfig
from x2kit.data.media.images import ImageLike
from x2kit.data.pipeline.batch import TaskRows
from x2kit.data.pipeline.samples import draw_image, draw_text, has_sides
from x2kit.data.pipeline.video_samples import draw_frames, read_video
from x2kit.data.transforms.text import clean
from x2kit.data.transforms.view import Pixels, whole_image
from x2kit.errors import DataError, Reason
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Record, Text
from x2kit.plugin.tasks import EncodedRow, Task, TaskRow, Texts


class DrawnTask(NamedTuple):
    """Rows of a task before collation; `images` are indices into the step's images."""

    images: list[list[int]]
    rows: list[EncodedRow]
    records: list[str]


class TrainingReader:
    """Read fields of a record with the augmentation of its stream; see `x2kit.plugin.Reader`.

    Args:
        record: whose texts may say left or right.
        config: of the stream.
        spec: input of the vision encoder.
        rng: the record's generator.
    """

    training = True

    def __init__(self, record: Record, config: StreamConfig, spec: ImageSpec, rng: Generator) -> None:
        self.rng = rng
        self._config, self._spec = config, spec
        self._may_flip = not (config.transform.careful_flip and has_sides(record))

    def image(self, value: object, may_flip: bool = True) -> Pixels:
        """Read, crop, flip and augment an image."""
        image = ImageLike(value, self._spec.channels, self._spec.value_range)
        return draw_image(image, self._config, self._spec, self.rng, may_flip and self._may_flip)

    def video(self, value: object) -> list[Pixels]:
        """Read, crop, flip and augment the frames of a video, all in the same way."""
        return draw_frames(value, self._config, self._spec, self.rng, self._may_flip)

    def text(self, text: Text, raw: bool = False) -> str:
        """Draw one of several texts, and clean it unless `raw`."""
        return draw_text(text, self._config, self.rng, raw)


class EvaluationReader:
    """Read fields of records unchanged, in one language; an image is read once for all languages.

    Args:
        spec: input of the vision encoder.
        frames: of a video; None if the model takes none.
        max_words: words kept of a text.
        only: whether one language is measured; texts without a code then count as it.
    """

    training = False

    def __init__(self, spec: ImageSpec, frames: int | None, max_words: int, only: bool = True) -> None:
        self.rng = np.random.default_rng(0)
        self.language = ""
        self._spec, self._frames, self._max_words, self._only = spec, frames, max_words, only
        self._read: dict[tuple[bool, object], tuple[object, Pixels | list[Pixels]]] = {}

    def forget(self) -> None:
        """Drop the images that were read."""
        self._read.clear()

    def image(self, value: object, may_flip: bool = True) -> Pixels:
        """Read and resize an image."""
        found = self._once(False, value)
        assert isinstance(found, np.ndarray)
        return found

    def video(self, value: object) -> list[Pixels]:
        """Read and resize the frames of a video."""
        found = self._once(True, value)
        assert isinstance(found, list)
        return found

    def _once(self, is_video: bool, value: object) -> Pixels | list[Pixels]:
        key = is_video, value if isinstance(value, str) else id(value)
        if key not in self._read:  # the value is kept too, so that its id is not reused
            self._read[key] = value, self._video(value) if is_video else self._image(value)
        return self._read[key][1]

    def _image(self, value: object) -> Pixels:
        return whole_image(ImageLike(value, self._spec.channels, self._spec.value_range), self._spec)

    def _video(self, value: object) -> list[Pixels]:
        if self._frames is None:
            raise DataError("a video, but the model has no frame positions (model.heads.frames)")
        return read_video(value, self._frames, self._spec).frames

    def text(self, text: Text, raw: bool = False) -> str:
        """Return the first text in the reader's language, cleaned unless `raw`."""
        for choice in text if isinstance(text, list) else [text]:
            found = choice.get(self.language) if isinstance(choice, dict) else choice
            if not isinstance(choice, dict) and not self._only:
                raise DataError(
                    f"the text {choice!r} has no language and several are measured; write {{code: text}}, or measure "
                    "one: --evaluation.languages '[CODE]'"
                )
            if isinstance(found, str) and found:
                return found if raw else clean(found, self._max_words)
        raise DataError(f"no text in the language {self.language}", reason=Reason.LANGUAGE_MISSING)


def draw_row(task: Task, record: Record, config: StreamConfig, spec: ImageSpec, rng: Generator) -> TaskRow:
    """Draw a row for training. Raises DataError for a broken record, PluginError for an error of the task."""
    with component_faults(task.config):
        row = task.draw(record, TrainingReader(record, config, spec, rng))
    return row._replace(seed=int(rng.integers(2**63)))


def collate_rows(
    task: Task, images: Sequence[Sequence[int]], rows: Sequence[EncodedRow], texts: Sequence[Texts]
) -> TaskRows:
    """Collate rows of a task.

    Args:
        task: of the stream.
        images: [B][I], indices into the step's images.
        rows: B encoded rows.
        texts: padded, by place in the row.
    """
    with component_faults(task.config):
        read, targets = task.collate(rows, texts)
    return TaskRows(_indices(images), tuple(read), targets)


def _indices(images: Sequence[Sequence[int]]) -> Tensor:
    return torch.tensor([list(row) for row in images], dtype=torch.int64).view(len(images), -1)
