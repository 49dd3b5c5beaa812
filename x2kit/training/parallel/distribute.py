"""Wrap a model with DDP or FSDP2, and gather or shard its state. Imports torch.

Both average gradients over the ranks (DDP: arXiv:2006.15704; FSDP: arXiv:2304.11277).
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

from x2kit.distributed.processes import Processes
from x2kit.distributed.worker_ranks import PATIENCE
from x2kit.errors import X2KitError
from x2kit.model import X2VLM
from x2kit.training.config import TrainingConfig
from x2kit.training.parallel.activation_checkpointing import layers_of
from x2kit.training.step.rank_exchange import RankExchange


class Distributed(NamedTuple):
    """A model that several ranks train.

    Attributes:
        forward: calls a function with the model and further arguments, and has its gradients averaged.
        exchange: collectives within a step.
        replicated: parameters whose gradients `average` reduces.
        shards: whether the parameters are sharded.
    """

    forward: Callable[..., Any]
    exchange: RankExchange
    replicated: list[nn.Parameter]
    shards: bool

    def average(self) -> None:
        """Average the gradients that neither DDP nor FSDP2 averages, between the backward pass and the update."""
        if not self.replicated:
            return
        local = [parameter.grad is not None for parameter in self.replicated]
        by_rank = self.exchange.processes.gather(local)  # ranks have other rows, so perhaps other losses
        for parameter, used in zip(self.replicated, zip(*by_rank, strict=True), strict=True):
            if any(used):
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                distributed.all_reduce(parameter.grad, group=self.exchange.tensors)
                parameter.grad /= self.exchange.processes.count

    def maximum(self, value: Tensor) -> None:
        """Take the maximum over the ranks in place."""
        distributed.all_reduce(value, distributed.ReduceOp.MAX, group=self.exchange.tensors)


class _Forward(nn.Module):
    """Run a function of the model inside `forward`, which DDP and FSDP2 wrap."""

    def __init__(self, model: X2VLM) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return function(self.model, *args, **kwargs)


def distribute(
    model: X2VLM, config: TrainingConfig, processes: Processes, device: torch.device
) -> Distributed:
    """Wrap a model for the training on several ranks.

    With `fsdp` the parameters become shards, so build the optimiser afterwards.

    Args:
        model: on its device, with equal weights on all ranks.
        config: distribution, accumulation, precision and exchange of features.
        processes: ranks of the run.
        device: of this rank.
    Raises: X2KitError for fp16 with `fsdp`.
    """
    if config.precision == "fp16" and config.distribution == "fsdp":
        raise X2KitError(
            "training.precision: fp16 with training.distribution fsdp: gradients of shards cannot be unscaled; "
            "set precision to bf16, or distribution to ddp"
        )
    exchange = RankExchange(
        processes,
        distributed.new_group(timeout=PATIENCE),
        config.gather_gradient,
        config.negatives,
        torch.Generator(device),
    )
    if config.accumulation > 1:
        # A step in parts has several backward passes; `average` reduces the gradients after the last one.
        for value in model.state_dict().values():
            distributed.broadcast(value, 0, group=exchange.tensors)
        learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
        return Distributed(_Forward(model), exchange, learned, False)
    if config.distribution == "ddp":
        # Losses start and stop during a run, so the used parameters change from step to step.
        wrapped = DistributedDataParallel(
            _Forward(model), find_unused_parameters=True, broadcast_buffers=False
        )
        return Distributed(wrapped, exchange, [], False)
    return _shard(model, exchange, device)


def _shard(model: X2VLM, exchange: RankExchange, device: torch.device) -> Distributed:
    mesh = init_device_mesh(device.type, (exchange.processes.count,))
    replicated = [parameter for parameter in model.parameters() if parameter.ndim == 0]  # nothing to shard
    # Layers of the fusion encoder are no units: their keys and values are computed outside their forward.
    for layer in (*layers_of(model.vision), *layers_of(model.text)):
        fully_shard(layer, mesh=mesh)
    root = _Forward(model)
    fully_shard(root, mesh=mesh, ignored_params=set(replicated))
    if device.type == "cpu":
        # Gloo in torch 2.8 sums where it should average: github.com/pytorch/pytorch/issues/162338.
        for module in root.modules():
            if isinstance(module, FSDPModule):
                module.set_force_sum_reduction_for_comms(True)
    return Distributed(root, exchange, replicated, True)


def gathered(state: Any, keep: bool) -> Any:
    """Gather a sharded state in CPU memory; collective.

    Tensors are gathered one by one, so a device holds at most its shards and one whole tensor.

    Args:
        state: tensors, sharded or not, in dicts, lists and tuples.
        keep: whether this rank keeps the state; otherwise every tensor becomes None.
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
    """Shard a whole tensor, equal on all ranks, like another of its shape; other values are returned unchanged."""
    if isinstance(value, DTensor):
        return value
    if isinstance(like, DTensor) and isinstance(value, Tensor) and value.shape == like.shape:
        whole = value.to(like.device, like.dtype)
        return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
    return value
