"""Boxes of texts: the box head, further places of the heat map, the matching probability of each."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.ops import box_convert, box_iou

from x2kit.errors import DataError, HeadError
from x2kit.inference import Model, locating
from x2kit.model.x2vlm import image_context
from x2kit.plugin import Context

from .conftest import TEXTS, picture


def test_the_first_box_is_that_of_the_box_head_cut_to_the_image(user: Model) -> None:
    module = user.module
    found = user.locate_all(picture(0), TEXTS, candidates=3)
    with torch.no_grad():
        features = module.encode_images(module.read(picture(0)))
        ids, mask = module.tokenize(TEXTS)
        fused = module.fuse(
            module.encode_texts(ids, mask), mask, image_context(features, torch.zeros(3, dtype=torch.int64))
        )
        corners = box_convert(module.predict_bbox(fused).double(), "cxcywh", "xyxy").clamp(0, 1)
    for location, (x0, y0, x1, y1) in zip(found, corners.tolist(), strict=True):
        assert location.boxes[0].relative == pytest.approx((x0, y0, x1 - x0, y1 - y0), abs=1e-6)
        assert location.boxes[0].pixels == pytest.approx(
            (30 * x0, 20 * y0, 30 * (x1 - x0), 20 * (y1 - y0)), abs=1e-4
        )
        assert location.method.startswith("box head; places of the map by occlusion")


def test_the_probability_is_that_of_the_region(user: Model) -> None:
    (box,) = user.locate(picture(0), TEXTS[0]).boxes
    module, (x, y, width, height) = user.module, box.relative
    with torch.no_grad():
        features = module.encode_images(module.read(picture(0)))
        ids, mask = module.tokenize(TEXTS[:1])
        rows = torch.tensor([0])
        bbox = torch.tensor([[x + width / 2, y + height / 2, width, height]])
        summary, patches = module.encode_regions(features, rows, bbox)
        context = Context(features.patches, rows, patches, summary[:, None])
        logits = module.itm_logits(module.fuse(module.encode_texts(ids, mask), mask, context))
    assert box.probability == pytest.approx(float(logits.softmax(1)[0, 1]), abs=1e-5)


def test_texts_together_are_located_as_alone(user: Model) -> None:
    together = user.locate_all(picture(0), TEXTS, candidates=4)
    for location, text in zip(together, TEXTS, strict=True):
        alone = user.locate(picture(0), text, candidates=4)
        assert location.text == alone.text == text
        for box, other in zip(location.boxes, alone.boxes, strict=True):
            assert box.relative == pytest.approx(other.relative, abs=1e-5)
            assert box.probability == pytest.approx(other.probability, abs=1e-5)


def test_several_texts_take_one_vision_pass(user: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    passes = []
    encode = user.module.encode_images
    monkeypatch.setattr(user.module, "encode_images", lambda images: passes.append(1) or encode(images))
    user.locate_all(picture(0), TEXTS * 20, candidates=3)
    assert len(passes) == 1


def test_candidates_are_other_places(user: Model) -> None:
    several = [user.locate(picture(seed), TEXTS[0], candidates=5).boxes for seed in range(4)]
    assert max(map(len, several)) > 1
    for boxes in several:
        assert len(boxes) <= 5
        corners = box_convert(torch.tensor([box.relative for box in boxes]), "xywh", "xyxy")
        assert ((corners >= 0) & (corners <= 1 + 1e-6)).all()
        assert (box_iou(corners, corners) - torch.eye(len(boxes))).max() <= 0.5 + 1e-6


def test_a_place_of_a_better_box_is_dropped(user: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, width, height = user.locate(picture(0), TEXTS[0]).boxes[0].relative
    same, inner = [x, y, x + width, y + 0.6 * height], [x, y, x + width, y + 0.4 * height]
    places = torch.tensor([same, inner], dtype=torch.float64)
    monkeypatch.setattr(locating, "boxes_of_peaks", lambda heat, count: places)
    found = user.locate(picture(0), TEXTS[0], candidates=3).boxes
    assert [box.relative for box in found] == [
        pytest.approx((x, y, width, height)),
        pytest.approx((x, y, width, 0.4 * height)),
    ]


def test_a_model_without_box_head_finds_the_places_of_its_map(user: Model) -> None:
    expected = user.explain(picture(0), TEXTS[0]).box
    del user.module.bbox_head
    found = user.locate(picture(0), TEXTS[0])
    assert found.boxes[0].relative == pytest.approx(expected.relative)
    assert found.method.startswith("places of the map by occlusion")


def test_a_model_without_matching_head_has_boxes_without_probability(user: Model) -> None:
    del user.module.itm_head
    found = user.locate(picture(0), TEXTS[0], candidates=3)
    assert [math.isnan(box.probability) for box in found.boxes] == [True]
    assert found.method == "box head"
    assert found.to_dict()["boxes"][0]["probability"] is None
    assert found.draw().size == (30, 20)


def test_a_model_with_neither_head_says_so(user: Model) -> None:
    del user.module.itm_head, user.module.bbox_head
    with pytest.raises(HeadError, match="box head"):
        user.locate(picture(0), TEXTS[0])


def test_broken_inputs_are_named(user: Model) -> None:
    with pytest.raises(DataError, match=r"absent\.png"):
        user.locate("absent.png", TEXTS[0])
    with pytest.raises(DataError, match=r"absent\.png"):
        user.locate_all("absent.png", [])
    with pytest.raises(DataError, match="nothing remains of the text"):
        user.locate_all(picture(0), ["a dog", "?"])
    assert user.locate_all(picture(0), []) == []


def test_a_video_is_located_and_drawn_on_its_first_frame(filming: Model) -> None:
    frames = [picture(0), picture(1)]
    found = filming.locate(frames, TEXTS[0], candidates=2)
    assert len(found.boxes) >= 1
    assert np.array_equal(np.asarray(found.source.open()), np.asarray(frames[0]))
    assert found.draw().tobytes() != frames[0].tobytes()
