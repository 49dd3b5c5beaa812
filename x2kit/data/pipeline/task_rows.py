"""Draw the rows of a task from records, and collate them. Imports torch.

B rows of a stream, I images of a row, L text tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, NoReturn

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from x2kit.data.config import StreamConfig
from x2kit.data.features.records import RecordFeatures
from x2kit.data.features.shards import StoredImage, Visual
from x2kit.data.media.images import ImageLike
from x2kit.data.pipeline.batch import TaskRows
from x2kit.data.pipeline.samples import draw_text, has_sides, render_view
from x2kit.data.pipeline.video_samples import draw_frames, read_video
from x2kit.data.transforms.boxes import Boxes, guided_crop, place_boxes, read_boxes
from x2kit.data.transforms.text import clean
from x2kit.data.transforms.view import Pixels, View, decode, draw_flip, draw_view, whole_image
from x2kit.errors import DataError, PluginError, Reason
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.facts import ImageSpec
from x2kit.plugin.sources import Record, Text
from x2kit.plugin.tasks import EncodedRow, Pretraining, RowLayout, Task, TaskRow, Texts


class DrawnTask(NamedTuple):
    """Rows of a task before collation; `images` are indices into the step's images."""

    images: list[list[int]]
    rows: list[EncodedRow]
    records: list[str]


class BoxedView:
    """An image with boxes before its pixels are read; see `x2kit.plugin.View`.

    Args:
        view: crop and flip.
        boxes: [R, 4] x, y, width, height in pixels of the whole image.
        render: reads the pixels, or their cached features; None if another stream has them.
    """

    def __init__(self, view: View, boxes: Boxes, render: Callable[[], Visual] | None = None) -> None:
        placed = place_boxes(boxes, view)
        kept = zip(placed.kept.tolist(), placed.bbox.tolist(), strict=True)
        self.bbox = [tuple(bbox) if keep else None for keep, bbox in kept]
        self.shared = render is None
        self._render = render

    def pixels(self) -> Visual:
        """Read, crop, flip and augment the image, or return its cached features."""
        if self._render is None:
            raise ValueError("another stream has the pixels of a shared view")
        return self._render()


class TrainingReader:
    """Read fields of a record with the augmentation of its stream; see `x2kit.plugin.Reader`.

    Args:
        record: whose texts may say left or right.
        config: of the stream.
        spec: input of the vision encoder.
        rng: the record's generator.
        shared: view of the image that another stream has drawn of the record.
        keep_shape: augment images in colour only, as another stream uses the boxes of the image.
        alone: clean texts as those of a stream without images.
        stored: cached features of the record, read in place of pixels.

    Attributes:
        drawn: crop and flip of the last image.
    """

    training = True

    def __init__(
        self,
        record: Record,
        config: StreamConfig,
        spec: ImageSpec,
        rng: Generator,
        shared: View | None = None,
        keep_shape: bool = False,
        alone: bool = False,
        stored: RecordFeatures | None = None,
    ) -> None:
        self.rng = rng
        self._alone, self._stored = alone, stored
        self.drawn: View | None = None
        self._config, self._spec, self._shared, self._keep_shape = config, spec, shared, keep_shape
        self._may_flip = not (config.transform.careful_flip and has_sides(record))

    @property
    def languages(self) -> Sequence[str] | None:
        """Languages of the stream."""
        return self._config.languages

    def image(self, value: object, may_flip: bool = True) -> Visual:
        """Read, crop, flip and augment an image, or return its cached features."""
        if self._stored is not None:
            self.drawn, found = self._stored_image(self._stored, value)
            return found.features
        image = self._image(value)
        self.drawn = draw_view(image.size, self._config.transform, self.rng, may_flip and self._may_flip)
        return render_view(image, self.drawn, self._config, self._spec, self.rng, self._keep_shape)

    def view(self, value: object, boxes: Sequence[object], around: int | None) -> BoxedView:
        """Draw a crop around a box and a flip, or place the boxes in the view of another stream."""
        if self._shared is not None:
            return BoxedView(self._shared, read_boxes(boxes, self._shared.size))
        if self._stored is not None:
            return self._stored_view(self._stored, value, boxes, around)
        image = self._image(value)
        read = read_boxes(boxes, image.size)
        crop, transform = None, self._config.transform
        if transform.crop_scale is not None and around is not None:
            crop = guided_crop(read[around].tolist(), image.size, self.rng)
        flip = draw_flip(transform, self.rng)
        view = View(image.size, crop, flip and self._may_flip)
        return BoxedView(
            view, read, lambda: render_view(image, view, self._config, self._spec, self.rng, keep_shape=True)
        )

    def _image(self, value: object) -> ImageLike:
        return ImageLike(value, self._spec.channels, self._spec.value_range)

    def _stored_image(self, stored: RecordFeatures, value: object) -> tuple[View, StoredImage]:
        found = stored.image(value)
        if found.view is None:
            decode(self._image(value), self._spec)  # raises the error of the image
            raise DataError(
                f"the image could not be read when features were cached; {stored.remedy}",
                reason=Reason.FILE_CHANGED,
            )
        return found.view, found

    def _stored_view(
        self, stored: RecordFeatures, value: object, boxes: Sequence[object], around: int | None
    ) -> BoxedView:
        if self._config.transform.crop_scale is not None and around is not None:
            raise PluginError(
                "data.feature_cache: the task draws a crop around a box in every epoch, so no view of it is cached; "
                "set transform.crop_scale of its stream to null"
            )
        self.drawn, found = self._stored_image(stored, value)
        return BoxedView(self.drawn, read_boxes(boxes, self.drawn.size), lambda: found.features)

    def video(self, value: object) -> list[Pixels]:
        """Read, crop, flip and augment the frames of a video, all in the same way."""
        if self._stored is not None:
            raise PluginError(
                "data.feature_cache: the task reads a video, and only features of images are cached; set it to null"
            )
        return draw_frames(value, self._config, self._spec, self.rng, self._may_flip)

    def text(self, text: Text, raw: bool = False) -> str:
        """Draw one of several texts, and clean it unless `raw`."""
        return draw_text(text, self._config, self.rng, raw, self._alone)


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

    @property
    def languages(self) -> Sequence[str]:
        """The language that is measured."""
        return (self.language,)

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

    def view(self, value: object, boxes: Sequence[object], around: int | None) -> BoxedView:
        """Read an image with its boxes, not cropped."""
        image = ImageLike(value, self._spec.channels, self._spec.value_range)
        return BoxedView(View(image.size), read_boxes(boxes, image.size), lambda: self.image(value))

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


