"""`x2kit results` on results of tiny models."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.evaluation.comparison.conftest import write_run

Run = Callable[..., Any]
FAST = ("--samples", "100", "--permutations", "99")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    folder = tmp_path_factory.mktemp("runs")
    one, two = (str(write_run(folder / name, seed)) for seed, name in enumerate(("one", "two"), 1))
    return one, two


def test_runs_are_compared_with_the_first(x2kit: Run, runs: tuple[str, str]) -> None:
    done = x2kit("results", *runs, *FAST)
    assert (done.status, done.err) == (0, "")
    assert "retrieval reranked.text to image r1, per cent" in done.out
    assert "− one" in done.out
    assert "25 tests were made" in " ".join(done.out.split())
    assert not Path("comparison.md").exists()


def test_a_baseline_comes_first(x2kit: Run, runs: tuple[str, str]) -> None:
    found = json.loads(x2kit("results", runs[0], "--against", runs[1], "--json", *FAST).out)
    assert [one["label"] for one in found["runs"]] == ["two", "one"]
    found = json.loads(
        x2kit("results", runs[0], "--against", f"{runs[1]}/evaluation.json", "--json", *FAST).out
    )
    assert [one["label"] for one in found["runs"]] == ["two", "one"]


def test_a_recipe_gives_published_numbers(x2kit: Run, runs: tuple[str, str]) -> None:
    found = json.loads(x2kit("results", runs[0], "--against", "evaluate/retrieval-coco", "--json", *FAST).out)
    assert len(found["published"]) == 3 * 6
    assert found["published"][0]["reached"][0]["reason"] == "published for 5,000 records, measured on 23"
    assert found["published"][0]["source"].startswith("table picture in the XFM repository")


def test_files_are_written_to_a_folder(x2kit: Run, runs: tuple[str, str]) -> None:
    done = x2kit("results", *runs, "--output", "out", "--metrics", "r5", *FAST)
    assert done.status == 0
    assert done.out.rstrip().endswith("more files")
    assert Path("out/comparison.md").is_file()
    assert Path("out/retrieval.text_to_image.r5.svg").is_file()
    assert list(Path("out/trec").glob("*.run"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gone"], "gone: no such run or result file"),
        (["{one}", "--split", "dev"], "has no evaluation-dev.json; write it: x2kit evaluate"),
        (["{one}", "{one}"], "named twice"),
        (["{one}", "--against", "recipes/none"], "is no run, no result file and no recipe"),
        (["{one}", "--against", "evaluate/retrieval-wit"], "the recipe has no published numbers"),
        (
            ["{one}", "--metrics", "r7"],
            "no task has items with r7; known: r1, r5, r10, reciprocal_rank, rank, iou50",
        ),
        (["{one}", "--samples", "0"], "--samples: expected 1 to 1,000,000, found 0"),
        (["{one}", "--confidence", "95"], "--confidence: expected a share between 0 and 1"),
        (["{one}", "--seed", "-1"], "--seed: expected 0 or more"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    x2kit: Run, runs: tuple[str, str], arguments: list[str], message: str
) -> None:
    done = x2kit("results", *(each.replace("{one}", runs[0]) for each in arguments))
    assert done.status == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_a_result_of_an_older_version_says_what_to_do(x2kit: Run, runs: tuple[str, str]) -> None:
    result = json.loads(Path(runs[0], "evaluation.json").read_text())
    for task in result["tasks"].values():
        task.pop("items")
    Path("old.json").write_text(json.dumps(result))
    done = x2kit("results", "old.json")
    assert done.status == 2
    assert (
        "no values of single items to compare; evaluate again with this version: x2kit evaluate RUN"
        in done.err
    )
