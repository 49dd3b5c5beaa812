"""The task AnswerClassification against the recording: images and videos (tasks_more/vqa_classification, video_qa)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from x2kit.data.pipeline.collation import pad_texts
from x2kit.model import X2VLM
from x2kit.model.x2vlm import image_context
from x2kit.plugin.tasks import FusedTexts, TaskRow
from x2kit.tasks.rows import encode_distinct, predict_rows
from x2kit.tasks.vqa.config import AnswerClassification

from .answering import IMAGES, task_files
from .conftest import REFERENCE, RecordedTokenizer, record
from .evidence import check

CLASSIFICATION = "tasks_more/vqa_classification.safetensors", "tasks_more/vqa_classification.json"
VIDEO = "tasks_more/video_qa.safetensors", "tasks_more/video_qa.json"
LOGITS, LOSS, GRADIENT = 2e-5, 1e-5, 1e-4
ABSENT = -100
"""Recorded class of an answer that is not in the list."""


class NumberTokenizer(RecordedTokenizer):
    """Reads recorded ids that are written as a text."""

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        return [[int(number) for number in text.split()] for text in texts]


class Questions(NamedTuple):
    """A recorded model with its answer head, and the rows of its questions."""

    model: X2VLM
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    rows: list[TaskRow]


def questions(files: tuple[str, str]) -> Questions:
    tensors, facts = load_file(REFERENCE / files[0]), json.loads((REFERENCE / files[1]).read_text())
    head = {
        name.removeprefix("param."): value for name, value in tensors.items() if name.startswith("param.")
    }
    recording = record(
        "xvlm", "in.frame_rows" in tensors, head, task_files("xvlm"), answers=facts["num_labels"]
    )
    model = recording.model.eval()
    model.text.tokenizer = NumberTokenizer(recording.config["text"])
    own = load_file(IMAGES)
    images = own.get("xvlm.in.image", load_file(REFERENCE / "xvlm" / "image_batch.safetensors")["in.image"])
    pictures = [np.asarray(image.permute(1, 2, 0)) for image in images]
    if "in.frame_rows" in tensors:
        visual: list[Any] = [
            [pictures[row] for row in frames] for frames in tensors["in.frame_rows"].tolist()
        ]
    else:
        visual = [pictures[row] for row in tensors["in.image_rows"].tolist()]
    lengths = tensors["in.text_atts"].sum(1).tolist()
    texts = [
        " ".join(map(str, ids[:length]))
        for ids, length in zip(tensors["in.text_ids"].tolist(), lengths, strict=True)
    ]
    answers = answers_of(tensors)
    rows = [
        TaskRow([image], [text], given, list(given))
        for image, text, given in zip(visual, texts, answers, strict=True)
    ]
    return Questions(model, tensors, facts, rows)


def answers_of(tensors: dict[str, Tensor]) -> list[dict[str, float]]:
    """The answers of each question, which are called by their class."""
    targets = [str(number) for number in tensors["in.targets"].tolist()]
    counts = tensors.get("in.answers_per_question", torch.ones(len(targets), dtype=torch.int64)).tolist()
    weights = tensors.get("in.weights", torch.ones(len(targets))).tolist()
    found, start = [], 0
    for count in counts:
        part = slice(start, start + count)
        found.append(dict(zip(targets[part], weights[part], strict=True)))
        start += count
    return found


def settings(asked: Questions, average: str) -> AnswerClassification:
    answers = tuple(str(number) for number in range(asked.facts["num_labels"]))
    return AnswerClassification(answer_list=answers, average=average)  # type: ignore[arg-type]


def loss(asked: Questions, average: str, rows: list[TaskRow]) -> Tensor:
    task, model = settings(asked, average).build(), asked.model
    encoded = task.encode(rows, model.tokenizer, model.max_length)
    padded = pad_texts([row.texts[0] for row in encoded], model.tokenizer.special.pad, model.max_length)
    (text,), targets = task.collate(encoded, [padded])
    features = encode_distinct(model, [row.images[0] for row in rows])
    context = image_context(features, torch.arange(len(rows)))
    states = model.fuse(model.encode_texts(text.ids, text.mask), text.mask, context)
    logits = model.answer_logits([states])
    if rows == asked.rows:
        name = VIDEO if average == "answered" else CLASSIFICATION
        check(name[0], "out.logits", logits, asked.tensors["out.logits"], atol=LOGITS)
    return task.loss(model, [FusedTexts(states, text.mask, context)], targets)["answer"]


@pytest.fixture(scope="module")
def images() -> Questions:
    return questions(CLASSIFICATION)


@pytest.fixture(scope="module")
def videos() -> Questions:
    return questions(VIDEO)


def test_weighted_answers_of_images(images: Questions) -> None:
    file = CLASSIFICATION[1]
    check(file, "loss", loss(images, "all", images.rows), images.facts["loss"], atol=LOSS)


def test_soft_answers_are_weights_of_all_classes(images: Questions) -> None:
    """The official divergence from soft answers is the cross-entropy less their entropy."""
    soft = images.tensors["in.soft_answer_logits"].softmax(1)
    rows = [
        row._replace(targets={str(number): float(share) for number, share in enumerate(shares)})
        for row, shares in zip(images.rows, soft, strict=True)
    ]
    entropy = -(soft * soft.log()).sum() / len(rows)
    found = loss(images, "all", rows) - entropy
    check(
        CLASSIFICATION[1],
        "loss_soft_answers",
        found,
        images.facts["loss_soft_answers"],
        atol=LOSS,
    )


def test_questions_about_videos(videos: Questions) -> None:
    file = VIDEO[1]
    videos.model.zero_grad()
    found = loss(videos, "answered", videos.rows)
    found.backward()
    check(file, "loss", found, videos.facts["loss"], atol=LOSS)
    own = {
        "grad.absolute_frame_pos_embed": videos.model.frame_positions.grad,
        "grad.cls_head.3.bias": videos.model.answer_head[3].bias.grad,
    }
    for name, gradient in own.items():
        check(VIDEO[0], name, gradient, videos.tensors[name], atol=GRADIENT)


def test_the_accuracy_counts_answers_outside_the_list_as_wrong(videos: Questions) -> None:
    assert (videos.tensors["in.targets"] == ABSENT).any()
    task = settings(videos, "answered").build()
    rows = [(str(number), row) for number, row in enumerate(videos.rows)]
    found = predict_rows(task, videos.model, {"en": rows})["en"]
    predicted = torch.tensor([int(each.value) for each in found])
    check(VIDEO[0], "out.pred", predicted, videos.tensors["out.pred"])
    accuracy = task.measure(found)["accuracy"]
    check(VIDEO[1], "accuracy", accuracy, videos.facts["accuracy"], atol=1e-6)


def test_rows_without_an_answer_of_the_list_have_no_loss(videos: Questions) -> None:
    """Deliberate: the official mean over no row is not a number."""
    rows = [row._replace(targets={"outside": 1.0}) for row in videos.rows]
    assert videos.facts["loss_when_all_targets_are_-100"] == "nan"
    assert loss(videos, "answered", rows) == 0
