"""A comparison as Markdown, CSV, JSON, drawings, terminal tables; published numbers beside it."""

from __future__ import annotations

import csv
import json
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.comparison.conftest import PHOTOS
from x2kit.evaluation.comparison import Settings, compare, write_comparison
from x2kit.evaluation.comparison.comparing import Comparison, Row, Score, Table
from x2kit.evaluation.comparison.drawing import draw_table
from x2kit.evaluation.comparison.grids import score_grid
from x2kit.evaluation.comparison.measurements import label_runs
from x2kit.evaluation.comparison.published import PublishedRow, beside_published
from x2kit.evaluation.comparison.resampling import Interval
from x2kit.evaluation.comparison.writing import csv_text, markdown, render
from x2kit.terminal import PlainConsole

QUICK = Settings(samples=300, permutations=299)


@pytest.fixture(scope="module")
def comparison(runs: tuple[Path, Path]) -> Comparison:
    return compare(label_runs(runs), QUICK)


def expectation(**changes: Any) -> dict[str, dict[str, Any]]:
    values = {"languages": {"en": {"reranked": {"text_to_image": {"r1": 0.25}}}}}
    return {"x": {"model": "a model", "task": "retrieval", "source": "a table", "values": values, **changes}}


def published(comparison: Comparison, **changes: Any) -> list[PublishedRow]:
    return beside_published(comparison.measurements, expectation(**changes), QUICK)


def test_markdown_has_every_table_with_chance_counts_and_method(comparison: Comparison) -> None:
    text = markdown(comparison)
    assert text.startswith("# Comparison of one, two\n")
    assert "## retrieval reranked.text to image r1, per cent" in text
    assert (
        "| language | one | two | two − one | p | p (Holm) | chance | items | records | candidates |" in text
    )
    (row,) = re.findall(
        r"^\| de \|.*\| 45 \| 23 \| 23 \|$", text.split("reranked.text to image")[1], re.MULTILINE
    )[:1]
    assert re.fullmatch(
        r"\| de \| [\d.]+ \[[\d.]+, [\d.]+\] \| [\d.]+ \[[\d.]+, [\d.]+\] \| [+-][\d.]+ \[[+-][\d.]+, [+-][\d.]+\] "
        r"\| [\d.]+ \| [\d.]+ \| 4\.3 \| 45 \| 23 \| 23 \|",
        row,
    )
    assert "25 tests were made; p (Holm) is adjusted for all of them" in text
    assert "299 random permutations, seed 0" in text
    assert "## Inputs that differ" in text
    assert "| recipe: training.seed | 1 | 2 |" in text


def test_a_table_by_hand() -> None:
    """Two runs, one language: every cell is written out."""
    rows = [
        Row(
            "en",
            ("en",),
            [Score(0.5, Interval(0.4, 0.6), 8, 4), Score(0.005, None, 0, 0)],
            [None, None],
            0.125,
            (4,),
        )
    ]
    table = Table("retrieval", "image_to_text", "r1", rows, {"b": "other records"}, ("de",))
    grid = score_grid(table, Comparison([stub("a"), stub("b")], QUICK, [table], []))
    assert grid.title == "retrieval image to text r1, per cent"
    assert grid.head == ["language", "a", "b", "chance", "items", "records", "candidates"]
    assert grid.rows == [["en", "50.0 [40.0, 60.0]", "0.50", "12.5", "8", "4", "4"]]
    assert grid.notes == ["b is not paired with a: other records", "without de, which not all runs have"]


def stub(label: str) -> Any:
    from x2kit.evaluation.comparison.measurements import Measurement

    return Measurement(label, Path(label), {"tasks": {}, "checkpoint": {}})


def test_values_above_1_are_no_shares() -> None:
    rows = [Row("en", ("en",), [Score(1.25, Interval(1.2, 1.3), 8, 8)], [None])]
    table = Table("captions", "", "cider", rows)
    grid = score_grid(table, Comparison([stub("a")], QUICK, [table], []))
    assert (grid.title, grid.rows) == ("captions cider", [["en", "1.250 [1.200, 1.300]", "8", "8"]])


def test_csv_has_a_line_for_each_run_language_and_metric(comparison: Comparison) -> None:
    lines = list(csv.DictReader(csv_text(comparison).splitlines()))
    assert len(lines) == 5 * 5 * 2
    one, two = (
        line
        for line in lines
        if (line["task"], line["part"], line["language"]) == ("retrieval", "reranked.image_to_text", "en")
    )
    stated = comparison.measurements[1].numbers("retrieval")["languages"]["en"]["reranked"]["image_to_text"][
        "r1"
    ]
    assert float(two["value"]) == stated
    assert (one["run"], two["run"], one["p"]) == ("one", "two", "")
    assert 0 < float(two["p"]) <= float(two["p_holm"]) <= 1
    assert float(two["difference"]) == pytest.approx(float(two["value"]) - float(one["value"]))
    assert (one["items"], one["records"]) == (str(PHOTOS), str(PHOTOS))


