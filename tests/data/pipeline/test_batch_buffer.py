"""A buffered batch is the batch, in one buffer."""

from __future__ import annotations

import pickle

import torch
from torch import Tensor

from tests.data.pipeline.test_loader import everything
from tests.data.stubs import WordTokenizer
from x2kit.data.pipeline.batch import Batch
from x2kit.data.pipeline.batch_buffer import ALIGNMENT, from_buffer, shared, to_buffer
from x2kit.data.pipeline.loader import StepBatches
from x2kit.plugin import ImageSpec, VisionFeatures


def batch() -> Batch:
    return StepBatches(everything(), WordTokenizer(), ImageSpec(size=16), 0, 2).batch(0)


def tensors_of(value: object) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else ()
    return [tensor for each in inner for tensor in tensors_of(each)]


def test_every_tensor_has_its_values_and_dtype_again() -> None:
    given = batch()
    found = from_buffer(to_buffer(given, shared))
    assert found._replace(images=None, streams={}) == given._replace(images=None, streams={})
    assert {name: type(rows) for name, rows in found.streams.items()} == {
        name: type(rows) for name, rows in given.streams.items()
    }
    pairs = list(zip(tensors_of(found), tensors_of(given), strict=True))
    assert len(pairs) > 10
    assert {tensor.dtype for _, tensor in pairs} >= {torch.uint8, torch.int64, torch.bool}
    for one, other in pairs:
        assert one.dtype == other.dtype
        assert torch.equal(one, other)


def test_cached_features_are_in_the_buffer_too() -> None:
    summary, patches = torch.rand(2, 4), torch.rand(2, 6, 4).bfloat16()
    buffered = to_buffer(
        Batch(3, None, {}, {}, [], features=VisionFeatures(summary, patches, (2, 3))), shared
    )
    assert tensors_of(buffered.layout) == []
    found = from_buffer(buffered).features
    assert isinstance(found, VisionFeatures)
    assert torch.equal(found.summary, summary)
    assert torch.equal(found.patches, patches)
    assert found.grid == (2, 3)


def test_all_tensors_lie_in_one_buffer_of_shared_memory() -> None:
    buffered = to_buffer(batch(), shared)
    assert buffered.buffer.is_shared()
    for tensor in tensors_of(from_buffer(buffered)):
        assert tensor.untyped_storage().data_ptr() == buffered.buffer.data_ptr()
        assert (tensor.data_ptr() - buffered.buffer.data_ptr()) % ALIGNMENT == 0
        assert tensor.is_contiguous()


def test_the_layout_has_no_tensor_and_can_be_sent() -> None:
    buffered = to_buffer(batch(), lambda size: torch.zeros(size, dtype=torch.uint8))
    assert tensors_of(buffered.layout) == []
    assert pickle.loads(pickle.dumps(buffered.layout)) == buffered.layout


def test_a_batch_without_tensors_stays_as_it_is() -> None:
    given = Batch(3, None, {}, {}, [])
    assert from_buffer(to_buffer(given, shared)) == given
