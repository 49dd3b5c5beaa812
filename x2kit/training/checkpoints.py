"""Checkpoints of a run: they appear whole or not at all. Imports torch.

    checkpoints/step-000400/
      state.pt       model, optimiser, step; tensors and plain values only
      checksum       SHA-256 of state.pt

Order, draws and masks are functions of (seed, step), so the step number alone resumes them.
"""

from __future__ import annotations

import hashlib
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch

from x2kit.errors import CheckpointError
from x2kit.model.whole_files import appears_whole

CHECKPOINTS, STATE, CHECKSUM = "checkpoints", "state.pt", "checksum"


def save_checkpoint(run: Path, step: int, state: dict[str, Any], keep_last: int) -> Path:
    """Write the state after `step` steps, then remove all but the newest `keep_last` checkpoints."""
    path = run / CHECKPOINTS / f"step-{step:07d}"
    with appears_whole(path) as directory:
        torch.save(state, directory / STATE)
        (directory / CHECKSUM).write_text(_checksum(directory / STATE) + "\n")
    for old in checkpoints(run)[:-keep_last]:
        shutil.rmtree(old)
    return path


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    return sorted((run / CHECKPOINTS).glob("step-*"))


def load_checkpoint(run: Path) -> tuple[dict[str, Any], list[str]]:
    """The newest undamaged state.

    Returns: the state, and a message for every newer checkpoint that was damaged.
    Raises: CheckpointError if there is none.
    """
    damaged = []
    for path in reversed(checkpoints(run)):
        try:
            recorded = (path / CHECKSUM).read_text().strip()
            if _checksum(path / STATE) != recorded:
                raise CheckpointError("its checksum differs from the recorded one")
            state: dict[str, Any] = torch.load(path / STATE, map_location="cpu", weights_only=True)
        except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, CheckpointError) as error:
            first = str(error).partition("\n")[0]  # torch goes on for a screen
            damaged.append(f"{path}: damaged, the one before is used: {first}")
            continue
        return state, damaged
    if damaged:
        raise CheckpointError("no checkpoint of this run can be read:\n" + "\n".join(damaged))
    raise CheckpointError(
        f"{run}: no checkpoint yet, so there is nothing to resume; --restart begins the run again"
    )


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
