"""Predictions for the examples equal those of the model."""

from __future__ import annotations

import pytest
import torch

from tests.evaluation.stubs import Listed, photo
from tests.model import plain
from x2kit.evaluation.report.probe import PartOfSource, Probe, languages_shown
from x2kit.model import boxes_in_pixels
from x2kit.tasks import Grounding
from x2kit.tasks.grounding.metric import pixel_iou


def test_a_part_is_spread_evenly_and_a_short_source_is_whole() -> None:
    assert PartOfSource(Listed([photo(0)] * 10), 4).positions == [0, 2, 5, 7]
    assert PartOfSource(Listed([photo(0)] * 3), 4).positions == [0, 1, 2]


def test_captions_are_uncleaned_with_similarities_of_the_model(probe: Probe) -> None:
    language = probe.captions("de", trained=False)
    assert language is not None
    assert language.written[0] == probe.part[0]["caption"][0]["de"]  # type: ignore[index,typeddict-item]
    images = [probe.part[position]["image"] for position in range(9)]
    expected = plain.similarity(probe.model, images, language.written).T
    torch.testing.assert_close(language.similarity, expected)
    for query, image in enumerate(language.images):
        right = expected[query, image]
        assert language.ranks[query] == int((expected[query] >= right).sum()) - 1


def test_a_language_without_captions_is_none(probe: Probe) -> None:
    assert probe.captions("xx", trained=False) is None


def test_probabilities_equal_those_of_the_model(probe: Probe) -> None:
    language = probe.captions("en", trained=True)
    assert language is not None
    pairs = [(0, 3), (5, 3), (5, 8)]
    expected = plain.match(
        probe.model,
        [probe.part[position]["image"] for position, _ in pairs],
        [language.written[row] for _, row in pairs],
    )
    assert probe.match(language, pairs) == pytest.approx(expected.tolist(), abs=1e-5)
    assert probe.match(language, []) == []


def test_boxes_equal_those_of_the_model_for_the_chosen_regions(probe: Probe) -> None:
    found = probe.boxes("en", [2, 7], most=1)
    assert list(found) == [2, 7]
    (guess,) = found[7]
    region = probe.part[7]["regions"][0]
    assert guess.text == region["caption"]["en"]  # type: ignore[call-overload,index]
    assert guess.truth == pytest.approx([0.25, 0.25, 0.5, 0.5])  # 12 x 8 at the corner of 24 x 16 pixels
    predicted = plain.locate(probe.model, [probe.part[7]["image"]], [guess.text])
    assert guess.predicted == pytest.approx(predicted[0].tolist(), abs=1e-5)
    boxes = boxes_in_pixels(torch.cat([predicted, torch.tensor([guess.truth])]), [(24, 16)] * 2)
    assert guess.iou == pytest.approx(float(pixel_iou(boxes[:1], boxes[1:])), abs=1e-5)


def test_a_language_without_region_texts_has_no_boxes(probe: Probe) -> None:
    assert probe.boxes("xx", [0], most=4) == {}
    assert isinstance(probe.grounding, Grounding)


def test_the_first_trained_and_the_best_middle_and_worst_zero_shot_languages_are_shown() -> None:
    codes = ("en", "fr", "de", "ja", "ar", "zh")
    recall = {"de": 0.5, "ja": 0.9, "ar": 0.1, "zh": 0.7}
    assert languages_shown(codes, ("en", "fr"), recall) == ["en", "ja", "de", "ar"]


def test_without_numbers_the_first_zero_shot_languages_are_shown() -> None:
    assert languages_shown(("en", "de", "ja", "ar", "zh"), ("en",), {}) == ["en", "de", "ja", "ar"]
    assert languages_shown(("de",), (), {"de": 0.5}) == ["de"]
    assert languages_shown(("en", "de"), ("en", "de"), {}) == ["en", "de"]
