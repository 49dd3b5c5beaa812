"""Checks of the rows of tasks: what is built, drawn, tokenised and collated."""

from __future__ import annotations

import random
from collections.abc import Sequence
from copy import deepcopy
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from x2kit.data.pipeline.collation import pad_texts
from x2kit.errors import DataError
from x2kit.plugin.components import TaskConfig
from x2kit.plugin.sources import Record
from x2kit.plugin.tasks import STEP_LOSSES, EncodedRow, PretrainingConfig, Task, TaskRow, Texts
from x2kit.testing.claims import claim, claim_shape
from x2kit.testing.tasks.subject import TaskSubject, if_drawn, if_fused, modes, require_json
from x2kit.testing.tasks.tiny_model import LONGEST, Words


def it_can_be_used(subject: TaskSubject) -> None:
    """It draws rows (`build`) or measures by itself (`run`); its losses have names and its pairs places."""
    component = subject.component
    runs = type(component).run is not TaskConfig.run
    claim(subject.draws_rows or runs, "it has neither build() nor run(), so it can do nothing")
    losses = component.losses
    claim(subject.draws_rows or not losses, f"it has losses, {', '.join(losses)}, and no build()")
    claim(len(set(losses)) == len(losses), f"two losses have one name: {', '.join(losses)}")
    strange = [name for name in losses if not name.isidentifier()]
    claim(not strange, f"{', '.join(strange)}: a loss is logged as STREAM.NAME; use letters, digits and _")
    if isinstance(component, PretrainingConfig):
        unknown = [name for name in losses if name not in STEP_LOSSES[component.layout]]
        claim(
            not unknown,
            f"the step does not compute {', '.join(unknown)} for the layout {component.layout}; see STEP_LOSSES",
        )
    if subject.draws_rows:
        one, other = component.build(), component.build()
        claim(isinstance(one, Task), f"build() gives {type(one).__name__}, expected a Task")
        claim(one is not other, "build() returns the same task twice; each run needs a new one")
        claim(bool(component.pairs), "pairs is empty, so no text is fused with an image")


@if_drawn
def a_row_depends_on_its_record_and_generator(subject: TaskSubject) -> None:
    """A record gives the same row with the same generator, from another task and in another order.

    It draws no other random numbers and does not change the record.
    """
    kept, state = [_plain(record) for record in deepcopy(subject.records)], _random_state()
    backwards = range(len(subject.records))[::-1]
    for training in modes(subject):
        where = "in training" if training else "in evaluation"
        one, other = subject.rows(training), subject.rows(training, order=backwards)
        for number, (row, again) in enumerate(zip(one, other, strict=True)):
            for field in TaskRow._fields:
                claim(
                    _plain(getattr(row, field)) == _plain(getattr(again, field)),
                    f"{where} record {number} has other {field} when drawn again with the same generator; draw with "
                    "reader.rng and keep no state",
                )
    claim(_random_state() == state, "drawing changes the global random state; draw with reader.rng")
    changed = [number for number, record in enumerate(subject.records) if _plain(record) != kept[number]]
    claim(not changed, f"drawing changes the records {', '.join(map(str, changed))}")


@if_drawn
def a_missing_field_is_a_data_error(subject: TaskSubject) -> None:
    """A record without one of its fields is drawn, or raises DataError, so that it is skipped and counted."""
    task = subject.component.build()
    for training in modes(subject):
        for number, field in (
            (number, field) for number, record in enumerate(subject.records) for field in record
        ):
            broken = {name: value for name, value in subject.records[number].items() if name != field}
            try:
                subject.draw(task, cast("Record", broken), training)
            except DataError:
                pass
            except Exception as error:
                raise AssertionError(
                    f"without its {field} record {number} raises {type(error).__name__}: {error}; raise DataError, "
                    "which skips a record in training and names it in evaluation"
                ) from error


