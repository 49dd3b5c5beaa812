"""Results of five tasks become one table, with means over languages with and without English, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
from rich.console import Console

from x2kit.evaluation.iglue import BENCHMARKS, collect, render, scores_of


def by_rows(task: str, accuracy: dict[str, float], rows: int, **row: Any) -> dict[str, Any]:
    """A result of a task that is measured row by row."""
    scores = {code: {"accuracy": share, "rows": rows, **row} for code, share in accuracy.items()}
    return {"tasks": {task: {"result": {"score": "accuracy", "scores": scores}}}}


def retrieved(r1: dict[str, tuple[float, float]], texts: int, reranked: bool = True) -> dict[str, Any]:
    """A result of retrieval, its R@1 of images and texts."""

    def directions(images: float, texts_: float) -> dict[str, Any]:
        return {"text_to_image": {"r1": images}, "image_to_text": {"r1": texts_}}

    rows = {
        code: {
            "mean_r1": 0.0,
            "chance_r1": 0.001,
            "queries": texts,
            **directions(0.1, 0.1),
            **({"reranked": directions(*shares)} if reranked else {}),
        }
        for code, shares in r1.items()
    }
    return {"tasks": {"retrieval": {}}, "languages": rows}


def test_means_are_over_all_languages_and_without_english() -> None:
    accuracy = {"ar": 0.5, "en": 0.8, "es": 0.6, "fr": 0.7, "ru": 0.4}
    result = by_rows("xvnli", accuracy, 1150, chance=1 / 3, most_frequent=0.34)
    found = collect({"xvnli": [result]})
    xvnli = found["tasks"]["xvnli"]
    assert xvnli["scores"] == {"accuracy": accuracy}
    assert xvnli["mean"]["accuracy"] == pytest.approx(0.6)
    assert xvnli["mean_without_english"]["accuracy"] == pytest.approx(0.55)
    assert xvnli["rows"] == dict.fromkeys(accuracy, 1150)
    assert set(xvnli["chance"].values()) == {1 / 3}
    assert found["warnings"] == []


def test_retrieval_has_two_scores_after_re_ranking() -> None:
    texts = BENCHMARKS["xflickrco"].rows
    result = retrieved({code: (0.4, 0.6) if code == "en" else (0.2, 0.3) for code in texts}, 2000)
    found = collect({"xflickrco": [result]})
    task = found["tasks"]["xflickrco"]
    assert task["mean_without_english"] == {"images": pytest.approx(0.2), "texts": pytest.approx(0.3)}
    assert task["mean"]["images"] == pytest.approx((0.4 + 7 * 0.2) / 8)
    assert found["warnings"] == [
        "xFlickr&CO, de: 2000 rows, the published test set has 1999",
        "xFlickr&CO, id: 2000 rows, the published test set has 1999",
    ]
    plain = scores_of(retrieved({"en": (0.4, 0.6)}, 2000, reranked=False), "wit")
    assert plain.scores == {"images": {"en": 0.1}, "texts": {"en": 0.1}}


def test_other_numbers_of_rows_and_missing_languages_are_named() -> None:
    found = collect({"xvnli": [by_rows("xvnli", {"ar": 0.5, "en": 0.5, "es": 0.5, "fr": 0.5}, 1164)]})
    assert found["warnings"][0] == "XVNLI, ar: 1164 rows, the published test set has 1150"
    assert found["warnings"][-1] == "XVNLI: not measured in ru, so its means are not those of the benchmark"


def test_english_of_marvl_has_any_number_of_rows() -> None:
    accuracy = dict.fromkeys(BENCHMARKS["marvl"].rows, 0.5)
    result = by_rows("marvl", accuracy, 6967)
    for code, count in BENCHMARKS["marvl"].rows.items():
        result["tasks"]["marvl"]["result"]["scores"][code]["rows"] = count or 6967
    assert collect({"marvl": [result]})["warnings"] == []


def test_results_of_single_languages_are_joined() -> None:
    results = [by_rows("xgqa", {code: share}, 9666) for code, share in (("de", 0.4), ("zh", 0.2))]
    task = collect({"xgqa": results})["tasks"]["xgqa"]
    assert task["scores"] == {"accuracy": {"de": 0.4, "zh": 0.2}}
    assert task["mean"] == task["mean_without_english"] == {"accuracy": pytest.approx(0.3)}


def test_questions_without_answers_are_not_scored() -> None:
    result = by_rows("xgqa", {"en": 0.5}, 0, annotated_questions=7)
    result["tasks"]["xgqa"]["result"]["scores"]["de"] = {"accuracy": None, "annotated_questions": 0}
    found = scores_of(result, "xgqa")
    assert (found.scores, found.rows) == ({"accuracy": {"en": 0.5}}, {"en": 7})


def test_one_result_may_hold_several_tasks() -> None:
    both: dict[str, Any] = {"tasks": {**by_rows("xvnli", {"en": 0.4}, 1)["tasks"], "marvl": {}}}
    assert scores_of(both, "xvnli").scores == {"accuracy": {"en": 0.4}}
    with pytest.raises(KeyError):
        scores_of(both, "xgqa")


def test_the_table_has_a_row_for_each_language_and_mean() -> None:
    found = collect(
        {
            "xvnli": [by_rows("xvnli", {"en": 0.8, "ar": 0.5}, 1150, chance=1 / 3, most_frequent=0.345)],
            "wit": [retrieved({"en": (0.25, 0.5), "bg": (0.125, 0.25)}, 1000)],
        }
    )
    console = Console(width=100, record=True)
    console.print(render(found))
    lines = [line.split() for line in console.export_text().splitlines()]
    assert ["ar", "50.00"] in lines
    assert ["en", "80.00", "25.00", "50.00"] in lines
    assert ["mean", "without", "en", "50.00", "12.50", "25.00"] in lines
    assert ["mean", "65.00", "18.75", "37.50"] in lines
    assert ["chance", "33.33", "0.10", "0.10"] in lines
    assert ["most", "frequent", "34.50"] in lines
    assert ["rows", "1150", "1000", "1000"] in lines
