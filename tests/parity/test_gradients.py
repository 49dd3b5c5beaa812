"""Gradients of the sum of all losses: the norm of every parameter's, and some of them element by element."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from .conftest import Recording
from .evidence import check, check_equal
from .steps import all_losses, video_losses

RELATIVE = 1e-4
"""Of a norm, or of the largest element."""
NOISE = 1e-6
ZERO = 1e-4
"""Key biases have no gradient in exact arithmetic; what is recorded of theirs is rounding."""


def limits(name: str) -> dict[str, float]:
    return {"atol": ZERO} if name.endswith("key.bias") else {"atol": NOISE, "rtol": RELATIVE}


def own_gradients(recording: Recording) -> dict[str, Tensor]:
    """The gradients by official name; parameters without one are left out."""
    own = {name: p.grad for name, p in recording.model.named_parameters() if p.grad is not None}
    return recording.by_official_name(own)


@pytest.fixture
def differentiated(recording: Recording) -> Recording:
    torch.stack(list(all_losses(recording).values())).sum().backward()
    return recording


def test_norms(differentiated: Recording) -> None:
    recorded, found = differentiated.json("losses"), own_gradients(differentiated)
    file = f"{differentiated.folder.name}/losses.json"
    for kind in ("grad_l2_norm", "grad_l2_norm_float64"):
        for name, norm in recorded[kind].items():
            check(file, f"{kind}.{name}", found[name].norm(), norm, **limits(name))


def test_no_parameter_is_left_out(differentiated: Recording) -> None:
    """The recorded names, with those that are tied to them, are all the parameters that there are."""
    recorded = differentiated.json("losses")
    everything = {name: torch.zeros_like(p) for name, p in differentiated.model.named_parameters()}
    names = recorded["grad_l2_norm"].keys() | set(recorded["no_grad"])
    twins = {name for tied in differentiated.config["tied"] if names & set(tied) for name in tied}
    assert set(differentiated.by_official_name(everything)) | twins == names | twins


def test_parameters_without_gradient(differentiated: Recording) -> None:
    recorded = differentiated.json("losses")["no_grad"]
    without = {name: p for name, p in differentiated.model.named_parameters() if p.grad is None}
    found = sorted(differentiated.by_official_name(without))
    check_equal(f"{differentiated.folder.name}/losses.json", "no_grad", found, sorted(recorded))


def test_elements(differentiated: Recording) -> None:
    found = own_gradients(differentiated)
    recorded = differentiated.tensors("gradients")
    assert recorded
    for name, gradient in recorded.items():
        own = found[name.removeprefix("grad.")]
        file = f"{differentiated.folder.name}/gradients.safetensors"
        check(file, name, own, gradient, **limits(name))


def test_frame_positions() -> None:
    recording, losses = video_losses()
    torch.stack(list(losses.values())).sum().backward()
    batch, found = recording.tensors("video_batch"), own_gradients(recording)
    names = [name for name in batch if name.startswith("grad.")]
    assert names
    for name in names:
        own = found[name.removeprefix("grad.")]
        check("xvlm/video_batch.safetensors", name, own, batch[name], **limits(name))
