"""The losses of the recorded batches are those of the official implementation (reference README: within 1e-5)."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from x2kit.data.batch import Batch
from x2kit.data.config import LOSSES, LossName
from x2kit.objectives import contrastive_logits, itc_loss, negative_weights
from x2kit.training.step import Negatives, step_losses

from .conftest import Recording, image_batch, parallel_batch, record, region_batch

SINGLE_LOSS = 1e-5
WEIGHTS = 1e-5
GRADIENT_NORM = 1e-4

OFFICIAL_NAMES: dict[LossName, str] = {"ttc": "loss_ttc", "ttm": "loss_ttm", "tlm": "loss_mlm"}


def losses_of(
    recording: Recording, file: str, make: object, kind: str, **settings: bool
) -> tuple[Batch, dict[str, torch.Tensor]]:
    batch = recording.tensors(file)
    step = make(batch, **settings)  # type: ignore[operator]
    ((stream, _),) = step.streams.items()
    if kind == "parallel-text":
        negatives = Negatives(batch["in.first_text_neg_idx"], batch["in.second_text_neg_idx"])
    else:
        negatives = Negatives(batch["in.image_neg_idx"], batch["in.text_neg_idx"])
    losses = step_losses(recording.model, step, {stream: LOSSES[kind]}, {stream: negatives})  # type: ignore[index]
    return step, {OFFICIAL_NAMES.get(name, f"loss_{name}"): value for name, value in losses[stream].items()}


def expected(recording: Recording, prefix: str) -> dict[str, float]:
    values = recording.json("losses")["losses"]
    return {
        name.removeprefix(f"{prefix}."): value
        for name, value in values.items()
        if name.startswith(f"{prefix}.")
    }


def assert_losses(found: dict[str, torch.Tensor], recorded: dict[str, float]) -> None:
    assert recorded, "nothing was recorded under this name"
    assert set(found) == set(recorded)
    for name, value in recorded.items():
        assert_close(found[name].item(), value, rtol=0, atol=SINGLE_LOSS, msg=lambda m, n=name: f"{n}: {m}")


def test_image_batch(recording: Recording) -> None:
    _, found = losses_of(recording, "image_batch", image_batch, "image-text")
    assert_losses(found, expected(recording, "image"))


def test_region_batch(recording: Recording) -> None:
    _, found = losses_of(recording, "region_batch", region_batch, "region-text")
    assert_losses(found, expected(recording, "region"))


def test_region_batch_when_every_row_has_a_box(recording: Recording) -> None:
    _, found = losses_of(recording, "region_batch", region_batch, "region-text", all_count=True)
    assert_losses(found, expected(recording, "region_no_is_image"))


def test_parallel_texts() -> None:
    recording = record("cclm")
    _, found = losses_of(recording, "para_text_batch", parallel_batch, "parallel-text")
    assert_losses(found, expected(recording, "para_text"))


def test_contrastive_loss_with_rows_that_are_positives_of_each_other(recording: Recording) -> None:
    batch = recording.tensors("image_batch")
    logits = contrastive_logits(batch["out.image_feat"], batch["out.text_feat"], recording.model.temperature)
    loss = itc_loss(logits, batch["out.itc_idx"])
    recorded = recording.json("losses")["losses"]["loss_itc_idx"]
    assert_close(loss.item(), recorded, rtol=0, atol=SINGLE_LOSS)


@pytest.mark.parametrize("grouped", [False, True])
def test_weights_of_hard_negatives(recording: Recording, grouped: bool) -> None:
    batch = recording.tensors("image_batch")
    logits, group = batch["out.similarity_over_temp"], batch["out.itc_idx"] if grouped else None
    end = "_idx" if grouped else ""
    for direction, found in (("text", logits), ("image", logits.T)):
        weights = negative_weights(found, group)
        assert_close(weights, batch[f"out.weights_for_{direction}_negatives{end}"], rtol=0, atol=WEIGHTS)


def test_gradient_norms_of_the_sum_of_all_losses(recording: Recording) -> None:
    recorded = recording.json("losses")
    _, losses = losses_of(recording, "image_batch", image_batch, "image-text")
    total = sum(losses.values())
    _, losses = losses_of(recording, "region_batch", region_batch, "region-text")
    total = total + sum(losses.values())
    if "para_text.loss_ttc" in recorded["losses"]:
        _, losses = losses_of(recording, "para_text_batch", parallel_batch, "parallel-text")
        total = total + sum(losses.values())
    assert_close(total.item(), recorded["losses"]["total"], rtol=0, atol=1e-4)
    total.backward()
    parameters = dict(recording.model.named_parameters())
    compared = 0
    for own, names in recording.names.items():
        if own not in parameters or any(name not in recorded["grad_l2_norm"] for name in names):
            continue
        if names[0].endswith("key.bias"):  # zero in exact arithmetic, here together with the value's
            continue
        norm = sum(recorded["grad_l2_norm"][name] ** 2 for name in names) ** 0.5
        gradient = parameters[own].grad
        assert gradient is not None, own
        assert_close(gradient.norm().item(), norm, rtol=GRADIENT_NORM, atol=1e-6, msg=lambda m, n=own: f"{n}: {m}")
        compared += 1
    assert compared > len(parameters) / 2
