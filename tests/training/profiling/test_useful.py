"""Useful operations: equal to the executed ones without padding, and unchanged by padding."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from tests.training.conftest import step_batch, texts
from x2kit.data.pipeline.batch import Batch, MaskedTexts, PairedRows, ParallelRows, TextRows
from x2kit.model import X2VLM
from x2kit.plugin.tasks import Texts
from x2kit.training.profiling.costs import count_operations, meta_copy
from x2kit.training.profiling.useful import UsefulCounter
from x2kit.training.step.losses import step_losses
from x2kit.training.step.plan import Negatives

ACTIVE: Any = {
    "images": ("itc", "itm", "mlm"),
    "regions": ("itc", "itm", "mlm", "bbox", "giou"),
    "parallel": ("ttc", "ttm", "tlm"),
    "alone": ("mlm",),
}


@pytest.fixture(autouse=True)
def _one_text_a_row(model: X2VLM) -> None:
    """Rows of several texts execute attention between them, which is not useful."""
    for encoder in (model.text, model.fusion):
        vars(encoder)["packs"] = False


def _full(rows: int, length: int, masked: int, seed: int) -> tuple[Texts, MaskedTexts]:
    """Texts without padding, all of whose masked tokens count."""
    plain = texts([length] * rows, length, seed)
    positions = torch.tensor([[1, 2]]).repeat(masked, 1)
    return plain, MaskedTexts(plain.ids[:masked].clone(), positions, plain.ids[:masked, 1:3])


def without_padding(*lengths: int) -> Batch:
    """Build a batch whose streams have texts of one length each: captions, names, first and second texts, alone."""
    captioned, named, of_first, of_second, of_alone = lengths or (7, 5, 6, 8, 9)
    batch = step_batch()
    images, regions = batch.streams["images"], batch.streams["regions"]
    assert isinstance(images, PairedRows)
    assert isinstance(regions, PairedRows)
    captions, masked_captions = _full(4, captioned, 3, 1)
    names, masked_names = _full(5, named, 5, 2)
    first, masked_first = _full(3, of_first, 3, 3)
    streams = {
        "images": images._replace(texts=captions, masked=masked_captions),
        "regions": regions._replace(texts=names, masked=masked_names),
        "parallel": ParallelRows(first, _full(3, of_second, 3, 4)[0], masked_first, torch.arange(3)),
        "alone": TextRows(*_full(2, of_alone, 2, 5)),
    }
    return batch._replace(streams=streams)


def padded(value: Any, by: int) -> Any:
    """Pad all texts by some tokens, and all lists of masked tokens by one."""
    if isinstance(value, Texts):
        return value._replace(ids=F.pad(value.ids, (0, by)), mask=F.pad(value.mask, (0, by)))
    if isinstance(value, MaskedTexts):
        labels = F.pad(value.labels, (0, 1), value=-100)
        return MaskedTexts(F.pad(value.ids, (0, by)), F.pad(value.positions, (0, 1)), labels)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(padded(item, by) for item in value))
    if isinstance(value, dict):
        return {name: padded(item, by) for name, item in value.items()}
    return value


def _losses(model: X2VLM, batch: Batch) -> Tensor:
    counts = {"images": 3, "regions": 5, "parallel": 3}
    negatives = {
        name: Negatives((torch.arange(count) + 1) % count, (torch.arange(count) + 1) % count)
        for name, count in counts.items()
    }
    found = step_losses(model, batch, ACTIVE, negatives)
    return torch.stack([loss for on in found.values() for loss in on.values()]).sum()


def _useful(model: X2VLM, batch: Batch) -> int:
    return UsefulCounter(model, meta_copy(model)).operations(lambda: _losses(model, batch))


def _executed(model: X2VLM, batch: Batch) -> int:
    with torch.no_grad(), count_operations() as counter:
        _losses(model, batch)
    total: int = counter.get_total_flops()
    return total


def test_without_padding_all_operations_are_useful(model: X2VLM) -> None:
    batch = without_padding(7, 7, 7, 7, 7)  # rows of similar length may share a call, with padding
    assert _useful(model, batch) == 3 * _executed(model, batch)


@pytest.mark.parametrize("by", [1, 8])
def test_padding_changes_no_useful_operation(model: X2VLM, by: int) -> None:
    plain, wide = without_padding(), padded(without_padding(), by)
    assert torch.allclose(_losses(model, plain), _losses(model, wide), atol=1e-4)
    assert _executed(model, wide) >= _executed(model, plain)
    assert _useful(model, wide) == _useful(model, plain)


def test_a_step_has_about_three_times_the_operations_of_its_forward_pass(model: X2VLM) -> None:
    batch = without_padding(7, 7, 7, 7, 7)
    with count_operations() as counter:
        _losses(model, batch).backward()  # type: ignore[no-untyped-call]
    # Attention recomputes its scores in the backward pass, and the first layer of images has no gradient of its input.
    assert counter.get_total_flops() == pytest.approx(_useful(model, batch), rel=0.1)