@if_fused
def rows_have_equal_parts(subject: TaskSubject) -> None:
    """Every row has as many images and texts as `pairs` needs, and as the others; its truth is a JSON value."""
    pairs = subject.component.pairs
    texts = 1 + max(text for text, _ in pairs)
    images = subject.component.drawn_images
    for training in modes(subject):
        rows = subject.rows(training)
        for number, row in enumerate(rows):
            claim(
                len(row.images) == len(rows[0].images) >= images,
                f"row {number} has {len(row.images)} images, row 0 {len(rows[0].images)}, and pairs names {images}",
            )
            claim(
                len(row.texts) == len(rows[0].texts) >= texts,
                f"row {number} has {len(row.texts)} texts, row 0 {len(rows[0].texts)}, and pairs names {texts}",
            )
            claim(all(isinstance(text, str) for text in row.texts), f"row {number} has a text that is no str")
            claim(
                all(_is_read(image) for image in row.images),
                f"row {number} has an image that is not from reader.image() or reader.video()",
            )
            if not training:
                require_json(f"truth of row {number}", row.truth)


@if_fused
def rows_become_tensors(subject: TaskSubject) -> None:
    """`encode` gives ids of each row, `collate` texts and targets with an entry for each row."""
    task, model = subject.component.build(), subject.model()
    limit = min(subject.component.max_tokens, LONGEST)
    assert isinstance(model.tokenizer, Words)
    for training in modes(subject):
        encoded = task.encode(subject.rows(training, task), model.tokenizer, limit)
        claim(
            len(encoded) == len(subject.records),
            f"encode() gives {len(encoded)} rows of {len(subject.records)}",
        )
        _require_ids(encoded, model.tokenizer.vocab_size)
        padded = [
            pad_texts([row.texts[place] for row in encoded], model.tokenizer.special.pad, LONGEST)
            for place in range(len(encoded[0].texts))
        ]
        texts, targets = task.collate(encoded, padded)
        _require_rows_first(texts, targets, len(encoded))


def _require_ids(encoded: Sequence[EncodedRow], vocab_size: int) -> None:
    for number, row in enumerate(encoded):
        claim(
            len(row.texts) == len(encoded[0].texts),
            f"encoded row {number} has {len(row.texts)} texts, row 0 has {len(encoded[0].texts)}",
        )
        for ids in row.texts:
            claim(bool(ids), f"encoded row {number} has a text without tokens")
            claim(
                all(isinstance(id_, int) and 0 <= id_ < vocab_size for id_ in ids),
                f"encoded row {number} has ids outside the vocabulary of {vocab_size}: {ids}",
            )


def _require_rows_first(texts: Sequence[Texts], targets: dict[str, Tensor], rows: int) -> None:
    for place, text in enumerate(texts):
        shape = (rows, text.ids.shape[-1])
        claim_shape(f"ids of text {place}", text.ids, shape, "[B, L]")
        if text.positions is None:
            claim_shape(f"mask of text {place}", text.mask, shape, "[B, L]")
        else:
            claim_shape(f"positions of text {place}", text.positions, shape, "[B, L]")
            claim_shape(f"mask of text {place}", text.mask, (*shape, shape[1]), "[B, L, L]")
        claim(text.mask.dtype == torch.bool, f"mask of text {place} is {text.mask.dtype}, expected bool")
    for name, target in targets.items():
        claim(isinstance(target, Tensor), f"target {name} is {type(target).__name__}, expected a tensor")
        claim(
            target.ndim > 0 and len(target) == rows,
            f"target {name} is {list(target.shape)}, expected [B, ...] = [{rows}, ...]: a step is split into rows",
        )


def _is_read(image: Any) -> bool:
    frames = image if isinstance(image, list) else [image]
    return bool(frames) and all(isinstance(frame, np.ndarray) and frame.ndim == 3 for frame in frames)


def _plain(value: Any) -> Any:
    """Convert a value of records and rows to one that can be compared."""
    if hasattr(value, "tobytes"):
        return value.tobytes()
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value


def _random_state() -> Any:
    return torch.get_rng_state().tolist(), random.getstate(), _plain(list(np.random.get_state()))


LAWS = (
    it_can_be_used,
    a_row_depends_on_its_record_and_generator,
    a_missing_field_is_a_data_error,
    rows_have_equal_parts,
    rows_become_tensors,
)