def draw_row(
    task: Task,
    record: Record,
    config: StreamConfig,
    spec: ImageSpec,
    rng: Generator,
    stored: RecordFeatures | None = None,
) -> TaskRow:
    """Draw a row for training. Raises DataError for a broken record, PluginError for an error of the task."""
    with component_faults(task.config):
        row = task.draw(record, TrainingReader(record, config, spec, rng, stored=stored))
    return row._replace(seed=int(rng.integers(2**63)))


class PretrainingRow(NamedTuple):
    """A row of pretraining, its record, and the view of its image, for the streams that share it."""

    row: TaskRow
    record: Record
    view: View | None


def draw_pretraining(
    task: Task,
    record: Record,
    config: StreamConfig,
    spec: ImageSpec,
    rng: Generator,
    shared: View | None = None,
    keep_shape: bool = False,
    stored: RecordFeatures | None = None,
) -> PretrainingRow:
    """Draw a row of pretraining; `shared`, `keep_shape` and `stored` as in `TrainingReader`.

    Raises: DataError for a broken record, PluginError for an error of the task or a row of another layout.
    """
    assert isinstance(task, Pretraining)
    layout = task.config.layout
    reader = TrainingReader(record, config, spec, rng, shared, keep_shape, layout == "texts", stored)
    with component_faults(task.config):
        row = task.draw(record, reader)
    images = 0 if shared is not None else _IMAGES[layout]
    if len(row.images) != images or len(row.texts) != _TEXTS.get(layout, len(row.texts)):
        _refuse(task, f"a row of {len(row.images)} images and {len(row.texts)} texts")
    if layout == "images" and isinstance(row.images[0], list) != task.config.videos:
        _refuse(task, f"{'an image' if task.config.videos else 'a video'} with videos {task.config.videos}")
    if layout == "boxes" and len(row.targets.get("bbox", ())) != len(row.texts):
        _refuse(task, f"a row without a bbox (or None) for each of {len(row.texts)} texts in its targets")
    if layout == "parallel" and len(row.targets.get("languages", ())) != 2:
        _refuse(task, "a row without the languages of both texts in its targets")
    return PretrainingRow(row, record, reader.drawn)


_IMAGES: Mapping[RowLayout, int] = {"images": 1, "boxes": 1, "parallel": 0, "texts": 0}
_TEXTS: Mapping[RowLayout, int] = {"images": 1, "parallel": 2, "texts": 1}


def _refuse(task: Pretraining, found: str) -> NoReturn:
    raise PluginError(
        f"task {task.config.component_name()}: {found} does not fit its layout {task.config.layout}"
    )


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
