"""Numbers of evaluation.json on the page."""

from __future__ import annotations

import re
from typing import Any

from x2kit.evaluation.report.results import draw_results, draw_table, headline, percent


def test_the_headline_has_every_mean_with_its_chance_and_counts(result: dict[str, Any]) -> None:
    figures = {figure.name: figure for figure in headline(result)}
    assert list(figures) == [
        "R@1, zero-shot",
        "R@1, zero-shot, re-ranked",
        "R@1, trained",
        "R@1, trained, re-ranked",
        "Grounding, IoU ≥ 0.5, zero-shot",
        "Grounding, IoU ≥ 0.5, trained",
    ]
    zero_shot = figures["R@1, zero-shot"]
    assert (zero_shot.value, zero_shot.chance) == (0.75, 0.002)
    assert "de, zh; 500 texts × 500 images" in zero_shot.about
    assert "best 16" in figures["R@1, trained, re-ranked"].about
    assert figures["Grounding, IoU ≥ 0.5, trained"].chance == 0.037


def test_the_table_has_a_row_for_each_language_trained_ones_first(result: dict[str, Any]) -> None:
    result["languages"] = dict(reversed(result["languages"].items()))
    rows = re.findall(r'<tr[^>]*><th scope="row">(.*?)</th>(.*?)</tr>', draw_table(result) or "")
    names = [re.sub(r"<.*?>", " ", name).split()[0] for name, _ in rows]
    assert names == ["en", "zh", "de", "mean"]
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for _, row in rows]
    assert cells[0][:3] == ["97.0", "97.0", "100.0"]
    assert cells[3][0] == "75.0"
    assert cells[3][-1] == "1,514"


def test_a_result_without_grounding_or_matching_has_no_such_columns(result: dict[str, Any]) -> None:
    for code in result["languages"]:
        del result["languages"][code]["reranked"]
    for key in ("grounding", "grounding_iou", "mean_reranked_zero_shot", "mean_reranked_trained"):
        del result[key]
    page = draw_results(result)
    assert "R@5" in page
    assert "re-ranked" not in page.lower()
    assert "IoU" not in page


def test_a_result_of_grounding_alone_is_shown(result: dict[str, Any]) -> None:
    del result["languages"]
    page = draw_results(result)
    assert "R@1" not in re.sub(r"<p.*?</p>", "", page)
    assert page.count("50.0") >= 3


def test_a_result_of_another_task_alone_gives_no_table(result: dict[str, Any]) -> None:
    assert draw_table({"split": "test", "warnings": [], "languages": {"en": {"cider": 1.2}}}) is None


def test_warnings_are_alerts(result: dict[str, Any]) -> None:
    result["warnings"] = ["grounding is at chance level in zh"]
    assert "is at chance level" in draw_results(result)
    assert 'role="alert"' in draw_results(result)


def test_small_shares_keep_two_digits() -> None:
    assert [percent(share) for share in (0.0021, 0.03, 0.978, 0.0, 1.0)] == [
        "0.21 %",
        "3.0 %",
        "97.8 %",
        "0.0 %",
        "100.0 %",
    ]
