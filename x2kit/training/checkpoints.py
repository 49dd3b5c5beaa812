"""Checkpoints of a run: they appear whole or not at all. Imports torch.

    checkpoints/step-0000400/
      state.pt        model, optimiser, step; tensors and plain values only
      metrics.json    the line of metrics.jsonl that was the newest then
      SHA256SUMS      of every file, as `sha256sum --check` reads them

Order, draws and masks are functions of (seed, step), so the step number alone resumes them.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO, cast

import torch
from torch import Tensor

from x2kit.errors import CheckpointError, StorageError
from x2kit.model.whole_files import appears_whole

CHECKPOINTS, STATE, METRICS, CHECKSUMS = "checkpoints", "state.pt", "metrics.json", "SHA256SUMS"
_NAME = re.compile(r"step-(\d+)")


def save_checkpoint(run: Path, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> Path:
    """Write the state after `step` steps.

    Args:
        run: the run directory.
        step: steps done.
        state: tensors, numbers, texts, and lists and dicts of them.
        metrics: what was logged last.
    Returns: the checkpoint, which is on the disk.
    Raises: StorageError if the disk is full; then nothing of it is left, and earlier checkpoints are as they were.
    """
    path = run / CHECKPOINTS / f"step-{step:07d}"
    try:
        with appears_whole(path, needs=bytes_of(state)) as directory:
            (directory / METRICS).write_text(json.dumps(metrics) + "\n")
            write_state(directory, state)
    except StorageError as error:
        raise StorageError(f"{error}\n{_what_to_do(run)}") from error
    return path


def write_state(directory: Path, state: Mapping[str, Any]) -> None:
    """state.pt in a directory whose other files are there, and the checksums of all."""
    with (directory / STATE).open("wb") as stream:
        written = _Written(stream)
        try:
            torch.save(state, cast(IO[bytes], written))
        except RuntimeError as error:
            raise written.failed or error from error  # torch does not say why it could not write
    write_checksums(directory, {STATE: written.hash.hexdigest()})


def read_state(directory: Path) -> dict[str, Any]:
    """What `write_state` wrote, on the CPU. Raises CheckpointError that names the directory if it is damaged."""
    try:
        verify_checksums(directory)
        state: dict[str, Any] = torch.load(directory / STATE, map_location="cpu", weights_only=True)
    except (OSError, EOFError, RuntimeError, pickle.UnpicklingError, CheckpointError) as error:
        first = str(error).partition("\n")[0]  # torch goes on for a screen
        raise CheckpointError(f"{directory}: damaged: {first}") from error
    return state


def _what_to_do(run: Path) -> str:
    kept = checkpoints(run)
    newest = (
        f"the checkpoint of step {step_of(kept[-1])} is kept" if kept else "the run has no checkpoint yet"
    )
    return f"  {newest}; make room, then go on with: x2kit train --resume --run-dir {run}"


def checkpoints(run: Path) -> list[Path]:
    """The checkpoints of a run, oldest first."""
    found = (path for path in (run / CHECKPOINTS).glob("step-*") if _NAME.fullmatch(path.name))
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """The steps done when it was saved."""
    return int(checkpoint.name.removeprefix("step-"))


def logged(checkpoint: Path) -> dict[str, float]:
    """What was logged last when it was saved; nothing if that cannot be read."""
    try:
        values: dict[str, float] = json.loads((checkpoint / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values


def load_checkpoint(run: Path) -> tuple[dict[str, Any], list[str]]:
    """The newest undamaged state.

    Returns: the state, empty if the run was stopped before its first checkpoint; and a message for every newer
        checkpoint that was damaged.
    Raises: CheckpointError if all are damaged.
    """
    damaged = []
    for path in reversed(checkpoints(run)):
        try:
            state = read_state(path)
        except CheckpointError as error:
            damaged.append(str(error).replace(": damaged:", ": damaged, the one before is used:", 1))
            continue
        return state, [*damaged, f"goes on after step {step_of(path)}"]
    if damaged:
        raise CheckpointError("no checkpoint of this run can be read:\n" + "\n".join(damaged))
    return {}, [f"{run}: stopped before its first checkpoint, so it begins at the first step"]


def write_checksums(directory: Path, known: Mapping[str, str]) -> None:
    """SHA256SUMS of all files of a directory.

    Args:
        known: sums of files that were taken while they were written, so that they need not be read again.
    """
    files = sorted({path.name for path in directory.iterdir() if path.is_file()} - {CHECKSUMS})
    lines = [f"{known.get(name) or _checksum(directory / name)}  {name}\n" for name in files]
    (directory / CHECKSUMS).write_text("".join(lines), encoding="utf-8")


def verify_checksums(directory: Path) -> None:
    """Raise CheckpointError or OSError unless every file is there and is what was written."""
    lines = (directory / CHECKSUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    recorded = {name: sum_ for sum_, _, name in (line.partition("  ") for line in lines)}
    found = {path.name for path in directory.iterdir() if path.is_file()} - {CHECKSUMS}
    for name in sorted(found ^ set(recorded)):
        raise CheckpointError(f"{name}: {'not in ' + CHECKSUMS if name in found else 'missing'}")
    for name, wanted in recorded.items():
        if _checksum(directory / name) != wanted:
            raise CheckpointError(f"{name}: its checksum differs from the recorded one")


def _checksum(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


class _Written:
    """A file that is only appended to; it knows the checksum of what went in, and why it could not go on."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.hash = hashlib.sha256()
        self.failed: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            count = self._stream.write(data)
        except OSError as error:
            self.failed = error
            raise
        self.hash.update(data)
        return count

    def flush(self) -> None:
        self._stream.flush()


def bytes_of(state: Any) -> int:
    """The bytes of all tensors in it, shared ones once."""
    seen: dict[int, int] = {}

    def visit(value: Any) -> None:
        if isinstance(value, Tensor):
            storage = value.untyped_storage()
            seen[storage._cdata] = storage.nbytes()
        elif isinstance(value, Mapping):
            for inner in value.values():
                visit(inner)
        elif isinstance(value, list | tuple):
            for inner in value:
                visit(inner)

    visit(state)
    return sum(seen.values())
