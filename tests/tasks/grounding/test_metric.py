"""Grounding metric against the plain formulation and known boxes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.data.stubs import spoken
from tests.evaluation.stubs import Listed, photo, tiny_model
from tests.model import plain as plain_model
from x2kit.errors import DataError, HeadError
from x2kit.model import X2VLM, boxes_in_pixels
from x2kit.model.config import HeadName, HeadsConfig
from x2kit.objectives.boxes import iou_and_giou
from x2kit.plugin import TaskContext
from x2kit.tasks import Grounding, WeakGrounding
from x2kit.tasks.grounding import metric as module
from x2kit.tasks.grounding.metric import chance_hits, measure_grounding, pixel_iou

Make = Callable[..., TaskContext]


def test_predictions_equal_those_of_locate_for_each_region(
    context: Make, model: X2VLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    located: list[module.PredictedRegions] = []
    plain = module.predict_regions

    def kept(*arguments: Any) -> module.PredictedRegions:
        located.append(plain(*arguments))
        return located[-1]

    monkeypatch.setattr(module, "predict_regions", kept)
    records = [photo(index) for index in range(5)]
    result = measure_grounding(Grounding(iou=0.1), context(source=Listed(records), languages=("de",)))
    names = [region["caption"]["de"] for record in records for region in record["regions"]]  # type: ignore[index,call-overload]
    expected = plain_model.locate(
        model, [record["image"] for record in records for _ in record["regions"]], names
    )
    pixels = boxes_in_pixels(expected.double(), [(24, 16)] * 10)
    torch.testing.assert_close(located[0].predicted, pixels, rtol=0, atol=1e-5)
    torch.testing.assert_close(located[0].normalised, expected.double(), rtol=0, atol=1e-6)
    true = torch.tensor([[0, 0, 12, 8], [6, 4, 18, 12]], dtype=torch.float64).repeat(5, 1)
    iou = pixel_iou(pixels, true)
    assert result["grounding"]["de"]["iou10"] == pytest.approx(float((iou >= 0.1).float().mean()))
    assert result["grounding"]["de"]["mean_iou"] == pytest.approx(float(iou.mean()))
    assert (
        result["grounding"]["de"].items()
        >= {"regions": 10, "images": 5, "trained_with_images": False}.items()
    )


def test_a_perfect_box_is_found_and_a_wrong_one_is_not(
    context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    true = torch.tensor([[0.25, 0.25, 0.5, 0.5], [0.625, 0.625, 0.75, 0.75]])

    def oracle(model: X2VLM, images: Any, texts: Any, pairs: Tensor, head: Any, *rest: Any) -> Tensor:
        predicted = true.repeat(len(pairs) // 2, 1)
        predicted[0] = torch.tensor([0.9, 0.9, 0.1, 0.1])
        return predicted

    monkeypatch.setattr(module, "fuse_pairs", oracle)
    result = measure_grounding(Grounding(), context(source=Listed([photo(0), photo(1)])))
    assert result["grounding"]["en"]["iou50"] == 0.75
    assert result["grounding_mean_trained"] == result["grounding_mean_zero_shot"] == 0.75


def test_a_hit_reaches_the_limit_in_pixels() -> None:
    whole = torch.tensor([[0, 0, 20, 10]], dtype=torch.float64)
    half = torch.tensor([[0, 0, 10, 10]], dtype=torch.float64)
    assert pixel_iou(whole, half).tolist() == [0.5]
    thin, thicker = (torch.tensor([[3, 3, width, 50]], dtype=torch.float64) for width in (1, 1.5))
    assert (pixel_iou(thin, thin).tolist(), pixel_iou(thicker, thicker).tolist()) == ([0.0], [1.0])
    assert pixel_iou(half, half + torch.tensor([30, 30, 0, 0])).tolist() == [0.0]


def test_half_a_box_is_a_hit(context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    half = torch.tensor([[0.25, 0.125, 0.5, 0.25], [0.625, 0.4375, 0.75, 0.375]])
    monkeypatch.setattr(module, "fuse_pairs", lambda *arguments: half)
    assert measure_grounding(Grounding(), context(source=Listed([photo(0)])))["grounding"]["en"]["iou50"] == 1


def test_a_model_with_the_box_head_alone_is_measured_alike(context: Make) -> None:
    grounding = tiny_model()
    for part in ("vision_proj", "text_proj", "temperature", "text_temperature", "itm_head", "mlm_head"):
        delattr(grounding, part)
    source = Listed([photo(index) for index in range(3)])
    assert measure_grounding(Grounding(), context(model=grounding, source=source)) == measure_grounding(
        Grounding(), context(source=source)
    )


def test_chance_is_the_share_of_other_boxes_that_would_be_hits() -> None:
    boxes = torch.tensor([[0.5, 0.5, 1, 1], [0.5, 0.5, 1, 0.8], [0.1, 0.1, 0.1, 0.1], [0.9, 0.9, 0.1, 0.1]])
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    hits = sum(float(iou_and_giou(boxes[i : i + 1], boxes[j : j + 1])[0]) > 0.5 for i, j in pairs)
    assert chance_hits(boxes, 0.5) == pytest.approx(hits / len(pairs)) == pytest.approx(2 / 12)
    assert chance_hits(boxes[:1], 0.5) == 0


def test_chance_of_many_boxes_is_estimated_from_evenly_spaced_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    boxes = torch.rand(600, 4) * 0.3 + 0.3
    whole = chance_hits(boxes, 0.5)
    monkeypatch.setattr(module, "CHANCE_BOXES", 200)
    assert chance_hits(boxes, 0.5) == pytest.approx(whole, abs=0.03)


def test_a_region_without_a_text_in_a_language_is_not_measured_in_it(context: Make) -> None:
    record = photo(0)
    record["regions"][1]["caption"] = {"en": "cat"}
    result = measure_grounding(Grounding(), context(source=Listed([record, photo(1)])))["grounding"]
    assert (result["en"]["regions"], result["de"]["regions"]) == (4, 3)


def test_a_language_without_region_texts_is_listed_as_not_measured(context: Make) -> None:
    source = Listed([photo(0, regions=[{"bbox": [0, 0, 4, 4], "caption": {"en": "dog"}}])])
    result = measure_grounding(Grounding(), context(source=source))
    assert list(result["grounding"]) == ["en"]
    assert result["grounding_without"] == ["de"]
    assert result["grounding_mean_zero_shot"] is None


def test_records_without_region_texts_are_refused(context: Make) -> None:
    with pytest.raises(DataError, match="no region has a text in en, de; remove the Grounding task"):
        measure_grounding(Grounding(), context(source=Listed([photo(0, regions=[])])))


def test_a_bad_box_is_refused_with_its_record(context: Make) -> None:
    source = Listed([photo(4, regions=[{"bbox": [20, 0, 9, 4], "caption": spoken("dog")}])])
    with pytest.raises(DataError, match="record photo-4: box"):
        measure_grounding(Grounding(), context(source=source))


def test_the_common_subset_has_regions_with_a_text_in_every_language(context: Make) -> None:
    records = [photo(index) for index in range(3)]
    records[1]["regions"][0]["caption"] = {"en": "english alone"}
    found = [
        measure_grounding(Grounding(common_subset=common), context(source=Listed(records)))["grounding"]
        for common in (False, True)
    ]
    assert [[row["regions"] for row in boxes.values()] for boxes in found] == [[6, 5], [5, 5]]


def test_the_results_file_has_the_boxes_in_pixels(context: Make) -> None:
    saved: dict[str, Any] = {}
    given = context(source=Listed([photo(3)]), languages=("en",), save=saved.__setitem__)
    measure_grounding(Grounding(), given)
    (boxes,) = saved.values()
    assert list(saved) == ["predictions-en"]
    assert [(each["id"], each["text"]) for each in boxes] == [
        ("photo-3", text) for text in texts_of(photo(3))
    ]
    located = plain_model.locate(given.model, [photo(3)["image"]] * 2, texts_of(photo(3)))
    expected = boxes_in_pixels(located, [(24, 16)] * 2)
    torch.testing.assert_close(torch.tensor([each["bbox"] for each in boxes]), expected, atol=1e-4, rtol=0)


def texts_of(record: Any) -> list[str]:
    return [region["caption"]["en"] for region in record["regions"]]


@pytest.mark.parametrize(("task", "head"), [(Grounding(), "bbox"), (WeakGrounding(), "itm")])
def test_the_head_that_a_model_lacks_is_named(task: Grounding | WeakGrounding, head: HeadName) -> None:
    assert task.missing_heads(HeadsConfig(built=(head,))) == {}
    assert f"add {head}" in task.missing_heads(HeadsConfig(built=("itc",)))["built"]


def test_a_model_without_box_head_is_refused_before_images_are_read(context: Make) -> None:
    model = tiny_model()
    del model.bbox_head
    with pytest.raises(HeadError, match=r"no box head; model\.heads\.built needs bbox"):
        Grounding().check(context(model=model, source=Listed([photo(0, image=None)])))
