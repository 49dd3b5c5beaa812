"""Shard a model with FSDP2. Imports torch.

Matrices that are trained are sharded. Vectors and scalars (biases, norms, temperatures) are replicated: they are a
thousandth of a model, and stay in float32 where matrices travel in bf16. So are frozen parameters, see
`training.trainable`.

A unit is what is gathered and freed at once: a layer, a head, the word embedding. What no unit holds is gathered at the
start of a step and freed at its end.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator

import torch
from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from x2kit.errors import X2KitError
from x2kit.model import X2VLM
from x2kit.plugin.encoders import Encoder
from x2kit.plugin.toolkit.stacks import layers_of

LARGE_HEAD = 2**20
"""Values in the matrices of a head that is a unit; smaller ones are not worth three messages a step."""


def make_mesh(device: torch.device, ranks: int, shard_ranks: int | None) -> DeviceMesh:
    """Arrange the ranks: neighbours share one copy of the model.

    Args:
        device: of this rank.
        ranks: of the run.
        shard_ranks: how many ranks share a copy; None for all.
    Returns: (ranks,), or (copies, shard_ranks) for hybrid sharding.
    Raises: X2KitError if the ranks cannot be divided so.
    """
    if shard_ranks is None or shard_ranks == ranks:
        return init_device_mesh(device.type, (ranks,))
    if ranks % shard_ranks:
        divisors = ", ".join(str(number) for number in range(1, ranks + 1) if ranks % number == 0)
        raise X2KitError(
            f"training.shard_ranks: {shard_ranks}, but {ranks} ranks cannot be divided into groups of {shard_ranks}; "
            f"allowed with {ranks} ranks: {divisors}, or null for all"
        )
    shape = (ranks // shard_ranks, shard_ranks)
    return init_device_mesh(device.type, shape, mesh_dim_names=("copies", "shards"))


def shard(root: nn.Module, model: X2VLM, mesh: DeviceMesh, device: torch.device, half: bool) -> None:
    """Shard the matrices of a model in place.

    Args:
        root: holds the model; every use of the model runs inside its forward pass.
        model: on any device, with equal weights on all ranks; the device holds one whole unit at a time.
        mesh: of `make_mesh`.
        device: of the shards.
        half: gather and use the matrices of layers and heads in bf16, as autocast does; gradients are reduced in
            float32.
    """
    plain = policy = MixedPrecisionPolicy(cast_forward_inputs=False)
    if half:
        policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32, cast_forward_inputs=False)
    whole = set(replicated(model))
    units = [unit for unit in units_of(model) if not whole.issuperset(unit.parameters())]
    inner = {module for unit in units for module in unit.modules() if module is not unit}
    for unit in units:
        # An inner unit is small and called several times: it stays whole from its first call to the backward pass.
        free = unit not in inner
        fully_shard(unit, mesh=mesh, mp_policy=policy, ignored_params=whole, reshard_after_forward=free)
    table = embedding_unit(model)
    if table is not None and not whole.issuperset(table.parameters()):
        # In float32: a looked-up row is no product, so autocast does not round it.
        fully_shard(table, mesh=mesh, mp_policy=plain, ignored_params=whole)
    fully_shard(root, mesh=mesh, mp_policy=plain, ignored_params=whole)
    root.to(device)
    # A projection as a unit returns a view, of which torch warns; `Encoder.shard_units` lists those it does not change.
    warnings.filterwarnings("ignore", r"FSDP2-wrapped module \(FSDP(Linear|Sequential)\)", UserWarning)
    if device.type == "cpu":
        # Gloo in torch 2.8 sums where it should average: github.com/pytorch/pytorch/issues/162338.
        for module in root.modules():
            if isinstance(module, FSDPModule):
                module.set_force_sum_reduction_for_comms(True)


def replicated(model: nn.Module) -> list[nn.Parameter]:
    """List the parameters that stay whole on every rank."""
    return [one for one in model.parameters() if one.ndim < 2 or not one.requires_grad]


def units_of(model: X2VLM) -> list[nn.Module]:
    """List layers and large heads, inner modules before those that hold them.

    Left out is what shares a parameter with another unit or a module outside, as both would have to gather it.
    """
    own: dict[nn.Module, set[nn.Parameter]] = {}
    for unit in _candidates(model):
        own.setdefault(unit, _held(unit, own))
    holders = Counter(parameter for parameters in own.values() for parameter in parameters)
    units: list[nn.Module] = []
    for unit in own:
        held = _held(unit, units)
        if all(holders[parameter] == 1 for parameter in held) and not held & _outside(model, unit):
            units.append(unit)
    return units


def _held(unit: nn.Module, others: Iterable[nn.Module]) -> set[nn.Parameter]:
    """Return the parameters of a unit without those of the units inside it."""
    inside = set(unit.modules())
    inner = {parameter for other in others if other in inside for parameter in other.parameters()}
    return set(unit.parameters()) - inner


def _candidates(model: X2VLM) -> Iterator[nn.Module]:
    for part in model.children():
        if isinstance(part, Encoder):
            units = part.shard_units()
            yield from layers_of(part) if units is None else units
        else:
            heads = part.children() if isinstance(part, nn.ModuleDict) else [part]
            yield from (head for head in heads if _matrix_values(head) >= LARGE_HEAD)


def _matrix_values(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters() if parameter.ndim > 1)


def _outside(model: nn.Module, unit: nn.Module) -> set[nn.Parameter]:
    """Return the parameters that modules outside a unit use."""
    inside = set(unit.modules())
    outer = (module for module in model.modules() if module not in inside)
    return {parameter for module in outer for parameter in module.parameters(recurse=False)}


def embedding_unit(model: X2VLM) -> nn.Module | None:
    """Return the word embedding if it is a unit.

    A matrix that the masked-language head shares is none: a step begins and ends with it.
    """
    table = model.text.token_embedding()
    return None if table is None or table.weight in _outside(model, table) else table
