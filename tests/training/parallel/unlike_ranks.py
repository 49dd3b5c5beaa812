"""Average gradients of ranks that use other parameters: python -m … , under torchrun; fails if they differ."""

from __future__ import annotations

import os
from collections.abc import Sequence
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn

from x2kit.distributed.processes import started_processes
from x2kit.training.config import TrainingConfig
from x2kit.training.parallel.distribute import Distributed

USED = [
    ["first second", "first second"],
    ["first second", "first"],
    ["first", "first second"],
    ["first", "first"],
    ["second", "first"],
    ["first second", "first second"],
]
"""By step and rank, the layers used; `never` and `frozen` have no gradient at all."""


def model() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.ModuleDict({name: nn.Linear(3, 3) for name in ("first", "second", "never", "frozen")})
    layers["frozen"].requires_grad_(False)
    return layers


def loss(layers: nn.Module, names: Sequence[str], inputs: Tensor) -> Tensor:
    for name in ["frozen", *names]:
        inputs = torch.tanh(layers.get_submodule(name)(inputs))
    return inputs.square().sum()


def expected(used: Sequence[str], inputs: Sequence[Tensor], parts: int) -> dict[str, Tensor]:
    """Compute the average of the ranks' gradients without the code under test."""
    layers = model()
    for names, own in zip(used, inputs, strict=True):
        for part in own.chunk(parts):
            (loss(layers, names.split(), part) / len(used)).backward()
    return {name: p.grad for name, p in layers.named_parameters() if p.grad is not None}


def step(ranks: Distributed, layers: nn.Module, names: Sequence[str], inputs: Tensor, parts: int) -> None:
    for parameter in layers.parameters():
        parameter.grad = None
    if parts == 1:
        ranks.forward(loss, names, inputs).backward()
    for number, part in enumerate(inputs.chunk(parts) if parts > 1 else [], 1):
        value = ranks.part(lambda layers, part=part: loss(layers, names, part))
        if number == parts:
            ranks.last_backward([value])
        value.backward()
    ranks.average()


def main() -> None:
    with started_processes() as processes:
        layers = model()
        config = TrainingConfig()
        ranks = Distributed(cast(Any, layers), config, processes, torch.device("cpu"))
        generator = torch.Generator().manual_seed(1)
        for parts, used in product([1, 3], USED):
            inputs = [torch.randn(6, 3, generator=generator) for _ in used]
            step(ranks, layers, used[processes.rank].split(), inputs[processes.rank], parts)
            found = {name: p.grad for name, p in layers.named_parameters() if p.grad is not None}
            torch.testing.assert_close(found, expected(used, inputs, parts), rtol=1e-5, atol=1e-6)
        distributed.barrier()
        os._exit(0)  # gloo's threads may outlive the group


if __name__ == "__main__":
    main()
