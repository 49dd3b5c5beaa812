"""Generated and ranked answers of a decoder against the recording (tasks/vqa_generation)."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from x2kit.model import X2VLM
from x2kit.model.generation.answers import rank_answers
from x2kit.model.x2vlm import image_context
from x2kit.objectives import written_answer_loss
from x2kit.training.config import TrainingConfig
from x2kit.training.optim.optimizer import parameter_groups

from .conftest import REFERENCE, record
from .evidence import check, check_equal

TENSORS, FACTS = "tasks/vqa_generation.safetensors", "tasks/vqa_generation.json"
STATES, LOGITS, PROBABILITIES = 2e-5, 5e-5, 1e-5
LOSS = 1e-5
"""Relative: this loss is a sum over tokens, not a mean."""


class Asked(NamedTuple):
    """The recorded model with its decoder, and its questions about images."""

    model: X2VLM
    tensors: dict[str, Tensor]
    facts: dict[str, Any]
    states: Tensor
    mask: Tensor


@pytest.fixture(scope="module")
def asked() -> Asked:
    tensors, facts = load_file(REFERENCE / TENSORS), json.loads((REFERENCE / FACTS).read_text())
    source = load_file(REFERENCE / "xvlm" / "model.safetensors")
    decoder = {
        target: source[origin]
        for target, origin in facts["target_to_source"].items()
        if target.startswith("text_decoder.")
    }
    decoder |= {
        key.removeprefix("param."): value for key, value in tensors.items() if key.startswith("param.")
    }
    model = record("xvlm", more=decoder, decoder_layers=facts["num_decoder_layers"]).model.eval()
    images = load_file(REFERENCE / "xvlm" / "image_batch.safetensors")["in.image"]
    ids, mask = tensors["in.question_ids"], tensors["in.question_atts"].bool()
    features = model.encode_images(images[tensors["in.image_rows"]])
    context = image_context(features, torch.arange(len(ids)))
    return Asked(model, tensors, facts, model.fuse(model.encode_texts(ids, mask), mask, context), mask)


def test_states_of_the_questions(asked: Asked) -> None:
    check(TENSORS, "out.question_states", asked.states, asked.tensors["out.question_states"], atol=STATES)


def test_the_first_token(asked: Asked) -> None:
    opening = torch.full((len(asked.states), 1), asked.model.tokenizer.special.cls)
    logits = asked.model.decoder(opening, opening > 0, asked.states, asked.mask)[:, 0]
    check(TENSORS, "out.first_token_logits", logits, asked.tensors["out.first_token_logits"], atol=LOGITS)


def test_the_loss_of_written_answers(asked: Asked) -> None:
    counts = asked.tensors["in.train_answers_per_question"]
    ids, mask = asked.tensors["in.train_answer_ids"], asked.tensors["in.train_answer_atts"].bool()
    logits = asked.model.decoder(
        ids, mask, asked.states.repeat_interleave(counts, 0), asked.mask.repeat_interleave(counts, 0)
    )
    loss = written_answer_loss(logits, ids, mask, len(counts), asked.tensors["in.train_answer_weights"])
    check(FACTS, "loss", loss, asked.facts["loss"], rtol=LOSS)


def test_the_ranking_of_candidates(asked: Asked) -> None:
    ids, mask = asked.tensors["in.candidate_answer_ids"], asked.tensors["in.candidate_answer_atts"].bool()
    names = [name.removesuffix(".topk_ids") for name in asked.tensors if name.endswith(".topk_ids")]
    assert names
    for name in names:
        rows, probability = asked.tensors[f"{name}.topk_ids"], asked.tensors[f"{name}.topk_probs"]
        found = rank_answers(asked.model.decoder, asked.states, asked.mask, ids, mask, rows.shape[1])
        certain = ~tie_at_cut(ids[:, 1], rows)
        check(TENSORS, f"{name}.topk_ids", found.rows[certain], rows[certain])
        check(
            TENSORS,
            f"{name}.topk_probs",
            found.probability[certain],
            probability[certain],
            atol=PROBABILITIES,
        )
        first = f"{name}.topk_ids, first tokens"
        check(TENSORS, first, ids[found.rows, 1].sort(1).values, ids[rows, 1].sort(1).values)


def tie_at_cut(first: Tensor, chosen: Tensor) -> Tensor:
    """Whether an answer that is not among those chosen [Q, K] has the first token of one that is: [Q] bool.

    Which of them are scored depends on torch's sort in the official code, and on the list here.
    """
    found = []
    for row in chosen:
        left = torch.ones(len(first), dtype=torch.bool).index_fill(0, row, False)
        found.append(bool(torch.isin(first[left], first[row]).any()))
    return torch.tensor(found)


def test_the_whole_decoder_has_the_rate_of_new_tensors(asked: Asked) -> None:
    check_equal(
        FACTS,
        "init_params_with_large_lr_for_dec",
        asked.facts["init_params_with_large_lr_for_dec"],
        "all text_decoder parameters",
    )
    groups = parameter_groups(asked.model, TrainingConfig(lr=1.0, lr_mult=2.0, steps=1))
    new = {name for group in groups if group["peak"] == 2.0 for name in group["names"]}  # type: ignore[attr-defined]
    assert {f"decoder.{name}" for name, _ in asked.model.decoder.named_parameters()} <= new
