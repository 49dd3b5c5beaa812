"""Measure a task row by row: draw, encode, fuse, predict, compare, by language. Imports torch.

A broken record stops the evaluation, as skipping it would change the result. A record without a text in a language is
not measured in it.

B rows, L text tokens, D width, M distinct images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import chain
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from x2kit.data.media.threads import in_threads
from x2kit.data.pipeline.collation import pad_texts
from x2kit.data.pipeline.task_rows import EvaluationReader
from x2kit.data.transforms.view import stack_pixels
from x2kit.errors import DataError, Reason
from x2kit.model.device import copied
from x2kit.model.x2vlm import X2VLM, image_context
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.components import TaskConfig
from x2kit.plugin.encoders import VisionFeatures
from x2kit.plugin.sources import Record
from x2kit.plugin.tasks import CORRECT, FusedTexts, Prediction, RankedText, Task, TaskContext, TaskRow, Texts
from x2kit.plugin.toolkit.item_values import ItemValues

BATCHES_AHEAD = 2
"""Batches whose images wait for the model, at least."""
Rows = list[tuple[str, TaskRow]]
"""Record ids and rows of one language."""


@torch.inference_mode()
def measure_rows(config: TaskConfig, context: TaskContext) -> dict[str, Any]:
    """Predict all records in every language and measure the predictions.

    Each rank predicts whole batches. The predictions of each language are saved as `predictions-LANGUAGE`.

    Returns: `scores` by language, with `trained_with_images`; `score`, the name of the main one; its means.
    Raises: DataError for a broken record, or a language in which no record has a text.
    """
    with component_faults(config):
        task = config.build()
    predictions = _predict(task, context)
    if missing := [language for language, found in predictions.items() if not found]:
        raise DataError(f"no record of the split {context.split} has a text in {', '.join(missing)}")
    scores: dict[str, dict[str, Any]] = {}
    for language, found in predictions.items():
        with component_faults(config):
            measured, saved = task.measure(found), task.results(found)
        scores[language] = {**measured, "trained_with_images": language in context.trained_with_images}
        context.save(f"predictions-{language}", saved)
        if context.wants_items:
            _save_items(task, context, language, found, measured)
    return {"scores": scores, "score": config.score, **_means(scores, config.score)}


def _save_items(
    task: Task,
    context: TaskContext,
    language: str,
    found: Sequence[Prediction],
    measured: Mapping[str, Any],
) -> None:
    """Save the score of each prediction, with the chance level of the main score.

    "correct", what a task has without an `items` of its own, takes the name of the main score if that is its mean.
    """
    with component_faults(task.config):
        values = task.items(found)
    name, chance = task.config.score, measured.get("chance")
    if list(values) == [CORRECT] and _is_mean(measured.get(name), values[CORRECT]):
        values = {name: values[CORRECT]}
    if not values:
        return
    context.save_items(
        ItemValues(
            language,
            f"scores.{language}",
            [each.id for each in found],
            values,
            chance={} if chance is None or name not in values else {name: chance},
        )
    )


def _is_mean(score: Any, values: Sequence[float | None]) -> bool:
    known = [value for value in values if value is not None]
    return isinstance(score, int | float) and bool(known) and abs(fmean(known) - score) < 1e-9


def _means(scores: Mapping[str, Mapping[str, Any]], name: str) -> dict[str, float]:
    """Average over languages; a language without annotated records has no score."""
    measured = [row for row in scores.values() if row[name] is not None]
    groups = {
        "mean": measured,
        "mean_trained": [row for row in measured if row["trained_with_images"]],
        "mean_zero_shot": [row for row in measured if not row["trained_with_images"]],
    }
    return {group: fmean(row[name] for row in rows) for group, rows in groups.items() if rows}


def _predict(task: Task, context: TaskContext) -> dict[str, list[Prediction]]:
    """Predict the records of all ranks, in order, by language."""
    model: X2VLM = context.model
    total, size, ranks = len(context.source), context.batch_size, context.ranks
    batches = [range(start, min(start + size, total)) for start in range(0, total, size)]
    own = batches[ranks.rank * len(batches) // ranks.count : (ranks.rank + 1) * len(batches) // ranks.count]
    found: dict[str, list[Prediction]] = {language: [] for language in context.languages}
    done = 0
    batches_read = ([(index, context.source[index]) for index in batch] for batch in own)
    for rows in in_threads(partial(_draw_batch, task, context), batches_read, BATCHES_AHEAD):
        for language, predicted in predict_rows(task, model, rows).items():
            found[language] += predicted
        done = min(done + size, sum(map(len, own)))
        context.progress("records", done, sum(map(len, own)))
    return {
        language: list(chain.from_iterable(ranks.gather(of_language)))
        for language, of_language in found.items()
    }


def _draw_batch(task: Task, context: TaskContext, numbered: Sequence[tuple[int, Record]]) -> dict[str, Rows]:
    """Draw the rows of a batch of numbered records in every language, reading each image once."""
    model, max_words = context.model, task.config.max_words
    reader = EvaluationReader(model.image_spec, model.frames, max_words, only=len(context.languages) == 1)
    ids = [str(record.get("id", index)) for index, record in numbered]
    records = [record for _, record in numbered]
    return {language: draw_rows(task, records, ids, reader, language) for language in context.languages}


@torch.inference_mode()
def predict_records(
    config: TaskConfig, model: X2VLM, records: Sequence[Record], language: str = "", batch_size: int = 64
) -> list[Any]:
    """Predict records in Python, such as {"image": "dog.jpg", "question": "What is it?"}.

    Args:
        config: the task, such as `VQA(answer_list=("dog", "cat"))`.
        model: in evaluation mode, with the heads of the task.
        records: with the fields that the task predicts from; correct answers are not needed.
        language: of the texts, where they are {code: text}.
        batch_size: records in a batch.
    Returns: the prediction of each record.
    Raises: DataError, naming the record, if it is broken or has no text in the language.
    """
    with component_faults(config):
        task = config.build()
    reader = EvaluationReader(model.image_spec, model.frames, config.max_words)
    found: list[Prediction] = []
    for start in range(0, len(records), batch_size):
        part = records[start : start + batch_size]
        ids = [str(record.get("id", start + number)) for number, record in enumerate(part)]
        rows = draw_rows(task, part, ids, reader, language)
        if missing := set(ids).difference(id_ for id_, _ in rows):
            raise DataError(f"record {min(missing)}: no text in the language {language!r}")
        found += predict_rows(task, model, {language: rows})[language]
        reader.forget()
    return [each.value for each in found]


def draw_rows(
    task: Task, records: Sequence[Record], ids: Sequence[str], reader: EvaluationReader, language: str
) -> Rows:
    """Draw the rows of the records that have texts in a language."""
    reader.language = language
    rows: Rows = []
    for id_, record in zip(ids, records, strict=True):
        try:
            with component_faults(task.config):
                rows.append((id_, task.draw(record, reader)))
        except DataError as error:
            if error.reason != Reason.LANGUAGE_MISSING:
                raise DataError(f"record {id_}: {error}", reason=error.reason) from error
    return rows


def predict_rows(task: Task, model: X2VLM, rows: Mapping[str, Rows]) -> dict[str, list[Prediction]]:
    """Predict drawn rows by language; each distinct image is encoded once.

    Args:
        task: that drew the rows.
        model: in evaluation mode.
        rows: by language; few enough for one pass.
    """
    images = {
        id(image): image for of_language in rows.values() for _, row in of_language for image in row.images
    }
    if not images:
        return {language: [] for language in rows}
    features = encode_distinct(model, list(images.values()))
    place = {key: number for number, key in enumerate(images)}
    return {
        language: _predict_language(task, model, of_language, features, place) if of_language else []
        for language, of_language in rows.items()
    }


def _predict_language(
    task: Task, model: X2VLM, rows: Rows, features: VisionFeatures, place: Mapping[int, int]
) -> list[Prediction]:
    fused, targets = _fuse_drawn(task, model, [row for _, row in rows], features, place)
    with component_faults(task.config):
        values = task.predict(model, fused, targets)
    return [Prediction(id_, value, row.truth) for (id_, row), value in zip(rows, values, strict=True)]


def _fuse_drawn(
    task: Task, model: X2VLM, rows: Sequence[TaskRow], features: VisionFeatures, place: Mapping[int, int]
) -> tuple[list[FusedTexts], Mapping[str, Tensor]]:
    texts, targets = read_rows(task, model, rows)
    drawn = torch.tensor([[place[id(image)] for image in row.images] for row in rows], device=model.device)
    with component_faults(task.config):
        images, chosen = task.choose_images(model, features, drawn, targets)
    return fuse_rows(task, model, texts, features, images), chosen


@torch.inference_mode()
def rank_texts(
    task: Task, model: X2VLM, record: Record, count: int, given: Sequence[str] = ()
) -> list[RankedText]:
    """Rank the texts that a task gives for a record, such as {"image": "dog.jpg", "question": "What is it?"}.

    Args:
        task: with `TaskConfig.produces`.
        model: in evaluation mode, with the heads of the task.
        record: with an id, which errors name.
        count, given: as in `Task.rank`.
    Raises: DataError, naming the record, if it is broken.
    """
    reader = EvaluationReader(model.image_spec, model.frames, task.config.max_words)
    ((_, row),) = draw_rows(task, [record], [str(record["id"])], reader, "")
    place = {id(image): number for number, image in enumerate(row.images)}
    fused, targets = _fuse_drawn(task, model, [row], encode_distinct(model, row.images), place)
    with component_faults(task.config):
        (ranked,) = task.rank(model, fused, targets, count, given)
    return list(ranked)


def read_rows(task: Task, model: X2VLM, rows: Sequence[TaskRow]) -> tuple[list[Texts], dict[str, Tensor]]:
    """Tokenise, pad and collate rows; texts by place in the row and targets, on the model's device."""
    with component_faults(task.config):
        encoded = task.encode(rows, model.tokenizer, min(task.config.max_tokens, model.max_length))
        padded = [
            pad_texts([row.texts[number] for row in encoded], model.tokenizer.special.pad, model.max_length)
            for number in range(len(encoded[0].texts))
        ]
        texts, targets = task.collate(encoded, padded)
    on_device = {name: copied(target, model.device) for name, target in targets.items()}
    return [_to_device(one, model.device) for one in texts], on_device


