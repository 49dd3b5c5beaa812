"""Save the gradients of a recipe's first step on rank 0: python -m … RECIPE PARTS FILE."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from x2kit.distributed.processes import ALONE, Processes, started_processes
from x2kit.recipe import read_recipe
from x2kit.training.stepper import Stepper, assemble


def gradients_of_a_step(recipe: Path, parts: int, processes: Processes = ALONE) -> dict[str, Tensor]:
    """Return gradients by parameter, averaged over the ranks."""
    resolved = read_recipe([recipe], [("training.accumulation", parts), ("training.clip_norm", None)])
    torch.set_num_threads(1)
    stepper = Stepper(resolved.recipe, assemble(resolved.recipe, lambda message: None, processes)[0], 0)
    stepper.differentiate(next(stepper.batches.iterate(0)))
    found = {name: p.grad for name, p in stepper.model.named_parameters() if p.grad is not None}
    return {name: grad.full_tensor() if isinstance(grad, DTensor) else grad for name, grad in found.items()}


if __name__ == "__main__":
    with started_processes() as processes:
        found = gradients_of_a_step(Path(sys.argv[1]), int(sys.argv[2]), processes)
        if processes.is_rank_zero:
            torch.save(found, sys.argv[3])
        processes.wait()
        os._exit(0)  # gloo's threads may outlive the groups of FSDP and abort while Python exits
