"""Checkpoints of a run: they appear whole or not at all. Imports torch.

    checkpoints/step-0000400/
      state.pt        model, optimiser, step; tensors and plain values only
      metrics.json    the line of metrics.jsonl that was the newest then
      SHA256SUMS      of every file, as `sha256sum --check` reads them

With `training.sharded_checkpoints` the tensors lie beside state.pt, in files of `x2kit.training.checkpoint.shards`.

Order, draws and masks are functions of (seed, step), so the step number alone resumes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, cast

import torch
from torch import Tensor

from x2kit.distributed.processes import ALONE, Processes
from x2kit.errors import CheckpointError, StorageError
from x2kit.io.atomic import atomic_folder
from x2kit.plugin.toolkit.weights import UNREADABLE
from x2kit.training.checkpoint.checksums import HashedFile, verify_checksums, write_checksums
from x2kit.training.checkpoint.shard_index import INDEX
from x2kit.training.checkpoint.shards import Shards, bytes_of_shards, write_shards

CHECKPOINTS, STATE, METRICS = "checkpoints", "state.pt", "metrics.json"
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
    path = _path(run, step)
    try:
        with atomic_folder(path, needs=bytes_of(state)) as directory:
            _write_metrics(directory, metrics)
            write_state(directory, state)
    except StorageError as error:
        raise StorageError(f"{error}\n{_what_to_do(run)}") from error
    return path


def save_sharded(
    run: Path,
    step: int,
    state: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    metrics: Mapping[str, float],
    processes: Processes,
) -> None:
    """Write the state after `step` steps, of which every process has a part; all processes call this.

    Args:
        run: the run directory, as rank 0 knows it; that of the others is not looked at.
        step: steps done.
        state: what rank 0 writes: all but the tensors.
        tensors: those of model and optimiser, sharded or equal in all processes.
        metrics: what was logged last.
        processes: who writes.
    Raises: StorageError, in all processes, if the disk is full for one; then nothing is left, as in `save_checkpoint`.
    """
    try:
        if processes.is_rank_zero:
            _lead(_path(run, step), state, tensors, metrics, processes)
        else:
            _follow(tensors, processes)
        failed = None
    except StorageError as error:
        failed = str(error)
    # Once all have come here, the checkpoint stands under its name, or nothing is left of it.
    faults = [fault for fault in processes.gather(failed) if fault is not None]
    if faults:
        raise StorageError(f"{faults[0]}\n{processes.from_rank_zero(_what_to_do(run))}")


def _lead(
    path: Path,
    state: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    metrics: Mapping[str, float],
    processes: Processes,
) -> None:
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(atomic_folder(path, bytes_of_shards(tensors.values())))
        except StorageError:
            processes.from_rank_zero(None)
            raise
        processes.from_rank_zero((directory.absolute(), path))
        sums = write_shards(directory, tensors, processes, path)
        _write_metrics(directory, metrics)
        write_state(directory, state, sums)


def _follow(tensors: Mapping[str, Tensor], processes: Processes) -> None:
    told = processes.from_rank_zero(None)
    if told is not None:
        directory, path = told
        write_shards(directory, tensors, processes, path)


def _path(run: Path, step: int) -> Path:
    return run / CHECKPOINTS / f"step-{step:07d}"


def _write_metrics(directory: Path, metrics: Mapping[str, float]) -> None:
    (directory / METRICS).write_text(json.dumps(metrics) + "\n")


def write_state(directory: Path, state: Mapping[str, Any], known: Mapping[str, str] | None = None) -> None:
    """state.pt in a directory whose other files are there, and the checksums of all.

    Args:
        directory: to be made whole.
        state: tensors, numbers, texts, and lists and dicts of them.
        known: checksums of some of the other files.
    """
    with (directory / STATE).open("wb") as stream:
        written = HashedFile(stream)
        try:
            torch.save(state, cast(IO[bytes], written))
        except RuntimeError as error:
            raise written.failed or error from error  # torch does not say why it could not write
    write_checksums(directory, {**(known or {}), STATE: written.checksum})


def read_state(directory: Path, processes: Processes = ALONE) -> dict[str, Any]:
    """What was written into a directory, on the CPU; its tensors, and the `shards` of a sharded state, are read later.

    Args:
        directory: of a checkpoint.
        processes: who read it; all of them call this, and each looks at the checksums of some of the files.
    Raises: CheckpointError, in the process that found it, that names the directory if it is damaged.
    """
    try:
        verify_checksums(directory, processes.rank, processes.count)
        # Mapped, so that a process reads what it copies and several on a machine share the pages.
        state: dict[str, Any] = torch.load(
            directory / STATE, map_location="cpu", weights_only=True, mmap=True
        )
        if (directory / INDEX).exists():
            state["shards"] = Shards(directory)
    except (*UNREADABLE, CheckpointError) as error:
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


def load_checkpoint(run: Path, processes: Processes = ALONE) -> tuple[dict[str, Any], list[str]]:
    """The newest undamaged state.

    Args:
        run: the run directory.
        processes: who load it; all of them call this, and get the same one.
    Returns: the state, empty if the run was stopped before its first checkpoint; and a message for every newer
        checkpoint that was damaged.
    Raises: CheckpointError if all are damaged.
    """
    damaged: list[str] = []
    for path in reversed(checkpoints(run)):
        state, fault = {}, None
        try:
            state = read_state(path, processes)
        except CheckpointError as error:
            fault = str(error).replace(": damaged:", ": damaged, the one before is used:", 1)
        faults = [found for found in processes.gather(fault) if found is not None]
        if not faults:
            return state, [*damaged, f"goes on after step {step_of(path)}"]
        damaged.append(faults[0])
    if damaged:
        raise CheckpointError("no checkpoint of this run can be read:\n" + "\n".join(damaged))
    return {}, [f"{run}: stopped before its first checkpoint, so it begins at the first step"]


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
