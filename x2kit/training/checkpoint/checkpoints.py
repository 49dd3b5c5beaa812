"""Save and load the checkpoints of a run atomically. Imports torch.

    checkpoints/step-0000400/
      state.pt        model, optimiser, step; tensors and plain values only
      metrics.json    newest line of metrics.jsonl at that time
      SHA256SUMS      of every file, for `sha256sum --check`

With `training.sharded_checkpoints` the tensors are in files of `x2kit.training.checkpoint.shards` instead of state.pt.

Order, augmentation and masks are functions of (seed, step), so the step number alone resumes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Literal, cast

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from x2kit.distributed.processes import ALONE, Processes
from x2kit.errors import CheckpointError, StorageError
from x2kit.io.atomic import atomic_folder
from x2kit.plugin.toolkit.weights import UNREADABLE
from x2kit.training.checkpoint.checksums import HashedFile, verify_checksums, write_checksums
from x2kit.training.checkpoint.shards import PATTERN, Shards, local_bytes, write_shards

CHECKPOINTS, STATE, METRICS = "checkpoints", "state.pt", "metrics.json"
BestIs = Literal["highest", "lowest"]
_NAME = re.compile(r"step-(\d+)")


def save_checkpoint(run: Path, step: int, state: Mapping[str, Any], metrics: Mapping[str, float]) -> Path:
    """Write the full state after `step` steps.

    Args:
        run: the run directory.
        step: steps done.
        state: tensors, numbers, strings, and lists and dicts of them.
        metrics: last logged values.
    Returns: the checkpoint directory, synced to disk.
    Raises: StorageError if the disk is full; nothing is left of it, and earlier checkpoints are unchanged.
    """
    path = _path(run, step)
    try:
        with atomic_folder(path, needs=tensor_bytes(state)) as directory:
            _write_metrics(directory, metrics)
            write_state(directory, state)
    except StorageError as error:
        raise StorageError(f"{error}\n{_resume_hint(run)}") from error
    return path


def save_sharded(
    run: Path,
    step: int,
    state: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    metrics: Mapping[str, float],
    processes: Processes,
) -> None:
    """Write the state after `step` steps with one file of shards per rank; every rank calls this.

    Args:
        run: the run directory at rank 0; ignored on other ranks.
        step: steps done.
        state: everything but the tensors, written by rank 0.
        tensors: of model and optimiser, sharded or equal on all ranks.
        metrics: last logged values.
        processes: the ranks that write.
    Raises: StorageError, on all ranks, if the disk of one is full; nothing is left, as with `save_checkpoint`.
    """
    try:
        if processes.is_rank_zero:
            _write_rank_zero(_path(run, step), state, tensors, metrics, processes)
        elif (folders := processes.from_rank_zero(None)) is not None:
            directory, path = folders
            write_shards(directory, tensors, processes, path)
        failed = None
    except StorageError as error:
        failed = str(error)
    # After this gather the checkpoint is renamed, or removed.
    faults = [fault for fault in processes.gather(failed) if fault is not None]
    if faults:
        raise StorageError(f"{faults[0]}\n{processes.from_rank_zero(_resume_hint(run))}")


def _write_rank_zero(
    path: Path,
    state: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    metrics: Mapping[str, float],
    processes: Processes,
) -> None:
    """Create the directory, broadcast it or None to the other ranks, and write."""
    with ExitStack() as stack:
        try:
            directory = stack.enter_context(atomic_folder(path, local_bytes(tensors.values())))
        except StorageError:
            processes.from_rank_zero(None)
            raise
        processes.from_rank_zero((directory.absolute(), path))
        checksums = write_shards(directory, tensors, processes, path)
        _write_metrics(directory, metrics)
        write_state(directory, state, checksums)


def _path(run: Path, step: int) -> Path:
    return run / CHECKPOINTS / f"step-{step:07d}"


def _write_metrics(directory: Path, metrics: Mapping[str, float]) -> None:
    (directory / METRICS).write_text(json.dumps(metrics) + "\n")


def write_state(directory: Path, state: Mapping[str, Any], known: Mapping[str, str] | None = None) -> None:
    """Write state.pt, then the checksums of all files in the directory.

    Args:
        directory: its other files are complete.
        state: tensors, numbers, strings, and lists and dicts of them.
        known: checksums of some of the other files.
    """
    with (directory / STATE).open("wb") as stream:
        hashed = HashedFile(stream)
        try:
            torch.save(state, cast(IO[bytes], hashed))
        except RuntimeError as error:
            raise hashed.failed or error from error  # torch hides the system's error
    write_checksums(directory, {**(known or {}), STATE: hashed.checksum})


def read_state(directory: Path, processes: Processes = ALONE) -> dict[str, Any]:
    """Load state.pt on the CPU, memory-mapped; `shards` of a sharded state are read later.

    Args:
        directory: of a checkpoint.
        processes: the ranks that load; each calls this and verifies the checksums of a part of the files.
    Raises: CheckpointError, on the rank that found the damage, naming the directory.
    """
    try:
        verify_checksums(directory, processes.rank, processes.count)
        # Memory-mapped: ranks on one machine share the pages, and copy only what they need.
        state: dict[str, Any] = torch.load(
            directory / STATE, map_location="cpu", weights_only=True, mmap=True
        )
        if any(directory.glob(PATTERN)):
            state["shards"] = Shards(directory)
    except (*UNREADABLE, CheckpointError) as error:
        first = str(error).partition("\n")[0]  # torch's messages are a screen long
        raise CheckpointError(f"{directory}: damaged: {first}") from error
    return state


def _resume_hint(run: Path) -> str:
    return f"  {newest_kept(run)}; free space, then resume with: x2kit train --resume --run-dir {run}"


def newest_kept(run: Path) -> str:
    """Describe the newest checkpoint, for a message about the end of a run."""
    kept = checkpoints(run)
    return f"the checkpoint of step {step_of(kept[-1])} is kept" if kept else "the run has no checkpoint yet"


def checkpoints(run: Path) -> list[Path]:
    """List the checkpoints of a run, oldest first."""
    found = (path for path in (run / CHECKPOINTS).glob("step-*") if _NAME.fullmatch(path.name))
    return sorted(found, key=step_of)


def step_of(checkpoint: Path) -> int:
    """Return the number of steps done at a checkpoint."""
    return int(checkpoint.name.removeprefix("step-"))


def logged_metrics(checkpoint: Path) -> dict[str, float]:
    """Read the metrics saved with a checkpoint; empty if unreadable."""
    try:
        values: dict[str, float] = json.loads((checkpoint / METRICS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return values


def best_step(values: Mapping[int, float], best_is: BestIs) -> int | None:
    """Return the step of the best value, the first of equal ones; None without values."""
    sign = 1 if best_is == "lowest" else -1
    return min(values, key=lambda step: (sign * values[step], step), default=None)


def load_checkpoint(run: Path, processes: Processes = ALONE) -> tuple[dict[str, Any], list[str]]:
    """Load the newest undamaged state.

    Args:
        run: the run directory.
        processes: the ranks that load; each calls this and gets the same state.
    Returns: the state, empty if the run stopped before its first checkpoint; and messages, one for every newer
        checkpoint that is damaged.
    Raises: CheckpointError if all are damaged.
    """
    damaged: list[str] = []
    for path in reversed(checkpoints(run)):
        state, fault = {}, None
        try:
            state = read_state(path, processes)
        except CheckpointError as error:
            fault = str(error).replace(": damaged:", ": damaged, using the previous one:", 1)
        faults = [found for found in processes.gather(fault) if found is not None]
        if not faults:
            return state, [*damaged, f"resumed after step {step_of(path)}"]
        damaged.append(faults[0])
    if damaged:
        raise CheckpointError("every checkpoint of this run is damaged:\n" + "\n".join(damaged))
    return {}, [f"{run}: no checkpoint yet, starting at the first step"]


def tensor_bytes(state: Any) -> int:
    """Sum the bytes of all tensors in nested containers; shared storage counts once."""
    storages = (leaf.untyped_storage() for leaf in tree_leaves(state) if isinstance(leaf, Tensor))
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())
