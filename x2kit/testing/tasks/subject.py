"""Tasks under test: rows of the author's sample records, on a tiny model."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property, wraps
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from x2kit.data.config import StreamConfig
from x2kit.data.pipeline.task_rows import EvaluationReader, draw_pretraining, draw_row
from x2kit.data.transforms.text import clean
from x2kit.errors import DataError
from x2kit.model.config import HeadsConfig
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.components import SourceConfig, TaskConfig
from x2kit.plugin.encoders import VisionFeatures
from x2kit.plugin.sources import Record, Source
from x2kit.plugin.tasks import FusedTexts, Prediction, PretrainingConfig, Task, TaskRow, Texts
from x2kit.tasks.rows import encode_distinct, fuse_rows, predict_rows, read_rows
from x2kit.testing.claims import Unchecked, claim
from x2kit.testing.subjects import SEED, Subject
from x2kit.testing.tasks.tiny_model import SPEC, tiny_model

FEWEST = 3
"""Sample records that the checks need, to compare a row alone, in a part and in a batch."""


class _Samples(SourceConfig):
    """Source of the stream that the samples are drawn for."""

    def check(self) -> None:
        pass

    def languages(self) -> tuple[str, ...] | None:
        return None

    def open(self) -> Source:
        raise NotImplementedError


class CollatedRows(NamedTuple):
    """Rows of a step; `images` [B, I] are indices into `features`."""

    texts: Sequence[Texts]
    images: Tensor
    features: VisionFeatures
    targets: Mapping[str, Tensor]

    def part(self, part: slice) -> CollatedRows:
        """Select rows; the features stay those of the step."""
        texts = [text.select(part) for text in self.texts]
        targets = {name: target[part] for name, target in self.targets.items()}
        return self._replace(texts=texts, images=self.images[part], targets=targets)

    def fuse(self, task: Task, model: X2VLM) -> list[FusedTexts]:
        """Fuse the pairs of the task, with gradients."""
        return fuse_rows(task, model, self.texts, self.features, self.images)


class TaskSubject(Subject):
    """A task, sample records, and a tiny model with the task's heads.

    Args:
        component: a task's settings.
        records: at least three, all different, with the fields that the task reads, in training and in evaluation.
        heads: `model.heads` of a recipe that trains it; in `extra` components, as in `{"extra": {"mine": MyHead()}}`.
        language: of the texts that are evaluated.
        perfect: the prediction for each record that scores best; by default its truth, if that has the type of a
            prediction.
        best: score of these predictions; None for any that is not below that of an untrained model.
        samples: whether its losses are rewards of samples, as in self-critical training: their values are then not
            those of their parts, and need not fall.
    """

    component: TaskConfig

    def __init__(
        self,
        component: TaskConfig,
        records: Sequence[Record] = (),
        heads: HeadsConfig | Mapping[str, Any] | None = None,
        language: str = "en",
        perfect: Sequence[Any] | None = None,
        best: float | None = None,
        samples: bool = False,
    ) -> None:
        super().__init__(component)
        self._records = list(records)
        self.heads = heads if isinstance(heads, HeadsConfig) else HeadsConfig.model_validate(heads or {})
        self.language, self.perfect, self.best, self.samples = language, perfect, best, samples

    @property
    def draws_rows(self) -> bool:
        """Whether `build` gives a task that draws rows; others are measured by their own `run` alone."""
        return type(self.component).build is not TaskConfig.build

    @property
    def pretrains(self) -> bool:
        """Whether the step computes its losses."""
        return isinstance(self.component, PretrainingConfig)

    @cached_property
    def predicts_rows(self) -> bool:
        """Whether it is measured row by row; a task that is only trained raises NotImplementedError in `predict`."""
        if not self.draws_rows or type(self.component).run is not TaskConfig.run:
            return False
        try:
            self.component.build().predict(None, [], {})
        except NotImplementedError:
            return False
        except Exception:  # noqa: BLE001 - no rows to predict
            return True
        return True

    @property
    def records(self) -> list[Record]:
        """The sample records. Raises Unchecked for too few."""
        if len(self._records) < FEWEST:
            raise Unchecked(
                f"needs at least {FEWEST} sample records with the fields that the task reads, found "
                f"{len(self._records)}; pytest: @pytest.mark.conformance(..., records=[...], heads={{...}}); "
                "x2kit plugins check --records FILE.jsonl --heads '{...}'"
            )
        return self._records

    def model(self, heads: HeadsConfig | None = None) -> X2VLM:
        """Build the model in evaluation mode, always with the same weights. Raises Unchecked if heads are missing."""
        vocabulary = self._vocabulary
        if heads is None and (missing := self.component.missing_heads(self.heads)):
            faults = "; ".join(f"model.heads.{setting}: {message}" for setting, message in missing.items())
            raise Unchecked(f"needs a model with the task's heads; {faults}; give heads={{...}}")
        return tiny_model(heads or self.heads, vocabulary, SEED)

    @cached_property
    def _vocabulary(self) -> list[str]:
        """Texts of records and settings, as they are and cleaned."""
        found = list(_texts_in([self.records, self.component.model_dump()]))
        return found + [cleaned for text in found if (cleaned := _cleaned(text))]

    def rows(self, training: bool, task: Task | None = None, order: Sequence[int] = ()) -> list[TaskRow]:
        """Draw the row of each record, in training with the usual augmentation.

        Args:
            order: of drawing; rows are returned in the order of records.
        """
        task = task or self.component.build()
        places = range(len(self.records))
        drawn = {place: self.draw(task, self.records[place], training, place) for place in order or places}
        return [drawn[place] for place in places]

    def draw(self, task: Task, record: Record, training: bool, seed: int = 0) -> TaskRow:
        """Draw the row of a record as a stream or an evaluation does."""
        if not training:
            reader = EvaluationReader(SPEC, self.heads.frames, self.component.max_words)
            reader.language = self.language
            return task.draw(record, reader)
        stream = StreamConfig(
            task=self.component, source=_Samples(), batch_size=1, frames=self.heads.frames or 1
        )
        rng = np.random.default_rng([SEED, seed])
        if self.pretrains:
            return draw_pretraining(task, record, stream, SPEC, rng).row
        return draw_row(task, record, stream, SPEC, rng)

    def collate(self, task: Task, model: X2VLM, rows: Sequence[TaskRow]) -> CollatedRows:
        """Tokenise and collate rows, encode their images and let the task choose among them, as a step does."""
        texts, targets = read_rows(task, model, rows)
        features = encode_distinct(model, [image for row in rows for image in row.images])
        places = torch.arange(sum(len(row.images) for row in rows)).view(len(rows), -1)
        with torch.no_grad():
            images, chosen = task.choose_images(model, features, places, targets)
        return CollatedRows(texts, images, features, chosen)

    def losses(
        self, task: Task, model: X2VLM, rows: Sequence[TaskRow], part: slice = slice(None)
    ) -> dict[str, Tensor]:
        """Compute the losses of a part of collated rows, as a step with accumulation does."""
        collated = self.collate(task, model, rows).part(part)
        return task.loss(model, collated.fuse(task, model), collated.targets)

    def predict(self, task: Task, model: X2VLM, rows: Sequence[TaskRow]) -> list[Prediction]:
        """Predict as an evaluation does."""
        named = [(str(number), row) for number, row in enumerate(rows)]
        with torch.inference_mode():
            return predict_rows(task, model, {self.language: named})[self.language]


Law = Callable[[TaskSubject], None]


def if_drawn(law: Law) -> Law:
    """Let a check pass for a task that draws no rows."""
    return _only_if(lambda subject: subject.draws_rows, law)


def if_fused(law: Law) -> Law:
    """Let a check pass for a task that fuses no rows itself: pretraining, or one that draws none."""
    return if_drawn(_only_if(lambda subject: not subject.pretrains, law))


def if_trained(law: Law) -> Law:
    """Let a check pass for a task that computes no losses."""
    return if_fused(_only_if(lambda subject: bool(subject.component.losses), law))


def if_comparable(law: Law) -> Law:
    """Let a check pass for a task without losses, or with losses that are rewards of samples."""
    return if_trained(_only_if(lambda subject: not subject.samples, law))


def if_predicted(law: Law) -> Law:
    """Let a check pass for a task that is measured by its own `run`."""
    return _only_if(lambda subject: subject.predicts_rows, law)


def _only_if(applies: Callable[[TaskSubject], bool], law: Law) -> Law:
    @wraps(law)
    def checked(subject: TaskSubject) -> None:
        if applies(subject):
            law(subject)

    return checked


def modes(subject: TaskSubject) -> tuple[bool, ...]:
    """Return the values of `Reader.training` for which the task draws rows."""
    if subject.pretrains:
        return (True,)
    return (False, True) if subject.component.losses else (False,)


def require_json(what: str, value: Any) -> None:
    """Require a value that JSON can hold and that is equal when read again."""
    try:
        again = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise AssertionError(f"{what} is no JSON value: {error}; found {value!r}") from error
    claim(again == value, f"{what} is {value!r}, and {again!r} when read from JSON; use lists and str keys")


def _texts_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _texts_in([name, inner])
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _texts_in(inner)


def _cleaned(text: str) -> str:
    try:
        return clean(text)
    except DataError:  # nothing remains
        return ""
