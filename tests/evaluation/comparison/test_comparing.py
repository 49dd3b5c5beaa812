"""Runs side by side: what is paired, what is not and why, and which inputs differ."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.evaluation.comparison.conftest import PHOTOS
from tests.evaluation.stubs import StubPhotos
from x2kit.errors import X2KitError
from x2kit.evaluation.comparison import Comparison, Settings, compare
from x2kit.evaluation.comparison.comparing import Table
from x2kit.evaluation.comparison.measurements import label_runs, open_measurement
from x2kit.evaluation.items import items_file, read_items, write_items
from x2kit.plugin import ItemValues
from x2kit.tasks import Grounding, Retrieval

QUICK = Settings(samples=500, permutations=499)
MakeRun = Callable[..., Path]


def compared(*paths: Path, settings: Settings = QUICK) -> Comparison:
    return compare(label_runs(paths), settings)


def table_of(comparison: Comparison, task: str, part: str = "") -> Table:
    (found,) = [table for table in comparison.tables if (table.task, table.part) == (task, part)]
    return found


def test_scores_and_differences_are_those_of_the_results(runs: tuple[Path, Path]) -> None:
    comparison = compared(*runs)
    table = table_of(comparison, "retrieval", "reranked.text_to_image")
    assert [row.language for row in table.rows] == ["mean", "mean trained", "mean zero-shot", "en", "de"]
    by_language = {row.language: row for row in table.rows}
    stated = [
        {
            code: one.numbers("retrieval")["languages"][code]["reranked"]["text_to_image"]["r1"]
            for code in ("en", "de")
        }
        for one in comparison.measurements
    ]
    for code in ("en", "de"):
        row = by_language[code]
        assert [score and score.value for score in row.scores] == pytest.approx([one[code] for one in stated])
        assert row.changes[0] is None
        assert row.changes[1] is not None
        assert row.changes[1].value == pytest.approx(stated[1][code] - stated[0][code])
        assert (row.scores[0].items, row.scores[0].records) == (45, PHOTOS)  # type: ignore[union-attr]
        assert row.candidates == (PHOTOS,)
    means = [np.mean(list(one.values())) for one in stated]
    assert [score and score.value for score in by_language["mean"].scores] == pytest.approx(means)
    assert table.unpaired == {}


def test_chance_and_intervals_are_beside_every_score(runs: tuple[Path, Path]) -> None:
    for table in compared(*runs).tables:
        for row in table.rows:
            assert row.chance is not None
            for score in row.scores:
                assert score is not None
                assert score.interval is not None
                assert score.interval.low - 1e-9 <= score.value <= score.interval.high + 1e-9
                assert score.items >= score.records > 0


def test_tests_are_counted_and_corrected_together(runs: tuple[Path, Path]) -> None:
    comparison = compared(*runs)
    # four kinds of queries and one of regions, each in two languages and three means
    assert comparison.tests == 5 * 5
    changes = [row.changes[1] for table in comparison.tables for row in table.rows]
    smallest = min(change.p for change in changes if change)
    assert min(change.p_holm for change in changes if change) == pytest.approx(min(1, 25 * smallest))
    assert all(change.p_holm >= change.p for change in changes if change)


def test_a_run_is_no_different_from_its_copy(runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "copy")
    comparison = compared(runs[0], tmp_path / "copy")
    for table in comparison.tables:
        for row in table.rows:
            assert row.changes[1] is not None
            assert row.changes[1][:3] == (0.0, (0.0, 0.0), 1.0)
    assert comparison.inputs == []


def test_metrics_are_chosen_by_name(runs: tuple[Path, Path]) -> None:
    comparison = compared(*runs, settings=Settings(["r5", "mean_iou"], 100, 99))
    assert {(table.task, table.metric) for table in comparison.tables} == {
        ("retrieval", "r5"),
        ("grounding", "mean_iou"),
    }
    with pytest.raises(X2KitError, match="--metrics: no task has items with r7; known: r1, r5, r10"):
        compared(*runs, settings=Settings(["r5", "r7"], 10, 9))


def test_one_run_has_intervals_and_no_test(runs: tuple[Path, Path]) -> None:
    comparison = compared(runs[0])
    assert comparison.tests == 0
    assert table_of(comparison, "grounding").rows[0].scores[0] is not None


def test_results_of_other_records_are_shown_and_not_paired(
    runs: tuple[Path, Path], make_run: MakeRun
) -> None:
    other = make_run("fewer", source=StubPhotos(count=PHOTOS - 5))
    comparison = compared(runs[0], other)
    table = table_of(comparison, "retrieval", "text_to_image")
    assert table.unpaired == {"fewer": "other records: number of records 18, and one has 23"}
    assert all(row.changes[1] is None and row.scores[1] is not None for row in table.rows)
    assert comparison.tests == 0


def changed_result(run: Path, **changes: object) -> Path:
    file = run / "evaluation.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))
    return run


def test_another_fingerprint_or_split_is_not_paired(runs: tuple[Path, Path], tmp_path: Path) -> None:
    for name in ("split", "data"):
        shutil.copytree(runs[1], tmp_path / name)
    changed_result(tmp_path / "split", split="validation")
    data = json.loads((tmp_path / "data/evaluation.json").read_text())["data"]
    changed_result(tmp_path / "data", data={**data, "fingerprint": "another"})
    table = table_of(compared(runs[0], tmp_path / "split", tmp_path / "data"), "grounding")
    assert table.unpaired == {
        "split": "split validation, and one has test",
        "data": "other records: data fingerprint another, and one has listed",
    }


def test_languages_that_not_all_runs_have_are_left_out_and_named(
    runs: tuple[Path, Path], make_run: MakeRun
) -> None:
    table = table_of(compared(runs[0], make_run("english", languages=("en",))), "retrieval", "text_to_image")
    assert [row.language for row in table.rows] == ["en"]
    assert table.left_out == ("de",)
    assert table.rows[0].changes[1] is not None


def test_inputs_that_differ_are_listed_by_kind(runs: tuple[Path, Path], make_run: MakeRun) -> None:
    other = make_run(
        "other", 3, tasks={"retrieval": Retrieval(top_k=5), "grounding": Grounding()}, languages=("en", "de")
    )
    found = {(one.kind, one.key): one.values for one in compared(runs[0], other).inputs}
    hashes = [
        json.loads((run / "evaluation.json").read_text())["checkpoint"]["sha256"] for run in (runs[0], other)
    ]
    assert found == {
        ("weights", "sha256"): [digest[:12] for digest in hashes],
        ("evaluation", "retrieval.init_args.top_k"): [3, 5],
        ("recipe", "training.seed"): [1, 3],
    }


def test_a_result_without_items_is_shown_with_the_command(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """Results of before this version name no items."""
    shutil.copytree(runs[1], tmp_path / "old")
    file = tmp_path / "old/evaluation.json"
    result = json.loads(file.read_text())
    for task in result["tasks"].values():
        task.pop("items")
    file.write_text(json.dumps(result))
    table = table_of(compared(runs[0], tmp_path / "old"), "grounding")
    assert table.unpaired["old"] == (
        "evaluation.json has no values of single items; evaluate again: x2kit evaluate RUN"
    )
    assert table.rows[-1].scores[1] is not None
    assert table.rows[-1].scores[1].value == result["grounding"]["de"]["iou50"]
    # as the baseline too
    table = table_of(compared(tmp_path / "old", runs[0]), "grounding")
    assert table.unpaired["one"] == "old has no values of single items"


def test_runs_of_other_tasks_are_refused(runs: tuple[Path, Path], make_run: MakeRun) -> None:
    other = make_run("boxes", tasks={"boxes": Grounding()})
    with pytest.raises(
        X2KitError, match="no task in common: one measured retrieval, grounding; boxes measured boxes"
    ):
        compared(runs[0], other)


def test_what_is_no_result_is_refused_with_what_to_do(runs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(X2KitError, match="no such run or result file"):
        open_measurement(tmp_path / "gone")
    with pytest.raises(X2KitError, match="is no run"):
        open_measurement(tmp_path)
    shutil.copytree(runs[0], tmp_path / "run")
    with pytest.raises(
        X2KitError, match=r"has no evaluation-dev.json; write it: x2kit evaluate .*run --split dev"
    ):
        open_measurement(tmp_path / "run", split="dev")
    (tmp_path / "run/evaluation.json").rename(tmp_path / "run/evaluation-other.json")
    with pytest.raises(X2KitError, match=r"other results there: .*run/evaluation-other.json"):
        open_measurement(tmp_path / "run")
    (tmp_path / "run/evaluation.json").write_text("{")
    with pytest.raises(X2KitError, match="no readable result"):
        open_measurement(tmp_path / "run")
    for wrong in ("[]", "{}", '{"tasks": {"a": 1}, "checkpoint": {}}', '{"tasks": {}, "checkpoint": []}'):
        (tmp_path / "run/evaluation.json").write_text(wrong)
        with pytest.raises(X2KitError, match="not a result of x2kit evaluate"):
            open_measurement(tmp_path / "run")
    with pytest.raises(X2KitError, match="named twice"):
        label_runs([runs[0], runs[0] / "evaluation.json"])


def test_equal_names_become_paths(runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "one")
    assert [one.label for one in label_runs([runs[0], tmp_path / "one"])] == [
        str(runs[0]),
        str(tmp_path / "one"),
    ]


def test_items_of_another_result_are_refused(runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(runs[0], tmp_path / "run")
    file = items_file(tmp_path / "run/evaluation.json", "grounding")
    shutil.copy(items_file(runs[1] / "evaluation.json", "grounding"), file)
    with pytest.raises(X2KitError, match="is not the file of its result"):
        open_measurement(tmp_path / "run").items("grounding")
    assert read_items(file)


def test_a_mean_that_is_not_the_number_of_the_result_is_refused(
    runs: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(runs[0], tmp_path / "run")
    grounding = json.loads((tmp_path / "run/evaluation.json").read_text())["grounding"]
    grounding["de"]["iou50"] = 0.987
    changed_result(tmp_path / "run", grounding=grounding)
    with pytest.raises(X2KitError, match=r"grounding\.de\.iou50 of the result 0\.987"):
        open_measurement(tmp_path / "run").items("grounding")


def rewritten(run: Path, change: Callable[[ItemValues], ItemValues]) -> None:
    """Write the items of grounding again, changed."""
    file = items_file(run / "evaluation.json", "grounding")
    parts = [
        ItemValues(
            part.language,
            part.path,
            part.ids,
            {
                name: [None if value != value else value for value in values.tolist()]
                for name, values in part.values.items()
            },
            records=part.records,
        )
        for part in read_items(file)
    ]
    described = write_items(file, "grounding", [change(part) for part in parts])
    result = json.loads((run / "evaluation.json").read_text())
    result["tasks"]["grounding"]["items"] = described
    (run / "evaluation.json").write_text(json.dumps(result))


def without_scores(run: Path, language: str) -> None:
    """Leave the items in a language without scores, as answers without annotations are."""

    def change(part: ItemValues) -> ItemValues:
        none = {name: [None] * len(part.ids) for name in part.values}
        return replace(part, values=none) if part.language == language else part

    rewritten(run, change)


def test_other_items_of_the_same_records_are_not_paired(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """As under another `common_subset`, or in another order."""
    shutil.copytree(runs[1], tmp_path / "two")
    rewritten(tmp_path / "two", lambda part: replace(part, ids=part.ids[1:] + part.ids[:1]))
    table = table_of(compared(runs[0], tmp_path / "two"), "grounding")
    assert table.unpaired == {"two": "other items in en, or another order: 46, and one has 46"}
    assert all(row.changes[1] is None for row in table.rows)


def test_items_that_one_run_does_not_score_are_not_paired(runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(runs[1], tmp_path / "two")
    changed_result(tmp_path / "two", grounding={})  # its means are of all items
    rewritten(
        tmp_path / "two",
        lambda part: replace(
            part, values={name: [None, *list(each)[1:]] for name, each in part.values.items()}
        ),
    )
    table = table_of(compared(runs[0], tmp_path / "two"), "grounding")
    assert table.unpaired == {"two": "other items in en are scored"}


def test_a_language_without_scored_items_is_left_out(runs: tuple[Path, Path], tmp_path: Path) -> None:
    shutil.copytree(runs[1], tmp_path / "two")
    without_scores(tmp_path / "two", "de")
    table = table_of(compared(runs[0], tmp_path / "two"), "grounding")
    assert ([row.language for row in table.rows], table.left_out) == (["en"], ("de",))
    without_scores(tmp_path / "two", "en")
    table = table_of(compared(runs[0], tmp_path / "two"), "grounding")
    assert table.unpaired == {"two": "evaluation.json has no scored items"}
    assert [table for table in compared(tmp_path / "two").tables if table.task == "grounding"] == []
