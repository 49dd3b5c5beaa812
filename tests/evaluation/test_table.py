from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from x2kit.evaluation.table import render
from x2kit.terminal import PlainConsole


def shares(r1: float) -> dict[str, float]:
    return {"r1": r1, "r5": r1 + 0.1, "r10": r1 + 0.2}


def language(r1: float, trained: bool) -> dict[str, Any]:
    return {
        "image_to_text": shares(r1),
        "text_to_image": shares(r1 - 0.1),
        "mean_r1": r1 - 0.05,
        "reranked": {"image_to_text": shares(r1 + 0.05), "text_to_image": shares(r1 - 0.05)},
        "queries": 500,
        "candidates": 500,
        "chance_r1": 0.002,
        "trained_with_images": trained,
    }


@pytest.fixture
def result() -> dict[str, Any]:
    return {
        "task": "retrieval",
        "split": "test",
        "languages": {
            "de": language(0.5, False),
            "en": language(0.7, True),
            "fr": language(0.6, False),
        },
        "rerank": {"method": "combined", "top_k": 16, "itm_weight": 0.5},
        "grounding": {
            code: {"iou50": share, "regions": 1514, "chance": 0.037, "trained_with_images": code == "en"}
            for code, share in (("de", 0.6), ("en", 0.9), ("fr", 0.65))
        },
        "grounding_iou": 0.5,
        "mean_zero_shot": 0.5,
        "warnings": [],
        "seconds": 3.0,
    }


def lines(result: dict[str, Any], width: int = 80) -> list[str]:
    console = PlainConsole(width=width, color_system=None)
    with console.capture() as capture:
        console.print(render(result))
    return [line.rstrip() for line in capture.get().splitlines()]


def cells(result: dict[str, Any], name: str) -> str:
    (row,) = [line for line in lines(result) if line.startswith(f"{name} ")]
    return " ".join(row.removeprefix(name).split())


def test_each_language_has_its_shares_in_per_cent(result: dict[str, Any]) -> None:
    assert cells(result, "en") == "70.0 80.0 90.0 60.0 70.0 80.0 75.0 65.0 90.0"


def test_a_hundred_per_cent_is_no_wider_than_other_shares(result: dict[str, Any]) -> None:
    narrow = lines(result)
    result["languages"]["en"]["image_to_text"] = {"r1": 0.9, "r5": 1.0, "r10": 1.0}
    assert cells(result, "en").startswith("90.0 100 100 60.0")
    assert lines(result)[:3] == narrow[:3]


def test_means_are_over_trained_and_over_zero_shot_languages(result: dict[str, Any]) -> None:
    assert cells(result, "mean trained") == cells(result, "en")
    assert cells(result, "mean zero-shot") == "55.0 65.0 75.0 45.0 55.0 65.0 60.0 50.0 62.5"
    names = [
        line.split("  ")[0] for line in lines(result) if line[:5] in ("en   ", "de   ", "fr   ", "mean ")
    ]
    assert names == ["en", "mean trained", "de", "fr", "mean zero-shot"]


def test_counts_chance_and_method_are_below_the_table(result: dict[str, Any]) -> None:
    text = " ".join(lines(result))
    assert "500 images, 500 texts a language; chance R@1 0.2 %" in text
    assert "the 16 best of each query by similarity / temperature + 0.5 log p(match)" in text
    assert "1514 regions a language; chance, with the box of another region: 3.7 %" in text
    result["grounding"]["en"]["with_detections"] = 1514
    assert "chance, with the box of a random detection" in " ".join(lines(result, 200))


def captions(fewest: int, most: int) -> dict[str, int]:
    return {"fewest": fewest, "most": most}


def test_captions_of_an_image_are_beside_the_counts(result: dict[str, Any]) -> None:
    rows = result["languages"]
    for row in rows.values():
        row["captions_per_image"] = captions(5, 5)
    assert "500 texts a language, 5 captions an image; chance" in " ".join(lines(result, 200))
    rows["fr"]["captions_per_image"] = captions(1, 2)
    assert "; captions an image: 5 in de, en, 1 to 2 in fr; chance" in " ".join(lines(result, 200))


