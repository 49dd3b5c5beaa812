"""Accuracies, padding and temperatures of the log, against counts by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.training.conftest import texts
from x2kit.data.pipeline.batch import Batch, RegionImages
from x2kit.distributed.processes import ALONE, Processes
from x2kit.model import X2VLM
from x2kit.training.step.accumulation import accumulate
from x2kit.training.step.losses import step_losses
from x2kit.training.step.metrics import StepMetrics, region_images, temperatures

ACTIVE = {
    "images": ("itc", "itm", "mlm"),
    "regions": ("itc", "itm"),
    "parallel": ("ttc", "ttm"),
    "alone": ("mlm",),
}


def answers(matched: list[int]) -> Tensor:
    """Logits of these answers of the matching head."""
    return torch.tensor([[-1.0, 1.0] if one else [1.0, -1.0] for one in matched])


def test_accuracy_of_positives_and_of_hard_negatives() -> None:
    metrics = StepMetrics()
    metrics.matching("images.itm", answers([1, 1, 0, 0, 0, 1]), None)
    assert metrics.read(ALONE) == {
        "images.itm_positive_accuracy": 1.0,
        "images.itm_negative_accuracy": 0.75,
    }


def test_invalid_rows_do_not_count() -> None:
    metrics = StepMetrics()
    valid = torch.tensor([True, True, False, True, False, False])
    metrics.matching("images.itm", answers([1, 0, 1, 1, 1, 1]), valid)
    assert metrics.read(ALONE) == {
        "images.itm_positive_accuracy": 0.5,
        "images.itm_negative_accuracy": 0.0,
    }


class Other(Processes):
    """Two ranks, of which the other has counted one row of a stream alone."""

    def gather(self, value: Any) -> list[Any]:
        return [value, {"own.itm_positive_accuracy": (0.0, 1.0), "images.itm_positive_accuracy": (1.0, 2.0)}]


def test_a_rank_without_rows_of_a_stream_has_the_share_of_the_others() -> None:
    metrics = StepMetrics()
    metrics.matching("images.itm", answers([1, 0, 0]), None)
    assert metrics.read(Other()) == {
        "images.itm_positive_accuracy": 2 / 3,
        "images.itm_negative_accuracy": 1.0,
        "own.itm_positive_accuracy": 0.0,
    }


def test_empty_shares_are_not_logged() -> None:
    metrics = StepMetrics()
    metrics.matching("regions.itm", answers([]).view(0, 2), None)
    assert metrics.read(ALONE) == {}


def test_padding_is_counted_for_each_stream(batch: Batch) -> None:
    metrics = StepMetrics()
    metrics.padding(batch.streams)
    found = metrics.read(ALONE)
    assert found["images.padding"] == 1 - (7 + 5 + 12 + 4) / 64
    assert found["parallel.padding"] == 1 - (5 + 3 + 8 + 9 + 4 + 6) / (24 + 48)
    assert found["alone.padding"] == 1 - (10 + 4) / len(texts([10, 4], 16, 0).mask.flatten())


def test_accumulation_counts_the_same(model: X2VLM, batch: Batch) -> None:
    def weight(stream: str, loss: str) -> float:
        return 1.0

    whole, parts = StepMetrics(), StepMetrics()
    torch.manual_seed(0)
    step_losses(model, batch, ACTIVE, metrics=whole)  # type: ignore[arg-type]
    torch.manual_seed(0)
    accumulate(model, batch, ACTIVE, 2, weight, metrics=parts)  # type: ignore[arg-type]
    one, two = whole.read(ALONE), parts.read(ALONE)
    assert one.keys() == two.keys()
    assert one["images.itm_positive_accuracy"] == two["images.itm_positive_accuracy"]
    assert one["parallel.ttm_positive_accuracy"] == two["parallel.ttm_positive_accuracy"]


@pytest.mark.parametrize(("value", "clamped"), [(0.07, 0), (0.001, 1), (0.5, 1), (0.0, 1), (9.0, 1)])
def test_temperature_at_a_limit_of_its_range_is_flagged(model: X2VLM, value: float, clamped: int) -> None:
    torch.nn.init.constant_(model.temperature, value)
    found = {name: round(one.item(), 4) for name, one in temperatures(model).items()}
    assert found == {
        "temperature": value,
        "temperature_clamped": clamped,
        "text_temperature": 0.2,
        "text_temperature_clamped": 0,
    }


def test_images_of_region_streams_are_counted_by_reason(batch: Batch) -> None:
    assert region_images(batch) == {}
    counted = batch._replace(regions={"regions": RegionImages(50, empty=1, over_limit=2, rows_over_limit=40)})
    assert region_images(counted) == {
        "regions.images_held": 47,
        "regions.images_empty": 1,
        "regions.images_over_limit": 2,
        "regions.rows_over_limit": 40,
    }
