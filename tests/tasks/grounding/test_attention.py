"""Weakly supervised grounding: boxes by attention, with and without detections, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.evaluation.stubs import Listed, photo, tiny_model
from x2kit.errors import DataError, HeadError
from x2kit.model import X2VLM
from x2kit.plugin import TaskContext
from x2kit.plugin.encoders import FusionEncoder
from x2kit.tasks import WeakGrounding
from x2kit.tasks.grounding.attention import AttentionMap

Make = Callable[..., TaskContext]
TRUE = [[0.0, 0.0, 12.0, 8.0], [6.0, 4.0, 18.0, 12.0]]
"""The boxes of the regions of a photo, which has 24 × 16 pixels and 2 × 2 patches."""


class Hot(AttentionMap):
    """Reads a map that is hot in the upper left patch, whatever image and text are."""

    def maps(self, model: X2VLM, images: Any, texts: Any, pairs: Tensor, *rest: Any) -> Tensor:
        found = torch.zeros(len(pairs), *images.grid)
        found[:, 0, 0] = 1
        return found


class HotGrounding(WeakGrounding):
    """WeakGrounding with these maps."""

    def locator(self, model: X2VLM) -> Hot:
        return Hot(self, model)


def test_a_model_with_the_matching_head_alone_is_measured(context: Make) -> None:
    model = tiny_model()
    for part in ("vision_proj", "text_proj", "temperature", "text_temperature", "bbox_head", "mlm_head"):
        delattr(model, part)
    task, given = WeakGrounding(), context(model=model, source=Listed([photo(index) for index in range(3)]))
    task.check(given)
    found = task.run(given)["grounding"]["de"]
    assert (found["regions"], found["with_detections"]) == (6, 0)
    assert 0 <= found["iou50"] <= 1


def test_the_best_detection_is_the_prediction(context: Make) -> None:
    boxes = [TRUE[1], [0.0, 0.0, 2.0, 2.0], TRUE[0]]
    records = [photo(index, detections=[{"bbox": box} for box in boxes]) for index in range(2)]
    given = context(source=Listed(records), languages=("en",))
    found = HotGrounding().run(given)["grounding"]["en"]
    assert found["iou50"] == 0.5  # always the first region's box
    assert found["with_detections"] == 4
    assert found["random_detection"] == found["chance"] == pytest.approx(1 / 3)
    assert found["best_detection"] == 1


def test_chance_is_that_of_each_region(context: Make) -> None:
    records = [photo(0, detections=[{"bbox": box} for box in TRUE]), photo(1)]
    given = context(source=Listed(records), languages=("en",))
    without = WeakGrounding().run(context(source=Listed([photo(0), photo(1)]), languages=("en",)))
    found = WeakGrounding().run(given)["grounding"]["en"]
    assert found["chance"] == pytest.approx((1 / 2 + without["grounding"]["en"]["chance"]) / 2)


def test_without_detections_the_box_of_the_map_is_the_prediction(context: Make) -> None:
    given = context(source=Listed([photo(0)]), languages=("en",))
    found = HotGrounding().run(given)["grounding"]["en"]
    assert found["iou50"] == 0.5  # the patch is the first region
    assert "best_detection" not in found


def test_a_detection_without_area_is_refused_with_its_record(context: Make) -> None:
    source = Listed([photo(3, detections=[{"bbox": [1, 1, 0, 4]}])])
    with pytest.raises(DataError, match=r"record photo-3: detection \[1.0, 1.0, 0.0, 4.0\] is not a box"):
        WeakGrounding().run(context(source=source))


def test_half_of_the_layers_come_before_the_one_that_is_read(
    model: X2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    for layers, layer in ((6, 3), (3, 1), (1, 0)):
        monkeypatch.setattr(model.fusion, "attention_layers", layers)
        assert AttentionMap(WeakGrounding(), model).layer == layer
    assert AttentionMap(WeakGrounding(layer=0), model).layer == 0


def test_a_layer_that_does_not_exist_is_refused(context: Make) -> None:
    with pytest.raises(HeadError, match=r"layer 1, but model\.fusion has the layers 0 to 0"):
        WeakGrounding(layer=1).check(context())


def test_a_fusion_encoder_without_attention_is_refused(
    context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model()
    monkeypatch.setattr(model.fusion, "attention_layers", FusionEncoder.attention_layers)
    with pytest.raises(HeadError, match=r"Attend \(model\.fusion\) gives no attention probabilities"):
        WeakGrounding().check(context(model=model))


def test_a_model_without_matching_head_is_refused(context: Make) -> None:
    model = tiny_model()
    del model.itm_head
    with pytest.raises(HeadError, match=r"no matching head; model\.heads\.built needs itm"):
        WeakGrounding().check(context(model=model))
