"""Wrap a model with DDP or FSDP2, and gather or shard its state. Imports torch.

Both average gradients over the ranks (DDP: arXiv:2006.15704; FSDP: arXiv:2304.11277).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from x2kit.distributed.processes import Processes
from x2kit.distributed.worker_ranks import PATIENCE
from x2kit.errors import X2KitError
from x2kit.model import X2VLM
from x2kit.model.device import choose_precision
from x2kit.training.config import TrainingConfig
from x2kit.training.parallel.ddp import Copies
from x2kit.training.parallel.fsdp import make_mesh, replicated, shard
from x2kit.training.step.rank_exchange import RankExchange


class Distributed:
    """A model that several ranks train.

    Args:
        model: wrapped or sharded here; with equal weights on all ranks.
        config: distribution, precision and exchange of features.
        processes: ranks of the run.
        device: of this rank.
    """

    def __init__(
        self, model: X2VLM, config: TrainingConfig, processes: Processes, device: torch.device
    ) -> None:
        self.shards = config.distribution == "fsdp"
        """Whether the parameters are sharded."""
        self.exchange = RankExchange(
            processes,
            distributed.new_group(timeout=PATIENCE),
            config.gather_gradient,
            config.negatives,
            torch.Generator(device),
            equal_calls=self.shards,
        )
        """Collectives within a step."""
        self._model, self._root = model, _Forward(model)
        self._copies: Copies | None = None
        if self.shards:
            mesh = make_mesh(device, processes.count, config.shard_ranks)
            shard(self._root, model, mesh, device, choose_precision(config.precision, device) == "bf16")
            self._learned = [parameter for parameter in replicated(model) if parameter.requires_grad]
        else:
            self._copies = Copies(self._root)
            self._learned = self._copies.learned

    def forward(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function with the model and further arguments, once for a step in one pass."""
        return (self._root if self._copies is None else self._copies.forward)(function, *args, **kwargs)

    def part(self, function: Callable[..., Any]) -> Any:
        """Call a function with the model, in a step in parts; its result holds all tensors with a graph."""
        return self._root(function) if self._copies is None else function(self._model)

    def last_backward(self, outputs: Sequence[Tensor]) -> None:
        """Prepare for the last backward pass of a step in parts, which starts from these outputs."""
        if self._copies is not None:
            self._copies.last_backward(outputs)

    def average(self) -> None:
        """Complete the average of all gradients, between the backward pass and the update.

        A parameter without a gradient on any rank keeps none, as AdamW must not decay it. Which ones follows from the
        rows of all ranks, so the ranks exchange one byte for each over gloo; the device is not waited for.
        """
        own = [p.grad is not None for p in self._learned] if self._copies is None else self._copies.used()
        used = torch.tensor(own, dtype=torch.uint8)
        messages = self.exchange.processes.messages
        work = distributed.all_reduce(used, distributed.ReduceOp.MAX, group=messages, async_op=True)
        if self._copies is not None:
            self._copies.complete()
        work.wait()
        pairs = list(zip(self._learned, used.tolist(), strict=True))
        if self._copies is None:
            self._average_whole([parameter for parameter, used_somewhere in pairs if used_somewhere])
        for parameter, used_somewhere in pairs:
            if not used_somewhere:
                parameter.grad = None

    def _average_whole(self, parameters: list[nn.Parameter]) -> None:
        """Average the gradients of replicated parameters in one message."""
        if not parameters:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        together = torch.cat([parameter.grad.flatten() for parameter in parameters])  # type: ignore[union-attr]
        distributed.all_reduce(together, group=self.exchange.tensors)
        together /= self.exchange.processes.count
        parts = torch.split(together, [parameter.numel() for parameter in parameters])
        for parameter, part in zip(parameters, parts, strict=True):
            parameter.grad = part.view_as(parameter).to(parameter.dtype)

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
    """Move a model to its device and wrap it for the training on several ranks.

    With `fsdp` the parameters become shards, so build the optimiser afterwards; the device never holds more than the
    shards and one unit.

    Args:
        model: on any device, with equal weights on all ranks.
        config: distribution, precision and exchange of features.
        processes: ranks of the run.
        device: of this rank.
    Raises: X2KitError for fp16 with `fsdp`, and for `shard_ranks` that do not divide the ranks.
    """
    if config.precision == "fp16" and config.distribution == "fsdp":
        raise X2KitError(
            "training.precision: fp16 with training.distribution fsdp: gradients of shards cannot be unscaled; "
            "set precision to bf16, or distribution to ddp"
        )
    if config.distribution == "ddp":
        model.to(device)
    return Distributed(model, config, processes, device)


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
