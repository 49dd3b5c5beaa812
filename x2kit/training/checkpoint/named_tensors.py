"""The tensors of a run by names that any number of processes gives them, and room to read them into. Imports torch.

`model.NAME` for parameters and buffers, `optimizer.NAME.KEY` for what the optimiser knows of a parameter. Tied
tensors are there once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from x2kit.errors import CheckpointError
from x2kit.training.checkpoint.shards import Shards

MODEL, OPTIMIZER = "model.", "optimizer."


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """The parameters and buffers of a model, sharded or not; they share its memory."""
    once = {name for name, _ in (*model.named_parameters(), *model.named_buffers())}
    return {f"{MODEL}{name}": value for name, value in model.state_dict().items() if name in once}


def optimizer_tensors(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """The tensors of an optimiser's `state_dict`, whose groups have `names`."""
    names = dict(_numbered(state))
    return {
        f"{OPTIMIZER}{names[number]}.{key}": value
        for number, values in state["state"].items()
        for key, value in values.items()
        if isinstance(value, Tensor)
    }


def without_tensors(state: Mapping[str, Any]) -> dict[str, Any]:
    """The rest of an optimiser's `state_dict`."""
    return {
        **state,
        "state": {
            number: {key: value for key, value in values.items() if not isinstance(value, Tensor)}
            for number, values in state["state"].items()
        },
    }


def room_for_model(model: nn.Module, shards: Shards) -> dict[str, Tensor]:
    """The tensors of a model, to be filled. Raises CheckpointError unless the saved ones are the same."""
    room = model_tensors(model)
    saved = {name: size for name, size in shards.sizes.items() if name.startswith(MODEL)}
    for name in sorted(set(room) ^ set(saved)):
        where = "the checkpoint" if name in saved else "the model"
        raise CheckpointError(f"{name.removeprefix(MODEL)} is in {where} alone")
    for name, size in saved.items():
        if size != room[name].shape:
            raise CheckpointError(
                f"{name.removeprefix(MODEL)}: {list(size)} in the checkpoint, {list(room[name].shape)} in the model"
            )
    return room


def room_for_optimizer(optimizer: torch.optim.Optimizer, shards: Shards) -> dict[str, Tensor]:
    """New tensors for what was saved of an optimiser's parameters, sharded as these are.

    Raises: CheckpointError for a tensor that is neither of its parameter's size nor a scalar.
    """
    parameters = {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["names"], group["params"], strict=True)
    }
    room = {}
    for full, size in shards.sizes.items():
        parameter = parameters.get(full.removeprefix(OPTIMIZER).rpartition(".")[0])
        if not full.startswith(OPTIMIZER) or parameter is None:
            continue
        if size == parameter.shape:
            room[full] = torch.zeros_like(parameter, dtype=shards.dtypes[full], requires_grad=False)
        elif not size:
            room[full] = torch.zeros((), dtype=shards.dtypes[full], device=parameter.device)
        else:
            raise CheckpointError(f"{full}: {list(size)}, but the parameter has {list(parameter.shape)}")
    return room


def with_tensors(state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What `without_tensors` left, and the tensors again."""
    numbers = {name: number for number, name in _numbered(state)}
    values: dict[int, dict[str, Any]] = {number: dict(plain) for number, plain in state["state"].items()}
    for full, tensor in tensors.items():
        name, _, key = full.removeprefix(OPTIMIZER).rpartition(".")
        values.setdefault(numbers[name], {})[key] = tensor
    return {**state, "state": values}


def _numbered(state: Mapping[str, Any]) -> Iterator[tuple[int, str]]:
    for group in state["param_groups"]:
        yield from zip(group["params"], group["names"], strict=True)
