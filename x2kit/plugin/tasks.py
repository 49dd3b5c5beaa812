"""Contract of tasks: draw a row, fuse it, compute its loss, predict and measure. Imports no torch.

A record becomes a `TaskRow` (`Task.draw`), the rows of a step become tensors (`Task.encode`, `Task.collate`), x2kit
encodes images and texts of all streams together and fuses the pairs of `TaskConfig.pairs`, and the task computes its
losses or predictions from the fused texts. Accumulation, ranks, resume and broken records need nothing from the task.
Pretraining is a task too (`PretrainingConfig`): it draws rows, and names the losses that the step computes for them.

B rows, L text tokens, D width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, Protocol, Self, TypeAlias

from x2kit.distributed.ranks import Ranks
from x2kit.errors import DataError
from x2kit.plugin.components import TaskConfig
from x2kit.plugin.sources import Record, Source
from x2kit.plugin.sources import Text as TextField
from x2kit.plugin.tokenizers import Tokenizer
from x2kit.plugin.toolkit.item_values import ItemValues, save_no_items

if TYPE_CHECKING:
    import torch
    from numpy.random import Generator
    from torch import Tensor

    from x2kit.plugin.encoders import Context, VisionFeatures


CORRECT = "correct"
"""Metric of items of a task that has no `items` of its own."""


def save_nothing(name: str, content: Any) -> None:
    """Save no file; `TaskContext.save` where an evaluation writes none."""


@dataclass(frozen=True)
class TaskContext:
    """Model, data and settings of an evaluation.

    Attributes:
        model: an X2VLM in eval mode on `device`; use its public methods.
        source: records of the split to measure.
        split: name of the split.
        languages: codes of the languages to measure, in order.
        trained_with_images: codes of languages with image-text pairs in training.
        device: device of the model.
        batch_size: images (or texts) per batch.
        progress: call `progress(what, done, total)` to show progress.
        ranks: ranks that share the evaluation; one, unless started by torchrun.
        save: call `save(name, content)` on every rank to write a JSON file beside the result, such as predictions in
            the format of a benchmark's server; `name` completes the file's name.
        save_items: call it with the values of single items, such as the rank of each query, by which `x2kit results`
            compares runs; `wants_items` is false where nothing is kept, as on all ranks but the first.
    """

    model: Any
    source: Source
    split: str
    languages: Sequence[str]
    trained_with_images: Sequence[str]
    device: torch.device
    batch_size: int
    progress: Callable[[str, int, int], None]
    ranks: Ranks = field(default_factory=Ranks)
    save: Callable[[str, Any], None] = save_nothing
    save_items: Callable[[ItemValues], None] = save_no_items

    @property
    def wants_items(self) -> bool:
        """Whether `save_items` keeps what it gets."""
        return self.save_items is not save_no_items


class View(Protocol):
    """An image whose crop and flip are drawn, and whose pixels are not read yet.

    Attributes:
        bbox: of each box, centre x, centre y, width and height in the view, in [0, 1]; None for a box of which the
            crop keeps half or less.
        shared: whether another stream of the step has the image and its caption; its rows then need no pixels.
    """

    @property
    def bbox(self) -> Sequence[tuple[float, ...] | None]: ...

    @property
    def shared(self) -> bool: ...

    def pixels(self) -> Any:
        """Read the image, for `TaskRow.images`. Raises DataError if it is unreadable."""
        ...


class Reader(Protocol):
    """Read fields of one record: with the stream's augmentation in training, unchanged in evaluation.

    Attributes:
        rng: generator of this record; its draws repeat when a run is resumed.
        languages: codes of the texts that may be drawn; None for all.
        training: whether the row is for training.
    """

    rng: Generator
    training: bool

    @property
    def languages(self) -> Sequence[str] | None: ...

    def image(self, value: Any, may_flip: bool = True) -> Any:
        """Read an image, as in `Record`. Raises DataError if it is unreadable.

        Args:
            value: the field of the record.
            may_flip: False if the row says left or right; `transform.careful_flip` does this for texts of the record.
        """
        ...

    def view(self, value: Any, boxes: Sequence[Any], around: int | None) -> View:
        """Draw a crop of an image with boxes. In training its augmentation changes colours only.

        Args:
            value: the field of the record.
            boxes: x, y, width and height in pixels.
            around: number of the box that the crop contains whole; None for no crop.
        Raises: DataError if the image is unreadable, or for a box outside.
        """
        ...

    def video(self, value: Any) -> Any:
        """Read the frames of a video, as in `Record`. Raises DataError if it is unreadable."""
        ...

    def text(self, text: TextField, raw: bool = False) -> str:
        """Draw one of several texts in the languages of the stream, and clean it unless `raw`.

        Raises: DataError for a text in none of the languages, or one that is empty after cleaning.
        """
        ...


class TaskRow(NamedTuple):
    """One row of a task, drawn from a record.

    Attributes:
        images: from `Reader.image` or `Reader.video`, as many in each row.
        texts: to tokenise, as many in each row.
        targets: numbers and lists of numbers of equal length in each row, by name.
        truth: JSON value that `Task.measure` compares with the prediction.
        seed: for random choices in `Task.encode`.
    """

    images: list[Any]
    texts: list[str]
    targets: Mapping[str, Any] = {}
    truth: Any = None
    seed: int = 0


class EncodedRow(NamedTuple):
    """Token ids of each text of a row, and its targets."""

    texts: list[list[int]]
    targets: Mapping[str, Any]


class Texts(NamedTuple):
    """Padded texts.

    Attributes:
        ids: [B, L] int64.
        mask: [B, L] bool; or, with `positions`, [B, L, L] bool: the tokens (last axis) that each token attends to.
        positions: [B, L] int64 of each token in its text; None for texts that are read whole.
        lengths: number of tokens of each of the B rows, which are its first ones; numbers of Python, so that the step
            groups rows by length without reading the device. None if unknown: no row is then cut.
    """

    ids: Tensor
    mask: Tensor
    positions: Tensor | None = None
    lengths: tuple[int, ...] | None = None

    def select(self, rows: slice) -> Texts:
        """Select rows."""
        positions = None if self.positions is None else self.positions[rows]
        lengths = None if self.lengths is None else self.lengths[rows]
        return Texts(self.ids[rows], self.mask[rows], positions, lengths)


class FusedTexts(NamedTuple):
    """Texts fused with an image.

    Attributes:
        states: [B, L, D]; with `TaskConfig.pooled` only position 0 is defined.
        mask: of the texts, as in `Texts`.
        context: the images that the texts are fused with: `rows` [B] into M images, each row's summary as `lead`. For
            tasks that fuse further texts, such as those that they generate; gradients reach the vision encoder.
    """

    states: Tensor
    mask: Tensor
    context: Context


class Prediction(NamedTuple):
    """Prediction of one record.

    Attributes:
        id: of the record.
        value: from `Task.predict`.
        truth: from `Task.draw`.
    """

    id: str
    value: Any
    truth: Any


class RankedText(NamedTuple):
    """A text that a task gives for an image, such as an answer.

    Attributes:
        text: as it is shown.
        probability: in [0, 1]; among a list of texts they sum to 1, of a generated text it is that of the text.
        log_likelihood: of the whole text in nats.
    """

    text: str
    probability: float
    log_likelihood: float


class Task(ABC):
    """A task that is trained and measured row by row.

    Args:
        config: the settings that build it.
    """

    def __init__(self, config: TaskConfig) -> None:
        self.config = config

    @abstractmethod
    def draw(self, record: Record, reader: Reader) -> TaskRow:
        """Draw a row from a record. Raises DataError for a missing or invalid field."""
        raise NotImplementedError

    def encode(self, rows: Sequence[TaskRow], tokenizer: Tokenizer, max_tokens: int) -> list[EncodedRow]:
        """Tokenise the texts of rows; by default each as a whole text, cut at `max_tokens`."""
        count = len(rows[0].texts) if rows else 0
        columns = [tokenizer.encode([row.texts[place] for row in rows], max_tokens) for place in range(count)]
        return [
            EncodedRow([column[number] for column in columns], row.targets) for number, row in enumerate(rows)
        ]

    def collate(
        self, rows: Sequence[EncodedRow], texts: Sequence[Texts]
    ) -> tuple[Sequence[Texts], dict[str, Tensor]]:
        """Stack the targets of rows, each [B, ...], and complete the padded texts.

        Args:
            rows: of this rank.
            texts: padded texts by place in the row; L is that of the longest text over all ranks.
        Returns: texts as they are read, by default unchanged; targets by name.
        """
        import torch

        names = rows[0].targets if rows else ()
        return texts, {name: torch.tensor([row.targets[name] for row in rows]) for name in names}

    def choose_images(
        self, model: Any, features: VisionFeatures, images: Tensor, targets: Mapping[str, Tensor]
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Choose the images that texts are fused with among all of a step; by default those of the row.

        For images that depend on others of the batch, such as negatives by similarity. It is called once a step, before
        the rows are split in parts, and without a graph.

        Args:
            model: an X2VLM.
            features: of the step's images.
            images: [B, I] int64, the images of each row.
            targets: from `collate`.
        Returns: [B, I'] int64, which the places of `TaskConfig.pairs` index; targets for `loss`.
        """
        return images, targets

    def counts(self, loss: str, targets: Mapping[str, Tensor]) -> Tensor | None:
        """Count per row what a loss averages over, [B]; None, the default, for a mean over rows."""
        return None

    @abstractmethod
    def loss(
        self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Compute the losses of rows by the names of `TaskConfig.losses`.

        Args:
            model: an X2VLM in training mode, with its heads.
            fused: for each pair of `TaskConfig.pairs`.
            targets: from `collate`.
        Returns: scalars; means over the rows, or over what `counts` counts.
        """
        raise NotImplementedError

    @abstractmethod
    def predict(
        self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> Sequence[Any]:
        """Predict a JSON value for each row; arguments as in `loss`, with the model in evaluation mode."""
        raise NotImplementedError

    def rank(
        self,
        model: Any,
        fused: Sequence[FusedTexts],
        targets: Mapping[str, Tensor],
        count: int,
        given: Sequence[str] = (),
    ) -> list[list[RankedText]]:
        """Rank the texts that the task may give for each row, best first; for `TaskConfig.produces`.

        Args:
            model, fused, targets: as in `predict`.
            count: maximum number of texts of a row.
            given: answers to choose among, or the beginning of descriptions; empty for those of the settings.
        Raises: DataError for given answers that the model does not know.
        """
        raise NotImplementedError

    @abstractmethod
    def measure(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """Compare predictions of one language with their truths.

        Returns: JSON values; the score, its chance level and the number of rows.
        """
        raise NotImplementedError

    def correct(self, prediction: Prediction) -> bool | None:
        """Whether the report counts a prediction as right, by default if it equals the truth; None if it is graded."""
        return bool(prediction.value == prediction.truth)

    def items(self, predictions: Sequence[Prediction]) -> Mapping[str, Sequence[float | None]]:
        """Score each prediction by metric, for `ItemValues`; by default "correct", unless predictions are graded."""
        right = [None if each.truth is None else self.correct(each) for each in predictions]
        return {} if all(each is None for each in right) else {CORRECT: right}

    def results(self, predictions: Sequence[Prediction]) -> Any:
        """Format predictions for the results file; by default a list of {id, prediction}."""
        return [{"id": each.id, "prediction": each.value} for each in predictions]


RowLayout: TypeAlias = Literal["images", "boxes", "parallel", "texts"]
STEP_LOSSES: Mapping[RowLayout, tuple[str, ...]] = {
    "images": ("itc", "itm", "mlm"),
    "boxes": ("itc", "itm", "mlm", "bbox", "giou"),
    "parallel": ("ttc", "ttm", "tlm"),
    "texts": ("mlm",),
}
"""The losses that the step computes for rows of pretraining, in the order in which they are logged."""


class PretrainingConfig(TaskConfig):
    """Settings of a stream of pretraining: its task draws rows, and the step computes `losses` for them.

    `layout` says what `Pretraining.draw` returns, by the fields of `TaskRow`:

    - images: one image, or the frames of a video (`videos`), with one text;
    - boxes: one image with any number of texts; `targets["bbox"]` has the box of each text, from `View.bbox`, and None
      for a text of the whole image. Each text becomes a row;
    - parallel: two texts of equal meaning; `targets["languages"]` has their codes;
    - texts: one text, cleaned as a text without an image is.

    `losses` are some of those that `STEP_LOSSES` has for the layout.
    """

    layout: ClassVar[RowLayout] = "images"
    losses: ClassVar[tuple[str, ...]] = STEP_LOSSES["images"]
    videos: ClassVar[bool] = False
    # Limits of evaluation; the stream has those of training.
    max_words: ClassVar[int] = 40  # type: ignore[misc]
    max_tokens: ClassVar[int] = 40  # type: ignore[misc]

    @property
    def required_languages(self) -> tuple[str, ...]:
        """Languages of which every record needs a text."""
        return ()

    @property
    def image_stream(self) -> str | None:
        """Name of the stream whose records and images it uses; only for the layout boxes."""
        return None

    def records(self, rows: int, block: int) -> int:
        """Number of records drawn for the rows of a step, a multiple of `block`; other than `rows` only for boxes."""
        return rows

    def scaled(self, factor: int) -> Self:
        """Settings for a batch of `factor` times the rows, as `x2kit bench` tries them."""
        return self

    def build(self) -> Pretraining:
        """Build the task of a run."""
        raise NotImplementedError

    def check(self, context: TaskContext) -> None:
        """Raise DataError: the losses of pretraining are no measure."""
        raise DataError(
            f"{self.component_name()} is pretraining and is not measured; measure Retrieval or Grounding, or another "
            "task: x2kit plugins --kind task"
        )


class Pretraining(Task):
    """Draw rows of pretraining; only `draw` is to be written, see `PretrainingConfig`."""

    config: PretrainingConfig

    def loss(
        self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        """Not called: the step computes the losses of pretraining, for all of its streams together."""
        raise NotImplementedError

    def predict(
        self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> Sequence[Any]:
        """Not called: pretraining is not measured."""
        raise NotImplementedError

    def measure(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """Not called: pretraining is not measured."""
        raise NotImplementedError
