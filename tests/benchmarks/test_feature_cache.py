"""Equal losses of both ways of the benchmark at a small size; no test depends on speed."""

from __future__ import annotations

import pytest
import torch

from tests.benchmarks.feature_cache import TRAINED, Case, make_case, require_equal
from x2kit.training.profiling.costs import count_operations

SMALL = {
    "vision": {"init_args": {"image_size": 32, "width": 16, "depth": 2, "heads": 2}},
    "text": {"init_args": {"layers": 1, "width": 16, "heads": 2, "vocab_size": 200, "max_length": 40}},
    "fusion": {"init_args": {"layers": 1, "heads": 2}},
}


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("photographs"), SMALL, TRAINED["fusion, heads"], images=4)


def test_losses_and_gradient_norms_are_equal(case: Case) -> None:
    require_equal(case)


def test_a_cached_step_computes_no_image(case: Case) -> None:
    counts = []
    for batches in (case.plain, case.cached):
        batch = batches.batch(0)
        with count_operations() as counter:
            case.stepper.differentiate(batch)
        counts.append(counter.get_total_flops())
    assert case.cached.batch(0).images is None
    assert counts[1] < counts[0]


def test_a_difference_is_refused(case: Case) -> None:
    with torch.no_grad():
        for parameter in case.stepper.model.vision.parameters():
            parameter.mul_(1.5)
    with pytest.raises(SystemExit, match="not equal"):
        require_equal(case)
