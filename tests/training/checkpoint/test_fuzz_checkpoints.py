"""Randomly damaged checkpoints give a state or a CheckpointError, nothing else."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fuzzing import INPUTS, answered, damaged
from x2kit.errors import CheckpointError
from x2kit.training.checkpoint.checkpoints import read_state, save_checkpoint
from x2kit.training.checkpoint.checksums import write_checksums

STATE: dict[str, Any] = {
    "step": 7,
    "model": {"weight": torch.arange(6.0).view(2, 3), "count": torch.tensor(3)},
    "optimizer": {"state": {0: {"exp_avg": torch.ones(6)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
    "bad_records": {"seen": 100, "broken": 1, "counts": []},
}


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    return save_checkpoint(tmp_path, 7, STATE, {"step": 7, "loss": 1.5})


def test_a_damaged_key_is_refused(checkpoint: Path) -> None:
    sound = (checkpoint / "state.pt").read_bytes()
    (checkpoint / "state.pt").write_bytes(sound.replace(b"exp_avg", b"exp\xdcavg"))
    write_checksums(checkpoint, {})
    with pytest.raises(CheckpointError, match=f"{checkpoint}: damaged: 'utf-8' codec can't decode"):
        read_state(checkpoint)


@pytest.mark.slow
def test_a_damaged_state_with_a_valid_checksum(checkpoint: Path) -> None:
    rng = random.Random(0)
    sound = (checkpoint / "state.pt").read_bytes()

    def read(content: bytes) -> None:
        (checkpoint / "state.pt").write_bytes(content)
        write_checksums(checkpoint, {})
        read_state(checkpoint)

    good, bad = answered((damaged(sound, rng) for _ in range(INPUTS)), read, CheckpointError)
    assert good + bad == INPUTS
    assert min(good, bad) > 10


@pytest.mark.slow
def test_a_damaged_file_with_any_checksum(checkpoint: Path) -> None:
    rng = random.Random(1)
    sound = {file.name: file.read_bytes() for file in checkpoint.iterdir()}
    assert set(sound) == {"state.pt", "metrics.json", "SHA256SUMS"}

    def read(name: str) -> None:
        changed = damaged(sound[name], rng)
        (checkpoint / name).write_bytes(changed)
        try:
            found = read_state(checkpoint)
        finally:
            (checkpoint / name).write_bytes(sound[name])
        assert changed == sound[name] or name == "SHA256SUMS"
        assert torch.equal(found["model"]["weight"], STATE["model"]["weight"])

    good, bad = answered((rng.choice([*sound]) for _ in range(INPUTS)), read, CheckpointError)
    assert good + bad == INPUTS
    assert bad > good > 10
