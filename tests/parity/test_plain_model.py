"""The naive model agrees with the recording, so it can replace one for other depths."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from torch.testing import assert_close

from .conftest import REFERENCE
from .plain_run import gradient_norms, train

FOLDER = REFERENCE / "xvlm"


@pytest.mark.parametrize(
    ("dtype", "kind"), [(torch.float32, "grad_l2_norm"), (torch.float64, "grad_l2_norm_float64")]
)
def test_norms_of_gradients(dtype: torch.dtype, kind: str) -> None:
    recorded, found = json.loads((FOLDER / "losses.json").read_text())[kind], gradient_norms(FOLDER, dtype)
    assert found.keys() == recorded.keys()
    for name, norm in recorded.items():
        assert found[name] == pytest.approx(norm, rel=1e-4, abs=1e-4), name


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_training_run(dtype: torch.dtype) -> None:
    log = json.loads((FOLDER / "train_log.json").read_text())
    steps, parameters = train(FOLDER, dtype)
    for found, recorded in zip(steps, log["steps"], strict=True):
        for stream in ("image", "region"):
            assert found[stream] == pytest.approx(recorded[stream], abs=1e-4)
        assert found["grad_norm_before_clip"] == pytest.approx(recorded["grad_norm_before_clip"], rel=1e-4)
    if dtype == torch.float64:
        assert [step["loss_total"] for step in steps] == pytest.approx(log["losses_total_float64"], abs=1e-6)
    final = load_file(FOLDER / "train_final.safetensors")
    assert parameters.keys() == final.keys()
    largest = max(rate for step in log["steps"] for rate in step["lr"])
    for name, value in parameters.items():
        atol = largest if name.endswith("key.bias") else 2e-5
        assert_close(value.float(), final[name], rtol=0, atol=atol, msg=name)
