"""Files of weights, damaged in ten thousand ways, give tensors or a WeightsError, and nothing else."""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.fuzzing import INPUTS, answered, damaged
from x2kit.plugin import WeightsError
from x2kit.plugin.toolkit.weights import read_checkpoint

TENSORS = {
    "layer.weight": torch.arange(6.0).view(2, 3),
    "layer.bias": torch.ones(2, dtype=torch.bfloat16),
    "ids": torch.arange(3),
}
BESIDE = {"epoch": 3, "config": {"names": ["a", None], "lr": 1e-4}, "args": argparse.Namespace(lr=1)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["safetensors", "zipped", "older"])
def test_weights(tmp_path: Path, kind: str) -> None:
    rng = random.Random(0)
    file = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pth")
    if kind == "safetensors":
        save_file(TENSORS, file, {"format": "pt"})
    else:
        torch.save({"model": TENSORS, **BESIDE}, file, _use_new_zipfile_serialization=kind == "zipped")
    sound = file.read_bytes()

    def read(content: bytes) -> None:
        file.write_bytes(content)
        read_checkpoint(file)

    good, bad = answered((damaged(sound, rng) for _ in range(INPUTS)), read, WeightsError)
    assert good + bad == INPUTS
    assert min(good, bad) > 10
