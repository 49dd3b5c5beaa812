"""Equal losses and gradients of both steps of the benchmark at a small size; no test depends on speed."""

from __future__ import annotations

import pytest
import torch

from tests.benchmarks.step import look, one_call_a_length, our_step, padded, plain_step, require_equal
from tests.benchmarks.step_batch import SPREAD, Task, make_task

SIZES = {
    "vision": {"image_size": 64, "width": 48, "depth": 2, "heads": 4},
    "text": {"layers": 2, "width": 32, "heads": 4, "vocab_size": 200, "max_length": 40},
    "fusion": {"layers": 2, "heads": 4},
}
SETTINGS = {f"model.{part}.init_args.{key}": v for part, of in SIZES.items() for key, v in of.items()}


@pytest.fixture(scope="module", params=[True, False], ids=["shared", "distinct"])
def task(request: pytest.FixtureRequest) -> Task:
    return make_task(2, SETTINGS, shared=request.param)


def test_losses_and_gradients_are_equal(task: Task) -> None:
    plain, ours = look(task, plain_step(task)), look(task, our_step(task))
    assert len(plain.losses) == 8
    require_equal(plain, ours)


def test_fewer_operations(task: Task) -> None:
    plain, ours = look(task, plain_step(task)), look(task, our_step(task))
    assert ours.operations < plain.operations / (1.6 if len(task.batch.images) == 2 else 1.3)


def test_no_padding_is_computed_at_lengths_of_captions() -> None:
    """Texts padded to their stream's longest, packed, and one call for each length: equal losses and gradients."""
    task = make_task(4, SETTINGS, tokens=SPREAD)
    ours = look(task, our_step(task))
    others = {form: look(task, our_step(task, form=form)) for form in (padded, one_call_a_length)}
    for other in others.values():
        require_equal(other, ours)
    # At width 32 attention to the other texts of a row counts for more than at 768.
    assert ours.operations < 1.1 * others[one_call_a_length].operations
    assert others[padded].operations > 1.15 * ours.operations


def test_captions_of_distinct_images_share_none() -> None:
    batch = make_task(2, SETTINGS, shared=False).batch
    images, regions = (batch.streams[name].images.tolist() for name in ("image", "region"))
    assert len(batch.images) == len(set(images)) + len(set(regions)) == 6
    assert not set(images) & set(regions)
    assert len(set(images)) == len(images)


def test_difference_above_the_tolerance_is_refused(task: Task) -> None:
    plain = look(task, plain_step(task))
    name = next(iter(plain.gradients))
    other = plain._replace(gradients={**plain.gradients, name: plain.gradients[name] + 1e-2})
    with pytest.raises(SystemExit, match="not equal"):
        require_equal(plain, other)
    broken = {n: torch.full_like(g, torch.nan) for n, g in plain.gradients.items()}
    with pytest.raises(SystemExit, match="not equal"):
        require_equal(plain, plain._replace(gradients=broken))