def fuse_rows(
    task: Task, model: X2VLM, texts: Sequence[Texts], features: VisionFeatures, images: Tensor
) -> list[FusedTexts]:
    """Encode the texts of rows and fuse each pair of `TaskConfig.pairs`.

    Args:
        texts: by place in the row.
        features: of M distinct images.
        images: [B, I] int64, the images of each row, from `Task.choose_images`.
    """
    tokens = [model.encode_texts(one.ids, one.mask, one.positions) for one in texts]
    fused = []
    for text, image in task.config.pairs:
        context = image_context(features, images_at(images, image))
        pooled = len(images) if task.config.pooled else 0
        states = model.fuse(tokens[text], texts[text].mask, context, summary_rows=pooled)
        fused.append(FusedTexts(states, texts[text].mask, context))
    return fused


def _to_device(texts: Texts, device: torch.device) -> Texts:
    positions = None if texts.positions is None else copied(texts.positions, device)
    return texts._replace(ids=copied(texts.ids, device), mask=copied(texts.mask, device), positions=positions)


def images_at(images: Tensor, place: int | tuple[int, ...]) -> Tensor:
    """Select from image indices [B, I] those at a place, [B], or at K places, [B, K]."""
    if isinstance(place, int):
        return images[:, place]
    return torch.stack([images[:, one] for one in place], 1)


def encode_distinct(model: X2VLM, images: Sequence[Any]) -> VisionFeatures:
    """Encode images and videos, one call for each number of frames; features are in the order of the images."""
    parts: list[tuple[list[int], VisionFeatures]] = []
    frames = [len(image) if isinstance(image, list) else 0 for image in images]
    for count in sorted(set(frames)):
        places = [number for number, own in enumerate(frames) if own == count]
        flat = [images[number] for number in places]
        pixels = copied(stack_pixels(list(chain.from_iterable(flat)) if count else flat), model.device)
        features = model.encode_images(pixels)
        parts.append((places, model.pool_frames(features, count) if count else features))
    order = torch.tensor([number for places, _ in parts for number in places], device=model.device).argsort()
    summary = torch.cat([features.summary for _, features in parts])[order]
    patches = torch.cat([features.patches for _, features in parts])[order]
    return VisionFeatures(summary, patches, parts[0][1].grid)
