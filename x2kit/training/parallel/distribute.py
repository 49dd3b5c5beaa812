"""A model trained by several processes: DDP, or FSDP2 that shards parameters and optimiser. Imports torch.

Both average gradients over the processes (DDP: arXiv:2006.15704; FSDP: arXiv:2304.11277).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from x2kit.distributed.processes import PATIENCE, Processes
from x2kit.errors import X2KitError
from x2kit.model import X2VLM
from x2kit.training.config import TrainingConfig
from x2kit.training.parallel.activation_checkpointing import layers_of
from x2kit.training.step.remote_rows import RankExchange


class Distributed(NamedTuple):
    """A model that several processes train.

    Attributes:
        forward: calls a function of the model and more arguments, such that gradients are averaged afterwards.
        partners: what the processes do together within a step.
        replicated: parameters whose gradients `average` has to see to.
        shards: whether the parameters are shards.
    """

    forward: Callable[..., Any]
    partners: RankExchange
    replicated: list[nn.Parameter]
    shards: bool

    def average(self) -> None:
        """Average the gradients that nothing else averages; called between the backward pass and the update."""
        if not self.replicated:
            return
        own = [parameter.grad is not None for parameter in self.replicated]
        everywhere = self.partners.processes.gather(own)  # each has its own rows, and so perhaps other losses
        for parameter, used in zip(self.replicated, zip(*everywhere, strict=True), strict=True):
            if any(used):
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad, group=self.partners.tensors)
                parameter.grad /= self.partners.processes.count

    def maximum(self, value: Tensor) -> None:
        """The largest of all processes, in place."""
        distributed.all_reduce(value, distributed.ReduceOp.MAX, group=self.partners.tensors)


class _Forward(nn.Module):
    """A model that is called through functions of it."""

    def __init__(self, model: X2VLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(self.model, *args, **kwargs)


def distribute(
    model: X2VLM, config: TrainingConfig, processes: Processes, device: torch.device
) -> Distributed:
    """Let several processes train a model, on its device and with the same weights in all of them.

    With `fsdp` its parameters become shards, so the optimiser is to be built afterwards.

    Raises: X2KitError for fp16 with `fsdp`.
    """
    if config.precision == "fp16" and config.distribution == "fsdp":
        raise X2KitError(
            "training.precision: fp16 scales losses, which is not there for sharded gradients; "
            "use bf16, or training.distribution ddp"
        )
    partners = RankExchange(
        processes,
        distributed.new_group(timeout=PATIENCE),
        config.gather_gradient,
        config.negatives,
        torch.Generator(device),
    )
    if config.accumulation > 1:
        # A step in parts has several backward passes, and the gradients are averaged after the last one.
        for value in model.state_dict().values():
            distributed.broadcast(value, 0, group=partners.tensors)
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return Distributed(_Forward(model), partners, learned, False)
    if config.distribution == "ddp":
        # Which losses are on, and so which parameters are used, changes from step to step.
        wrapped = DistributedDataParallel(
            _Forward(model), find_unused_parameters=True, broadcast_buffers=False
        )
        return Distributed(wrapped, partners, [], False)
    return _sharded(model, partners, device)


def _sharded(model: X2VLM, partners: RankExchange, device: torch.device) -> Distributed:
    mesh = init_device_mesh(device.type, (partners.processes.count,))
    replicated = [parameter for parameter in model.parameters() if parameter.ndim == 0]  # nothing to shard
    # Layers of the fusion encoder are not units of their own: their keys and values are computed apart from them.
    for layer in (*layers_of(model.vision), *layers_of(model.text)):
        fully_shard(layer, mesh=mesh)
    root = _Forward(model)
    fully_shard(root, mesh=mesh, ignored_params=set(replicated))
    if device.type == "cpu":
        # Gloo of torch 2.8 adds up where it is to average: github.com/pytorch/pytorch/issues/162338.
        for module in root.modules():
            if isinstance(module, FSDPModule):
                module.set_force_sum_reduction_for_comms(True)
    return Distributed(root, partners, replicated, True)


def gathered(state: Any, keep: bool) -> Any:
    """Gather a sharded state in the memory of the CPU; every process calls this.

    Tensors are gathered one by one, so a device never holds more than its shards and one whole tensor.

    Args:
        state: tensors, sharded or not, and dicts, lists and tuples of them.
        keep: whether this process keeps the state. Without it every tensor becomes None.
    """
    if isinstance(state, Tensor):
        whole = state.full_tensor() if isinstance(state, DTensor) else state
        return whole.cpu() if keep else None
    if isinstance(state, Mapping):
        return {name: gathered(value, keep) for name, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(gathered(value, keep) for value in state)
    return state


def sharded_like(value: Any, like: Any) -> Any:
    """A whole tensor, which every process has, as shards, if what it is for is sharded; shards as they are."""
    if isinstance(value, DTensor):
        return value
    if isinstance(like, DTensor) and isinstance(value, Tensor) and value.shape == like.shape:
        whole = value.to(like.device, like.dtype)
        return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
    return value
