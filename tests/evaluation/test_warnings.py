from __future__ import annotations

from typing import Any

from x2kit.evaluation.warnings import at_chance, grounding_rows, warnings_of


def language(mean_r1: float, queries: int = 500) -> dict[str, Any]:
    return {
        "mean_r1": mean_r1,
        "chance_r1": 1 / queries,
        "queries": queries,
        "image_to_text": {"queries": queries},
        "text_to_image": {"queries": queries},
    }


def boxes(share: float) -> dict[str, Any]:
    return {"iou50": share, "chance": 0.04, "regions": 1500}


def test_three_standard_deviations_above_guessing_are_needed() -> None:
    # 1000 trials at 1 in 500: 2 hits expected, 1.4 is the standard deviation.
    assert at_chance(0.006, 0.002, 1000)
    assert not at_chance(0.007, 0.002, 1000)
    assert at_chance(0.0, 0.002, 1000)  # worse than guessing is no better


def test_few_trials_prove_little() -> None:
    assert at_chance(0.3, 0.1, 10)
    assert not at_chance(0.3, 0.1, 1000)


def test_results_above_chance_give_no_warning() -> None:
    result = {"languages": {"en": language(0.9)}, "grounding": {"en": boxes(0.8)}, "grounding_iou": 0.5}
    assert warnings_of(result) == []


def test_languages_at_chance_level_share_a_warning() -> None:
    result = {
        "languages": {"en": language(0.9), "de": language(0.001), "fr": language(0.004)},
        "grounding": {"en": boxes(0.9), "de": boxes(0.04), "fr": boxes(0.7)},
        "grounding_iou": 0.5,
    }
    assert warnings_of(result) == [
        "retrieval is at chance level in de, fr: R@1 0.001 to 0.004, chance 0.002",
        "grounding is at chance level in de: found 0.040, chance 0.04",
    ]


def matching(positive: float | None, negative: float | None) -> dict[str, Any]:
    return {"matching": {"positive_accuracy": positive, "negative_accuracy": negative}}


def test_a_collapsed_matching_head_is_named_with_its_languages() -> None:
    result = {
        "languages": {
            "en": language(0.9) | matching(0.8, 0.9),
            "de": language(0.9) | matching(0.0, 1.0),
            "fr": language(0.9) | matching(0.0, 1.0),
            "it": language(0.9) | matching(None, 1.0),
        }
    }
    (warning,) = warnings_of(result)
    assert '"no match"' in warning
    assert warning.endswith("in de, fr")


def test_languages_without_region_texts_are_listed() -> None:
    result = {"grounding": {"en": boxes(0.9)}, "grounding_iou": 0.5, "grounding_without": ["de", "fr"]}
    assert warnings_of(result) == ["grounding was not measured in de, fr: no region has a text in it"]


def test_chance_level_in_every_language_is_one_warning() -> None:
    result = {"languages": {"en": language(0.002), "de": language(0.002)}}
    assert warnings_of(result) == ["retrieval is at chance level in every language: R@1 0.002, chance 0.002"]


def test_a_result_of_other_tasks_alone_has_no_warnings() -> None:
    assert warnings_of({"answers": {"accuracy": 0.1}}) == []


def test_the_key_of_the_share_has_the_limit() -> None:
    row = {"iou75": 0.5, "chance": 0.1, "regions": 9}
    assert grounding_rows({"grounding": {"en": row}, "grounding_iou": 0.75}) == ("iou75", {"en": row})
    assert grounding_rows({})[1] == {}


def test_other_content_under_languages_or_grounding_is_ignored() -> None:
    assert warnings_of({"languages": {"en": 0.5}, "grounding": ["en"], "grounding_iou": "half"}) == []


def test_languages_measured_on_fewer_images_are_named_with_the_setting() -> None:
    rows = {
        code: language(0.9) | {"candidates": count} for code, count in (("en", 96), ("de", 93), ("fr", 96))
    }
    (warning,) = warnings_of({"languages": rows})
    assert "different numbers of images (de 93; others 96)" in warning
    assert "common_subset: true" in warning


def test_languages_measured_on_fewer_regions_are_named_with_the_setting() -> None:
    rows = {"en": boxes(0.9), "de": boxes(0.9) | {"regions": 700}}
    (warning,) = warnings_of({"grounding": rows, "grounding_iou": 0.5})
    assert "different numbers of regions (de 700; others 1500)" in warning


def test_missing_captions_are_named_with_the_expected_number() -> None:
    counts = {"en": (5, 5), "de": (1, 5), "fr": (1, 1), "cs": (1, None)}
    rows = {
        code: language(0.9) | {"captions_per_image": {"fewest": fewest, "expected": expected}}
        for code, (fewest, expected) in counts.items()
    }
    (warning,) = warnings_of({"languages": rows})
    assert "images have fewer captions than in the published set (de 1 of 5)" in warning


def test_a_result_on_the_selecting_split_has_a_warning() -> None:
    selection = {"split": "test", "metric": "retrieval.mean_recall"}
    (warning,) = warnings_of({"split": "test", "selection": selection})
    assert warning.startswith("the weights were selected on the split that is measured here, test")
    assert warnings_of({"split": "test", "selection": {**selection, "split": "validation"}}) == []
