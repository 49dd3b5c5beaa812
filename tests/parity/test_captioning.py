"""Captions by the masked-language model: recorded logits and losses of both training formats (tasks/captioning)."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from x2kit.model import X2VLM
from x2kit.model.captioning import caption_states, reading_order
from x2kit.model.x2vlm import picture_context
from x2kit.objectives import caption_loss

from .conftest import REFERENCE, record
from .evidence import check

TENSORS, FACTS = "tasks/captioning.safetensors", "tasks/captioning.json"
LOGITS, LOSS = 5e-5, 1e-5
FORMATS = ("plain", "fg_free")


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return load_file(REFERENCE / TENSORS)


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return json.loads((REFERENCE / FACTS).read_text())


@pytest.fixture(scope="module")
def model(tensors: dict[str, Tensor]) -> X2VLM:
    """The recorded model with the bias that makes ends likely."""
    bias = tensors["param.text_encoder.cls.predictions.bias"]
    return record("xvlm", more={"text_encoder.cls.predictions.decoder.bias": bias}).model


@pytest.fixture(scope="module")
def images() -> Tensor:
    return load_file(REFERENCE / "xvlm" / "image_batch.safetensors")["in.image"]


def inserted_masks(tensors: dict[str, Tensor], form: str) -> Tensor:
    """The mask tokens that stand in front of the tokens they ask for: all of the second format's."""
    places, counts = tensors[f"{form}.in.masked_pos"], tensors[f"{form}.in.masked_weight"]
    inserted = torch.zeros_like(tensors[f"{form}.in.text_ids_masked"])
    return inserted.scatter_add(1, places, counts * (form == "fg_free")).bool()


@pytest.mark.parametrize("form", FORMATS)
def test_what_each_token_sees_and_where_it_stands(tensors: dict[str, Tensor], form: str) -> None:
    sees, positions = reading_order(inserted_masks(tensors, form))
    check(TENSORS, f"{form}.in.attention_mask", sees.long(), tensors[f"{form}.in.attention_mask"])
    check(TENSORS, f"{form}.in.position_ids", positions, tensors[f"{form}.in.position_ids"])


@pytest.mark.parametrize("form", FORMATS)
def test_logits_and_loss(
    model: X2VLM, images: Tensor, tensors: dict[str, Tensor], facts: dict[str, Any], form: str
) -> None:
    given = {key.removeprefix(f"{form}."): value for key, value in tensors.items()}
    ids = given["in.text_ids_masked"]
    rows = torch.arange(len(ids))
    context = picture_context(model.encode_images(images[rows]), rows)
    states = caption_states(model, ids, inserted_masks(tensors, form), context)
    logits = model.mlm_head(states, given["in.masked_pos"])
    check(TENSORS, f"{form}.out.logits", logits, given["out.logits"], atol=LOGITS)
    loss = caption_loss(
        logits,
        given["in.masked_ids"],
        given["in.masked_weight"],
        facts["ignore_index_for_label_smoothing"],
        facts["label_smoothing"],
    )
    check(FACTS, f"{form}.loss", loss, facts[f"{form}.loss"], atol=LOSS)
