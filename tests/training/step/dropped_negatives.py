"""Make a step whose messages have room for one row for each other rank: python -m … RECIPE FILE."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.training.miniature import read_miniature
from x2kit.distributed.processes import started_processes
from x2kit.training.step import rank_exchange
from x2kit.training.stepper import Stepper, assemble

if __name__ == "__main__":
    rank_exchange.HEADROOM, rank_exchange.SPARE = 0, 1
    with started_processes() as processes:
        recipe = read_miniature(Path(sys.argv[1])).recipe
        stepper = Stepper(recipe, assemble(recipe, lambda message: None, processes)[0], 0)
        values = stepper.step(next(stepper.batches.iterate(0)))
        found = {"loss": float(values["loss"]), **stepper.metrics.read(processes)}
        if processes.is_rank_zero:
            Path(sys.argv[2]).write_text(json.dumps(found), encoding="utf-8")