def test_mean_recall_and_selection_are_notes(result: dict[str, Any]) -> None:
    result |= {
        "mean_recall": 0.7654,
        "selection": {
            "metric": "retrieval.mean_recall",
            "split": "val",
            "value": 0.75,
            "step": 40,
            "validations": 3,
        },
    }
    text = "\n".join(lines(result, 200))
    assert "mean of R@1, R@5 and R@10 in both directions, after re-ranking: 76.5 %" in text
    assert (
        "weights of step 40, selected by retrieval.mean_recall on val: 0.75, the best of 3 validations"
        in text
    )
    assert "mean_recall: " not in text


def test_it_fits_a_narrow_terminal(result: dict[str, Any]) -> None:
    for row in result["languages"].values():
        row["image_to_text"]["r10"] = row["text_to_image"]["r10"] = 1.0
    assert not any("…" in line for line in lines(result, width=80))


def test_tasks_not_measured_have_no_column(result: dict[str, Any]) -> None:
    del result["grounding"], result["grounding_iou"]
    for row in result["languages"].values():
        del row["reranked"]
    assert cells(result, "en") == "70.0 80.0 90.0 60.0 70.0 80.0"
    assert "reranked" not in " ".join(lines(result))


def test_grounding_alone_is_a_table(result: dict[str, Any]) -> None:
    del result["languages"], result["rerank"]
    assert cells(result, "de") == "60.0"
    assert cells(result, "mean zero-shot") == "62.5"


def test_a_task_with_records_of_its_own_is_not_of_the_split(result: dict[str, Any]) -> None:
    grounding = {"grounding": result["grounding"], "grounding_iou": 0.5}
    result |= {"split": "val", "data": {"sources": {"testA": {}}}}
    result["tasks"] = {"testA": {"result": grounding}, "other": {"result": grounding}}
    shown = [line.split(";")[0] for line in lines(result, 200) if "zero-shot: no image-text" in line]
    assert shown == ["split val", "its own records", "split val"]


def test_a_language_without_regions_has_a_dash(result: dict[str, Any]) -> None:
    del result["grounding"]["fr"]
    assert cells(result, "fr").endswith(" –")
    assert cells(result, "mean zero-shot").endswith(" 60.0")


def test_warnings_are_last(result: dict[str, Any]) -> None:
    result["warnings"] = ["grounding is at chance level in de"]
    assert lines(result)[-1] == "warning: grounding is at chance level in de"


def test_numbers_of_other_tasks_are_listed(result: dict[str, Any]) -> None:
    result["answers"] = {"accuracy": 0.625, "settings": {"kind": "open"}, "by_type": {"number": 0.5}}
    assert [line for line in lines(result) if line.startswith("answers")] == [
        "answers.accuracy: 0.625",
        "answers.by_type.number: 0.5",
    ]


def test_a_second_task_of_a_kind_has_its_own_table(result: dict[str, Any]) -> None:
    strict = {"grounding": {"en": {"iou75": 0.1, "regions": 9, "chance": 0.0}}, "grounding_iou": 0.75}
    result["tasks"] = {"retrieval": {"class_path": "Retrieval"}, "strict": {"result": strict}}
    found = lines(result)
    below = found[found.index("strict") + 1 :]
    assert [line.split() for line in below if line.startswith("en ")] == [["en", "10.0"]]


def test_languages_of_another_task_are_no_table() -> None:
    assert lines({"split": "test", "languages": {"en": 0.5}, "mean_length": 3}) == [
        "languages.en: 0.5",
        "mean_length: 3",
    ]


def test_reading_a_result_needs_no_torch() -> None:
    program = "import sys, x2kit.evaluation.table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_unequal_counts_of_images_are_shown_by_language(result: dict[str, Any]) -> None:
    result["languages"]["de"]["candidates"] = 493
    assert cells(result, "de (493 images)").startswith("50.0 60.0")
    assert cells(result, "en (500 images)").startswith("70.0 80.0")
    assert not any("…" in line for line in lines(result, width=80))


def test_unequal_counts_of_regions_are_shown_if_images_agree(
    result: dict[str, Any],
) -> None:
    result["grounding"]["fr"]["regions"] = 12
    assert cells(result, "fr (12 regions)").endswith("65.0")


def test_the_highest_r1_is_shown_with_its_cause(result: dict[str, Any]) -> None:
    assert "at most" not in " ".join(lines(result))
    result["languages"]["de"] |= {"highest_r1": 0.7, "shared_captions": 29}
    result["positives"] = "row"
    text = " ".join(lines(result))
    assert "(de): R@1 reaches at most 70 %, 29 texts are shared; positives: row" in text