def test_all_files_are_written(comparison: Comparison, tmp_path: Path) -> None:
    written = write_comparison(comparison, published(comparison), tmp_path / "out")
    assert {file.relative_to(tmp_path / "out").as_posix() for file in written} >= {
        "comparison.md",
        "comparison.csv",
        "comparison.json",
        "grounding.iou50.svg",
        "retrieval.reranked.text_to_image.r1.svg",
        "trec/retrieval.reranked.text_to_image.de.two.run",
        "trec/retrieval.reranked.text_to_image.de.two.qrels",
    }
    assert all(file.is_file() for file in written)
    found = json.loads((tmp_path / "out/comparison.json").read_text())
    assert (found["tests"], found["resamples"], found["seed"]) == (25, 300, 0)
    assert [one["label"] for one in found["runs"]] == ["one", "two"]
    assert len(found["scores"]) == 50
    text = (tmp_path / "out/comparison.md").read_text()
    for name in re.findall(r"\]\(([^)]+\.svg)\)", text):
        assert (tmp_path / "out" / name).is_file()


def test_a_drawing_has_a_dot_and_an_interval_for_each_score(comparison: Comparison) -> None:
    (table,) = [each for each in comparison.tables if each.task == "grounding"]
    drawing = ElementTree.fromstring(draw_table(table, comparison))
    name = "{http://www.w3.org/2000/svg}"
    dots = [each for each in drawing.iter(f"{name}circle") if each.find(f"{name}title") is not None]
    assert len(dots) == 2 * len(table.rows)
    for dot in dots:
        assert 110 <= float(dot.attrib["cx"]) <= 620


def test_names_of_runs_are_escaped(comparison: Comparison, runs: tuple[Path, Path]) -> None:
    measurements = label_runs(runs)
    odd = [type(one)("<b>|x", one.file, one.result) for one in measurements[:1]] + measurements[1:]
    text = markdown(Comparison(odd, QUICK, comparison.tables, comparison.inputs))
    assert "| language | &lt;b>\\|x | two |" in text
    ElementTree.fromstring(draw_table(comparison.tables[0], Comparison(odd, QUICK, comparison.tables, [])))


def test_published_numbers_are_subtracted_with_an_interval(comparison: Comparison) -> None:
    (row,) = published(comparison)
    first, second = row.reached
    for reached, one in zip((first, second), comparison.measurements, strict=True):
        value = one.numbers("retrieval")["languages"]["en"]["reranked"]["text_to_image"]["r1"]
        assert (reached.value, reached.difference) == (value, value - 0.25)
        assert reached.interval is not None
        assert reached.interval.low <= value - 0.25 <= reached.interval.high
    # the interval is that of the score itself, moved
    (table,) = [each for each in comparison.tables if each.part == "reranked.text_to_image"]
    (english,) = [each for each in table.rows if each.language == "en"]
    assert english.scores[0] is not None
    assert english.scores[0].interval is not None
    assert first.interval == pytest.approx([bound - 0.25 for bound in english.scores[0].interval], abs=0.03)
    text = markdown(comparison, [row])
    assert "## retrieval: a model" in text
    assert "| number | published | one | difference | two | difference |" in text
    assert "published: a table" in text


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"records": 5000}, "published for 5,000 records, measured on 23"),
        ({"split": "dev"}, "published for the split dev, measured on test"),
        ({"task": "vqa"}, "task vqa was not measured"),
        ({"values": {"languages": {"fr": {"image_to_text": {"r1": 0.1}}}}}, "the result has no such number"),
    ],
)
def test_what_cannot_be_compared_says_why(
    comparison: Comparison, changes: dict[str, Any], reason: str
) -> None:
    (row,) = published(comparison, **changes)
    for one in row.reached:
        assert (one.difference, one.interval, one.reason) == (None, None, reason)
    assert f"one: {reason}" in markdown(comparison, [row])


def test_the_terminal_shows_the_same_tables(comparison: Comparison) -> None:
    console = PlainConsole(width=200, color_system=None)
    with console.capture() as capture:
        console.print(render(comparison, published(comparison)))
    text = capture.get()
    for part in (
        "grounding iou50, per cent",
        "− one",
        "Inputs that differ",
        "published: a table",
        "25 tests",
    ):
        assert part in text


def test_the_terminal_needs_80_columns_for_any_number_of_runs(comparison: Comparison) -> None:
    console = PlainConsole(width=80, color_system=None)
    with console.capture() as capture:
        console.print(render(comparison))
    lines = capture.get().splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith("grounding iou50")]
    assert re.match(r"mean +one +[\d.]+ \[[\d.]+, [\d.]+\]$", lines[start + 3].rstrip())
    assert re.match(
        r" +two +[\d.]+ \[[\d.]+, [\d.]+\] +[+-][\d.]+ \[.*\] +[\d.]+ +[\d.]+$", lines[start + 4].rstrip()
    )
    assert re.match(r"chance [\d.]+, items 46, records 23 in each language", lines[start + 13])


def test_a_single_run_has_no_differences(runs: tuple[Path, Path]) -> None:
    text = markdown(compare(label_runs(runs[:1]), QUICK))
    assert text.startswith("# one\n")
    assert "| language | one | chance | items | records |" in text
    assert "tests were made" not in text
    assert "Inputs that differ" not in text


def test_a_plugins_comparison_needs_no_name_of_a_task(make_run: Callable[..., Path]) -> None:
    """Tasks are called as the recipe calls them."""
    from x2kit.tasks import Grounding

    found = compare(label_runs([make_run("one", tasks={"boxes": Grounding(iou=0.1)})]), QUICK)
    assert [(table.task, table.metric) for table in found.tables] == [("boxes", "iou10")]
