"""Compute the recorded gradients and training run of the image-text model with `plain_model`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from .plain_model import PlainModel, Tensors

STREAMS = {"image": "image_iter_perc", "region": "region_iter_perc"}
"""The streams of the run, and what the weight of each is called in its settings."""


def recorded_batch(folder: Path, number: int, stream: str) -> Tensors:
    """The inputs of a stream in one of the two batches of the run."""
    if number == 0:
        tensors, prefix = load_file(folder / f"{stream}_batch.safetensors"), "in."
    else:
        tensors, prefix = load_file(folder / "train_batch1.safetensors"), f"{stream}."
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def negatives(recorded: Mapping[str, Any], prefix: str = "") -> Tensors:
    return {kind: torch.as_tensor(recorded[f"{prefix}{kind}_neg_idx"]) for kind in ("image", "text")}


def plain_model(folder: Path, dtype: torch.dtype) -> PlainModel:
    config = json.loads((folder / "config.json").read_text())
    return PlainModel(load_file(folder / "model.safetensors"), config, dtype)


def gradient_norms(folder: Path, dtype: torch.dtype) -> dict[str, float]:
    """The norm of every parameter's gradient of the sum of all losses."""
    model, total = plain_model(folder, dtype), []
    for stream in STREAMS:
        batch = recorded_batch(folder, 0, stream)
        total += model.losses(batch, negatives(batch)).values()
    torch.stack(total).sum().backward()  # type: ignore[no-untyped-call]
    return {name: _gradient(value).norm().item() for name, value in model.parameters.items()}


def train(folder: Path, dtype: torch.dtype) -> tuple[list[dict[str, Any]], Tensors]:
    """Train as `train_log.json` says.

    Returns: what it logs of each step, where the negatives and rates are the recorded ones, and the final parameters.
    """
    log = json.loads((folder / "train_log.json").read_text())
    table = json.loads((folder / "param_groups.json").read_text())["pretraining"]["table"]
    settings, model, found = log["settings"], plain_model(folder, dtype), []
    parameters = model.parameters
    averages = {
        name: (torch.zeros_like(value), torch.zeros_like(value)) for name, value in parameters.items()
    }
    with torch.no_grad():
        parameters["temp"].fill_(settings["temp_init"])
    for recorded in log["steps"]:
        with torch.no_grad():
            parameters["temp"].clamp_(*settings["temp_clamp"])
        step = {**recorded, "temp_before_forward": parameters["temp"].item()}
        total = []
        for stream, weight in STREAMS.items():
            prefix = "" if stream == "image" else f"{stream}_"
            batch = recorded_batch(folder, recorded["batch"], stream)
            losses = model.losses(batch, negatives(recorded, prefix))
            step[stream] = {name: value.item() for name, value in losses.items()}
            total += [value * settings[weight] for value in losses.values()]
        loss = torch.stack(total).sum()
        for value in parameters.values():
            value.grad = None
        loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.stack([_gradient(value).norm() for value in parameters.values()]).norm()
        step |= {"loss_total": loss.item(), "grad_norm_before_clip": norm.item()}
        found.append(step)
        for name, value in parameters.items():
            gradient = _gradient(value) * min(1.0, settings["clip"] / (norm.item() + 1e-6))
            rate, decay = recorded["lr"][table[name]["group"]], table[name]["weight_decay"]
            _update(value, gradient, averages[name], recorded["step"] + 1, rate, decay, settings)
    return found, {name: value.detach() for name, value in parameters.items()}


@torch.no_grad()
def _update(
    value: Tensor,
    gradient: Tensor,
    averages: tuple[Tensor, Tensor],
    count: int,
    rate: float,
    decay: float,
    settings: Mapping[str, Any],
) -> None:
    """Adam and then decay, as the official code has it (tests/reference: the update rule of the run)."""
    (first, second), (mean, square) = settings["betas"], averages
    mean.mul_(first).add_(gradient, alpha=1 - first)
    square.mul_(second).addcmul_(gradient, gradient, value=1 - second)
    size = rate * (1 - second**count) ** 0.5 / (1 - first**count)
    value.addcdiv_(mean, square.sqrt() + settings["eps"], value=-size)
    value.mul_(1 - rate * decay)


def _gradient(value: Tensor) -> Tensor:
    return torch.zeros_like(value) if value.grad is None else value.grad
