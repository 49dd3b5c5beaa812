"""A run that goes on: what it left is put in order, and it is still the same run. Imports torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from x2kit.distributed.processes import ALONE, Processes
from x2kit.errors import CheckpointError
from x2kit.io.atomic import clear_leftovers
from x2kit.io.run_directory import VERSIONS
from x2kit.training.checkpoint.checkpoints import CHECKPOINTS, load_checkpoint
from x2kit.training.checkpoint.named_tensors import room_for_model, room_for_optimizer, with_tensors
from x2kit.training.checkpoint.shards import Shards
from x2kit.training.parallel.distribute import sharded_like

OTHER_MODEL = "the checkpoint is of another model, though the recipe is the same"


def resume_from(run: Path, steps: int, processes: Processes = ALONE) -> tuple[dict[str, Any], list[str]]:
    """The state to go on from, empty if there is none yet, and what people should know.

    Args:
        run: the run directory; what a killed process left half written there is removed.
        steps: of the recipe as it is now.
        processes: who go on; all of them call this, and rank 0 puts the directory in order.
    Raises: CheckpointError if no checkpoint can be read, or if the run has gone further than `steps`.
    """
    messages = clear_leftovers(run) + clear_leftovers(run / CHECKPOINTS) if processes.is_rank_zero else []
    processes.wait()
    state, said = load_checkpoint(run, processes)
    done = state.get("step", 0)
    if done > steps:
        raise CheckpointError(
            f"training.steps: {steps}, but the run has done {done} steps already; give at least so many"
        )
    return state, messages + said


def require_same_data(run: Path, now: Mapping[str, str]) -> None:
    """Raise CheckpointError if the data of a stream is not what the run was trained on so far.

    Args:
        run: the run directory; one that was stopped before it wrote down its data is not compared.
        now: fingerprints by stream.
    """
    try:
        before = json.loads((run / VERSIONS).read_text(encoding="utf-8"))["data"]
    except (FileNotFoundError, KeyError):
        return
    except ValueError as error:
        raise CheckpointError(f"{run / VERSIONS}: damaged, not JSON: {error}") from error
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if changed:
        lines = (f"  data.streams.{name}: {before.get(name)} then, {now.get(name)} now" for name in changed)
        raise CheckpointError(
            f"{run}: the records are not those that this run learned from; fingerprints differ:\n"
            + "\n".join(lines)
            + "\n  bring back the data as it was, or start another run"
        )


def restore(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any], processes: Processes
) -> None:
    """Fill model and optimiser, sharded or not, from a checkpoint, sharded or not; all processes call this.

    Raises: CheckpointError if the checkpoint is of another model.
    """
    if "shards" not in state:
        restore_model(model, state["model"])
        restore_optimizer(optimizer, state["optimizer"])
        return
    shards: Shards = state["shards"]
    try:
        weights, averages = room_for_model(model, shards), room_for_optimizer(optimizer, shards)
    except CheckpointError as error:
        raise CheckpointError(f"{OTHER_MODEL}: {error}") from error
    shards.fill({**weights, **averages}, processes)
    restore_optimizer(optimizer, with_tensors(state["optimizer"], averages))


def restore_model(model: torch.nn.Module, saved: Mapping[str, Any]) -> None:
    """Fill a model, sharded or not, strictly. Raises CheckpointError if the saved one was made of other parts."""
    try:
        now = model.state_dict()
        model.load_state_dict({name: sharded_like(value, now.get(name)) for name, value in saved.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{OTHER_MODEL}: {error}") from error


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Fill an optimiser with a saved state; rates, decay and the like stay as they were built from the recipe.

    The parameters are matched by name, for another rate may have put them into other groups.

    Args:
        optimizer: its groups have `names`.
        saved: a `state_dict` of such an optimiser.
    """
    before = {
        name: number
        for group in saved["param_groups"]
        for name, number in zip(group["names"], group["params"], strict=True)
    }
    built = optimizer.state_dict()
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    state = {
        number: {
            key: sharded_like(value, parameters[number])
            for key, value in saved["state"][before[name]].items()
        }
        for group in built["param_groups"]
        for name, number in zip(group["names"], group["params"], strict=True)
        if before[name] in saved["state"]
    }
    optimizer.load_state_dict({"state": state, "param_groups": built["param_groups"]})
