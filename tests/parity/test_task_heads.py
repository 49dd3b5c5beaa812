"""The recorded heads of tasks: grounding, two-image reasoning (NLVR2), answers by classification (tasks/heads)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from x2kit.model import X2VLM
from x2kit.model.x2vlm import image_context
from x2kit.objectives import bbox_loss, chosen_answer_loss, giou_loss

from .conftest import REFERENCE, record, texts_of
from .evidence import check

OUTPUTS, LOSSES = "tasks/heads.safetensors", "tasks/heads.json"
LOGITS, BOXES, LOSS = 2e-5, 1e-5, 1e-5


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return load_file(REFERENCE / OUTPUTS)


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return json.loads((REFERENCE / LOSSES).read_text())


@pytest.fixture(scope="module")
def batch() -> dict[str, Tensor]:
    return load_file(REFERENCE / "xvlm" / "image_batch.safetensors")


def answering(tensors: dict[str, Tensor], task: str, images: int = 1) -> X2VLM:
    """The recorded model with the answer head of a task."""
    begin = f"{task}.param."
    head = {key.removeprefix(begin): value for key, value in tensors.items() if key.startswith(begin)}
    answers = len(tensors[f"{begin}cls_head.3.bias"])
    return record("xvlm", more=head, answers=answers, answer_images=images).model


def fused(model: X2VLM, batch: dict[str, Tensor], images: Tensor, rows: Tensor) -> Tensor:
    """Texts of some rows that look at the images of others."""
    texts = texts_of(batch)
    features = model.encode_images(batch["in.image"][images])
    context = image_context(features, torch.arange(len(images)))
    return model.fuse(model.encode_texts(texts.ids[rows], texts.mask[rows]), texts.mask[rows], context)


def test_grounding(tensors: dict[str, Tensor], recorded: dict[str, Any], batch: dict[str, Tensor]) -> None:
    model = record("xvlm").model
    target = tensors["grounding.in.target_bbox"]
    rows = torch.arange(len(target))
    found = model.predict_bbox(fused(model, batch, rows, rows))
    check(OUTPUTS, "grounding.out.boxes", found, tensors["grounding.out.boxes"], atol=BOXES)
    for name, loss in (("loss_bbox", bbox_loss), ("loss_giou", giou_loss)):
        check(LOSSES, f"grounding.{name}", loss(found, target), recorded["grounding"][name], atol=LOSS)


def test_reasoning_about_two_images(
    tensors: dict[str, Tensor], recorded: dict[str, Any], batch: dict[str, Tensor]
) -> None:
    targets = tensors["nlvr.in.targets"]
    model = answering(tensors, "nlvr", images=2)
    rows = torch.arange(len(targets))
    found = model.answer_logits([fused(model, batch, rows + len(rows) * place, rows) for place in range(2)])
    check(OUTPUTS, "nlvr.out.logits", found, tensors["nlvr.out.logits"], atol=LOGITS)
    check(LOSSES, "nlvr.loss", chosen_answer_loss(found, targets), recorded["nlvr"]["loss"], atol=LOSS)


def test_answers_chosen_from_a_list(
    tensors: dict[str, Tensor], recorded: dict[str, Any], batch: dict[str, Tensor]
) -> None:
    task = recorded["vqa_classification"]
    model = answering(tensors, "vqa_classification")
    counts = torch.tensor(task["answers_per_question"])
    rows = torch.arange(len(counts))
    found = model.answer_logits([fused(model, batch, rows, rows)])
    check(
        OUTPUTS,
        "vqa_classification.out.logits",
        found,
        tensors["vqa_classification.out.logits"],
        atol=LOGITS,
    )
    loss = chosen_answer_loss(
        found,
        tensors["vqa_classification.in.targets"],
        rows.repeat_interleave(counts),
        tensors["vqa_classification.in.weights"],
    )
    check(LOSSES, "vqa_classification.loss", loss, task["loss"], atol=LOSS)
    check(LOSSES, "vqa_classification.num_labels", found.shape[1], task["num_labels"])
