"""Learning rates rise and fall as recorded, with a smallest rate in fine-tuning and without in pre-training."""

from __future__ import annotations

import json
from typing import Any

import pytest

from x2kit.training.config import TrainingConfig
from x2kit.training.optim.optimizer import rate_factor

from .conftest import REFERENCE
from .evidence import check

FILE = "schedule/linear.json"
FACTOR = 1e-12
"""Both are a few operations in double precision."""

RECORDED: list[dict[str, Any]] = json.loads((REFERENCE / FILE).read_text())["cases"]
KINDS = {"rate_at_step": True, "rate_at_step_in_pretraining": False}
"""Whether the smallest rate counts."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", RECORDED, ids=lambda case: json.dumps(case["config"]))
def test_the_schedule_is_the_recorded_one(case: dict[str, Any], kind: str) -> None:
    written = case["config"]  # the warm-up is a share in some of them
    config = TrainingConfig(
        steps=written.get("num_training_steps") or written["epochs"] * written["step_per_epoch"],
        warmup=written["num_warmup_steps"],
        schedule=written["sched"],
        min_lr_factor=written.get("min_rate", 0) if KINDS[kind] else 0,
    )
    check(FILE, "num_training_steps", config.steps, case["num_training_steps"])
    check(FILE, "num_warmup_steps", config.warmup_steps, case["num_warmup_steps"])
    found = [rate_factor(step, config) for step in range(len(case[kind]))]
    check(FILE, kind, found, case[kind], atol=FACTOR)
