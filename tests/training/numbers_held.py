"""Print how many numbers of a gathered state each rank holds: python -m … RECIPE."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from x2kit.distributed.processes import started_processes
from x2kit.recipe import read_recipe
from x2kit.training.parallel.distribute import gathered
from x2kit.training.stepper import Stepper, assemble


def tensors(state: Any) -> list[Tensor]:
    if isinstance(state, Tensor):
        return [state]
    if isinstance(state, dict):
        return [tensor for value in state.values() for tensor in tensors(value)]
    return [tensor for value in state for tensor in tensors(value)] if isinstance(state, list | tuple) else []


def numbers(state: Any) -> int:
    return sum(t.to_local().numel() if isinstance(t, DTensor) else t.numel() for t in tensors(state))


if __name__ == "__main__":
    torch.set_num_threads(1)
    with started_processes() as processes:
        recipe = read_recipe([Path(sys.argv[1])]).recipe
        stepper = Stepper(recipe, assemble(recipe, lambda message: None, processes)[0], 0)
        stepper.step(next(stepper.batches.iterate(0)))
        state = {"model": stepper.model.state_dict(), "optimizer": stepper.optimizer.state_dict()}
        whole = gathered(state, processes.is_rank_zero)
        everywhere = processes.gather(
            {
                "shards": numbers(state),
                "of": sum(tensor.numel() for tensor in tensors(state)),
                "held": numbers(whole),
                "devices": sorted({tensor.device.type for tensor in tensors(whole)}),
                "sharded": any(isinstance(tensor, DTensor) for tensor in tensors(whole)),
            }
        )
        if processes.is_rank_zero:
            sys.stdout.write(f"{json.dumps(everywhere)}\n")
            sys.stdout.flush()
        processes.wait()
        os._exit(0)  # gloo's threads may outlive the groups of FSDP and abort while Python exits
