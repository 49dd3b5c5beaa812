from __future__ import annotations

from typing import Any

import pytest

from x2kit.training.checkpoint.writer import superseded
from x2kit.training.config import TrainingConfig

LOSSES = {10: 3.0, 20: 1.0, 30: 2.0, 40: 1.0, 50: 4.0}


def stay(now: int = 50, **settings: Any) -> list[int]:
    metrics = {step: {"loss": loss, "images.itc": -loss} for step, loss in LOSSES.items()}
    gone = superseded(metrics, now, TrainingConfig(**settings))
    return [step for step in LOSSES if step not in gone]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"keep_last": 2}, [40, 50]),
        ({"keep_last": 1, "keep_every": 20}, [20, 40, 50]),
        ({"keep_last": 1, "keep_every": 7}, [50]),
        ({"keep_last": 1, "keep_best": "loss"}, [20, 50]),  # the earlier of two that are equal
        ({"keep_last": 1, "keep_best": "loss", "best_is": "highest"}, [50]),
        ({"keep_last": 1, "keep_best": "images.itc", "best_is": "lowest"}, [50]),
        ({"keep_last": 1, "keep_best": "images.itc", "best_is": "highest"}, [20, 50]),
        ({"keep_last": 1, "keep_best": "unknown"}, [50]),
        ({"keep_last": 9}, [10, 20, 30, 40, 50]),
    ],
)
def test_what_stays(settings: dict[str, Any], kept: list[int]) -> None:
    assert stay(**settings) == kept


def test_damaged_checkpoints_that_the_run_went_back_behind_do_not_push_out_new_ones() -> None:
    assert stay(now=30, keep_last=1) == [30]
    assert stay(now=30, keep_last=2, keep_every=50) == [20, 30]
