"""Resume a run: clean its directory, check its data, load its state. Imports torch."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from x2kit.data.pipeline.loader import StepBatches
from x2kit.data.storage.index_cache import FINGERPRINT_FORM
from x2kit.distributed.processes import ALONE, Processes
from x2kit.errors import CheckpointError
from x2kit.io.atomic import clear_leftovers
from x2kit.io.run_directory import VERSIONS
from x2kit.training.checkpoint.checkpoints import CHECKPOINTS, load_checkpoint, read_state
from x2kit.training.checkpoint.named_tensors import (
    averages_by_name,
    model_targets,
    optimizer_targets,
    with_tensors,
)
from x2kit.training.checkpoint.shards import Shards
from x2kit.training.parallel.distribute import sharded_like

OTHER_MODEL = "the checkpoint is of another model, though the recipe is the same"


def resume_from(run: Path, steps: int, processes: Processes = ALONE) -> tuple[dict[str, Any], list[str]]:
    """Load the state to resume from, after removing partial files of killed processes.

    Args:
        run: the run directory.
        steps: of the current recipe.
        processes: the ranks that resume; each calls this, and rank 0 cleans the directory.
    Returns: the state, empty without a checkpoint; and messages for the user.
    Raises: CheckpointError if no checkpoint is readable, or if the run has done more than `steps`.
    """
    messages = clear_leftovers(run) + clear_leftovers(run / CHECKPOINTS) if processes.is_rank_zero else []
    processes.wait()
    state, loading_messages = load_checkpoint(run, processes)
    done = state.get("step", 0)
    if done > steps:
        raise CheckpointError(
            f"training.steps: {steps}, but the run has done {done} steps already; set it to {done} or more"
        )
    return state, messages + loading_messages


def data_facts(batches: StepBatches, processes: Processes, resumed: Path | None) -> dict[str, Any]:
    """Return the fingerprints of the streams and their form (`index_cache`), for the record of a run.

    Every rank calls this; rank 0 alone reads files for their hashes.

    Args:
        batches: of the run.
        processes: the ranks.
        resumed: directory of the run that is resumed, with which the fingerprints are compared; None for a new run.
    Raises: CheckpointError if the data has changed.
    """

    def fingerprints(form: int) -> dict[str, str]:
        found: dict[str, str] = processes.from_rank_zero(
            batches.fingerprints(form) if processes.is_rank_zero else None
        )
        return found

    facts: dict[str, Any] = {"data": fingerprints(FINGERPRINT_FORM), "fingerprint_form": FINGERPRINT_FORM}
    if resumed is not None:
        require_same_data(resumed, facts["data"], fingerprints)
    return facts


def require_same_data(run: Path, now: Mapping[str, str], in_form: Callable[[int], Mapping[str, str]]) -> None:
    """Raise CheckpointError if the fingerprint of a stream's data differs from the run's.

    Args:
        run: the run directory; without recorded fingerprints nothing is compared.
        now: fingerprints by stream, in the present form.
        in_form: computes them in another form; called if the run recorded that form and they differ.
    """
    try:
        recorded = json.loads((run / VERSIONS).read_text(encoding="utf-8"))
        before = recorded["data"]
    except (FileNotFoundError, KeyError):
        return
    except ValueError as error:
        raise CheckpointError(f"{run / VERSIONS}: damaged, not JSON: {error}") from error
    form = recorded.get("fingerprint_form", 1)
    if before != now and form != FINGERPRINT_FORM:
        now = in_form(form)
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    if changed:
        lines = (f"  data.streams.{name}: {before.get(name)} before, {now.get(name)} now" for name in changed)
        raise CheckpointError(
            f"{run}: the records differ from those of this run so far; fingerprints:\n"
            + "\n".join(lines)
            + "\n  restore the data, or start another run"
        )


def restore(
    model: torch.nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Any], processes: Processes
) -> None:
    """Load model and optimiser, sharded or not, from a checkpoint, sharded or not; every rank calls this.

    Raises: CheckpointError if the checkpoint is of another model.
    """
    if "shards" not in state:
        restore_model(model, state["model"])
        restore_optimizer(optimizer, state["optimizer"])
        return
    shards: Shards = state["shards"]
    try:
        weights, averages = model_targets(model, shards), optimizer_targets(optimizer, shards)
    except CheckpointError as error:
        raise CheckpointError(f"{OTHER_MODEL}: {error}") from error
    shards.fill({**weights, **averages}, processes)
    restore_optimizer(optimizer, with_tensors(state["optimizer"], averages))


def restore_model(model: torch.nn.Module, saved: Mapping[str, Any]) -> None:
    """Load a model strictly, sharded or not; raise CheckpointError if names or sizes differ."""
    try:
        now = model.state_dict()
        model.load_state_dict({name: sharded_like(value, now.get(name)) for name, value in saved.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{OTHER_MODEL}: {error}") from error


def restore_averages(averages: Mapping[str, Tensor], state: Mapping[str, Any], processes: Processes) -> None:
    """Load averages of parameters, in place, as far as the checkpoint has them; every rank calls this.

    Without any, as in a run that begins to average, they keep their values.
    """
    if "shards" in state:
        shards: Shards = state["shards"]
        targets = averages_by_name(averages)
        shards.fill({name: value for name, value in targets.items() if name in shards.sizes}, processes)
        return
    saved = state.get("average", {})
    for name in averages.keys() & saved.keys():
        averages[name].copy_(sharded_like(saved[name], averages[name]))


def restore_model_from(checkpoint: Path, model: torch.nn.Module, averaged: bool = False) -> None:
    """Load a whole model from a checkpoint of any kind, on one rank; with its averages if `averaged`.

    Raises: CheckpointError if it is damaged or of another model.
    """
    state = read_state(checkpoint)
    if "shards" in state:
        shards: Shards = state["shards"]
        shards.fill(model_targets(model, shards), ALONE)
    else:
        restore_model(model, state["model"])
    if averaged:  # by parameter, as tied tensors have several names in a model
        restore_averages({name: value.detach() for name, value in model.named_parameters()}, state, ALONE)


def restore_optimizer(optimizer: torch.optim.Optimizer, saved: Mapping[str, Any]) -> None:
    """Load the optimiser state; learning rates, weight decay and other settings stay those of the recipe.

    Parameters are matched by name, since another learning rate can change their groups. A group takes its `counters`
    from the group that its first parameter was in.

    Args:
        optimizer: its groups have `names` and `counters`.
        saved: `state_dict` of such an optimiser.
    """
    before = {
        name: number
        for group in saved["param_groups"]
        for name, number in zip(group["names"], group["params"], strict=True)
    }
    groups = {name: group for group in saved["param_groups"] for name in group["names"]}
    built = optimizer.state_dict()
    for group in built["param_groups"]:
        earlier = groups.get(group["names"][0], {})
        group.update({key: earlier[key] for key in group.get("counters", ()) if key in earlier})
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
