"""Name the tensors of model and optimiser independently of ranks and groups. Imports torch.

`model.NAME` for parameters and buffers, `optimizer.NAME.KEY` for the optimiser state of a parameter, `average.NAME` for
the averaged parameter that is measured in its place. Tied tensors occur once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from x2kit.errors import CheckpointError
from x2kit.training.checkpoint.shards import Shards

MODEL, OPTIMIZER, AVERAGE = "model.", "optimizer.", "average."


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Return parameters and buffers by name, sharded or not, sharing the model's memory."""
    once = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    return {f"{MODEL}{name}": value for name, value in model.state_dict().items() if name in once}


def averages_by_name(averages: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return averages of parameters, sharded or not, by their names in a checkpoint."""
    return {f"{AVERAGE}{name}": value for name, value in averages.items()}


def optimizer_tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of an optimiser's `state_dict` by name; its groups have `names`."""
    names = dict(_numbered_names(state))
    return {
        f"{OPTIMIZER}{names[number]}.{key}": value
        for number, values in state["state"].items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def without_tensors(state: Mapping[str, Any]) -> dict[str, Any]:
    """Copy an optimiser's `state_dict` without its tensors."""
    return {
        **state,
        "state": {
            number: {key: value for key, value in values.items() if not isinstance(value, Tensor)}
            for number, values in state["state"].items()
        },
    }


def with_tensors(state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Merge named tensors into a state from `without_tensors`."""
    numbers = {name: number for number, name in _numbered_names(state)}
    values: dict[int, dict[str, Any]] = {number: dict(plain) for number, plain in state["state"].items()}
    for full_name, tensor in tensors.items():
        name, _, key = full_name.removeprefix(OPTIMIZER).rpartition(".")
        values.setdefault(numbers[name], {})[key] = tensor
    return {**state, "state": values}


def model_targets(model: nn.Module, shards: Shards) -> dict[str, Tensor]:
    """Return the model's tensors to load into; raise CheckpointError if names or sizes differ."""
    targets = model_tensors(model)
    saved = {name: size for name, size in shards.sizes.items() if name.startswith(MODEL)}
    for name in sorted(set(targets) ^ set(saved)):
        place = "the checkpoint" if name in saved else "the model"
        raise CheckpointError(f"{name.removeprefix(MODEL)} is only in {place}")
    for name, size in saved.items():
        if size != targets[name].shape:
            raise CheckpointError(
                f"{name.removeprefix(MODEL)}: {list(size)} in the checkpoint, {list(targets[name].shape)} in the model"
            )
    return targets


def optimizer_targets(optimizer: torch.optim.Optimizer, shards: Shards) -> dict[str, Tensor]:
    """Allocate tensors for the saved optimiser state, sharded like their parameters.

    Raises: CheckpointError for a tensor that is neither a scalar nor of its parameter's size.
    """
    parameters = {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }
    targets = {}
    for full_name, size in shards.sizes.items():
        parameter = parameters.get(full_name.removeprefix(OPTIMIZER).rpartition(".")[0])
        if not full_name.startswith(OPTIMIZER) or parameter is None:
            continue
        dtype = shards.dtypes[full_name]
        if size == parameter.shape:
            targets[full_name] = torch.zeros_like(parameter, dtype=dtype, requires_grad=False)
        elif not size:
            targets[full_name] = torch.zeros((), dtype=dtype, device=parameter.device)
        else:
            raise CheckpointError(f"{full_name}: {list(size)}, but the parameter has {list(parameter.shape)}")
    return targets


def _numbered_names(state: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    for group in state["param_groups"]:
        yield from zip(group["params"], group["names"], strict=True)
