"""Answer questions about images and describe them, by the tasks of the model's recipe. Imports torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from x2kit.errors import HeadError, X2KitError
from x2kit.inference.inputs import input_name, is_video
from x2kit.inference.one_image import encode_one
from x2kit.inference.results import Answer, Description, Scored
from x2kit.model.inputs import ImageInput, eight_bits
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.tasks import Task
from x2kit.tasks.rows import rank_texts

if TYPE_CHECKING:
    from x2kit.inference.model import Model

ANSWERING = "quickstart/questions, finetune/vqa-base"
DESCRIBING = "quickstart/captions, finetune/captioning-base"
"""Shipped recipes that train a model for it."""


def answer(
    model: Model,
    image: ImageInput,
    question: str,
    answers: Sequence[str] | None,
    count: int,
    matching: bool,
) -> Answer:
    """Answer a question; see `Model.answer`."""
    name = input_name(image, 0)
    if matching:
        return Answer(name, question, _match(model, image, question, answers or (), count))
    task = _task(
        model,
        "answer",
        f"answers no questions: no task of its recipe reads a decoder or an answer head; recipes that train one: "
        f"{ANSWERING}. answer(..., answers=[...], matching=True) ranks "
        "answers by the matching head instead",
    )
    found = _rank(model, task, image, {"question": question}, count, tuple(answers or ()))
    return Answer(name, question, found)


def describe(model: Model, image: ImageInput, prompt: str | None, count: int) -> Description:
    """Describe an image; see `Model.describe`."""
    task = _task(
        model,
        "description",
        f"writes no captions: no task of its recipe does; recipes that train one: {DESCRIBING}",
    )
    found = _rank(model, task, image, {}, count, () if prompt is None else (prompt,))
    return Description(input_name(image, 0), prompt, found)


def _task(model: Model, produces: str, lack: str) -> Task:
    """Return the task that gives such texts, built once. Raises HeadError, with the lack, if there is none."""
    with model.tokenizing:
        if produces not in model.built_tasks:
            found = model.tasks.find(produces) if model.tasks else None
            if found is None:
                raise HeadError(f"{model.name}: this model {lack}")
            with component_faults(found):
                model.built_tasks[produces] = found.build()
        return model.built_tasks[produces]


def _rank(
    model: Model, task: Task, image: ImageInput, fields: dict[str, Any], count: int, given: tuple[str, ...]
) -> list[Scored]:
    if count < 1:
        raise X2KitError(f"count: expected 1 or more, found {count}")
    record: Any = {"id": input_name(image, 0), **_visual(model, image), **fields}
    with model.tokenizing, model.computing(model.module):
        return [Scored(*text) for text in rank_texts(task, model.module, record, count, given)]


def _visual(model: Model, image: ImageInput) -> dict[str, Any]:
    """Return the fields of a record with an image or a video."""
    if is_video(image):
        return {"video": image if isinstance(image, str | Path) else list(image)}
    return {"image": eight_bits(image, model.reader.spec.value_range is None)}


def _match(
    model: Model, image: ImageInput, question: str, answers: Sequence[str], count: int
) -> list[Scored]:
    """Rank answers by the log-odds that question and answer match the image, as multiple-choice training does."""
    model.require_part("itm")
    if not answers:
        raise X2KitError("answer(..., matching=True) ranks given answers: pass answers=[...]")
    texts = [f"{question} {each}" for each in answers]
    with model.computing(model.module):
        one = encode_one(model, image, texts)
        fused = model.module.fuse(one.tokens, one.mask, one.context(), summary_rows=len(texts))
        logits = model.module.itm_logits(fused)
    likely, order = (logits[:, 1] - logits[:, 0]).softmax(0).sort(descending=True, stable=True)
    return [
        Scored(answers[row], probability)
        for row, probability in zip(order[:count].tolist(), likely[:count].tolist(), strict=True)
    ]
