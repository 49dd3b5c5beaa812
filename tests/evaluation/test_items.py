"""Values of single items beside a result: what tasks save, and how the file is read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from tests.tasks.test_sharing import together
from x2kit.errors import X2KitError
from x2kit.evaluation.items import FORMAT, read_items, unique, write_items
from x2kit.plugin import ItemValues, Prediction, Reader, Record, Task, TaskConfig, TaskContext, TaskRow
from x2kit.tasks import Captioning, Classification, Grounding, Retrieval, rows
from x2kit.tasks.vqa.config import VQA, MultipleChoice

Make = Callable[..., TaskContext]


def saved(config: Any, context: Make, **changes: Any) -> tuple[dict[str, ItemValues], Any]:
    """Measure a task; return what it saved by path, and its result."""
    found: list[ItemValues] = []
    result = config.run(context(save_items=found.append, **changes))
    return {one.path: one for one in found}, result


def at(result: Any, path: str) -> Any:
    for name in path.split("."):
        result = result[name]
    return result


@pytest.mark.parametrize("config", [Retrieval(top_k=2), Retrieval(rerank="none"), Grounding(iou=0.1)])
def test_the_mean_over_items_is_the_number_of_the_result(config: Any, context: Make) -> None:
    items, result = saved(config, context)
    for path, one in items.items():
        assert len(set(one.ids)) == len(one.ids)
        for name, values in one.values.items():
            assert len(values) == len(one.ids)
            if name not in ("rank", "reciprocal_rank"):
                assert np.mean(values) == pytest.approx(at(result, path)[name], abs=1e-9)


def test_queries_have_rank_hits_and_the_record_that_they_belong_to(context: Make) -> None:
    items, result = saved(Retrieval(top_k=2), context)
    assert list(items) == [
        f"languages.{code}.{section}{way}"
        for code in ("en", "de")
        for section in ("", "reranked.")
        for way in ("image_to_text", "text_to_image")
    ]
    texts = items["languages.en.reranked.text_to_image"]
    assert list(texts.values) == ["r1", "r5", "r10", "reciprocal_rank", "rank"]
    # photo-1 has two captions
    assert texts.ids[:3] == ["photo-0#0", "photo-1#0", "photo-1#1"]
    assert texts.records is not None
    assert texts.records[:3] == ["photo-0", "photo-1", "photo-1"]
    ranks = np.array(texts.values["rank"])
    assert (np.array(texts.values["r5"]) == (ranks <= 5)).all()
    assert np.array(texts.values["reciprocal_rank"]) == pytest.approx(1 / ranks)
    both = [items[f"languages.en.{way}"].chance["r1"] for way in ("image_to_text", "text_to_image")]
    assert np.mean(both) == pytest.approx(result["languages"]["en"]["chance_r1"])


def test_nothing_is_saved_or_computed_unless_it_is_wanted(
    context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("x2kit.tasks.retrieval.ranking._best", None)
    Retrieval().run(context())


def test_ranks_of_several_processes_save_what_one_saves(context: Make) -> None:
    for config in (Retrieval(top_k=2), Grounding()):
        alone, _ = saved(config, context)
        shared = together(3, lambda ranks, config=config: saved(config, context, ranks=ranks)[0])
        for one in shared:
            assert {path: (each.ids, each.values) for path, each in one.items()} == {
                path: (each.ids, each.values) for path, each in alone.items()
            }


def predictions(*pairs: tuple[Any, Any]) -> list[Prediction]:
    return [Prediction(str(number), *pair) for number, pair in enumerate(pairs)]


@pytest.mark.parametrize(
    ("config", "found", "expected"),
    [
        (
            Classification(classes=("yes", "no")),
            predictions(("yes", "yes"), ("yes", "no"), ("no", None)),
            {"accuracy": [1, 0, None]},
        ),
        (
            VQA(answer_list=("dog", "cat")),
            predictions(("dog", ["dog"] * 10), ("dog", ["dog"] * 2 + ["cat"] * 8), ("cat", [])),
            {"accuracy": [1, pytest.approx(0.6), None]},
        ),
        (MultipleChoice(options=3), predictions((2, 2), (1, 0), (0, None)), {"accuracy": [1, 0, None]}),
    ],
)
def test_tasks_score_each_prediction_as_their_measure_averages_it(
    config: Any, found: list[Prediction], expected: dict[str, list[float | None]]
) -> None:
    task = config.build()
    items = task.items(found)
    assert items == expected
    for name, values in items.items():
        known = [value for value in values if value is not None]
        assert np.mean(known) == pytest.approx(task.measure(found)[name])


def test_captions_are_scored_once_for_the_measure_and_the_items(monkeypatch: pytest.MonkeyPatch) -> None:
    task = Captioning().build()
    truths = [["a dog runs on grass"], ["two cats sleep"], []]
    found = predictions(
        *(
            (text, {"image": None, "references": references})
            for text, references in zip(["a dog on grass", "two dogs sleep", "a bird"], truths, strict=True)
        )
    )
    measured = task.measure(found)
    monkeypatch.setattr("x2kit.tasks.captioning.task.cider_d", None)
    items = task.items(found)
    assert list(items) == ["cider", "rouge_l"]
    for name, (one, two, unknown) in items.items():
        assert unknown is None
        assert (one + two) / 2 == pytest.approx(measured[name])


# The file.


def parts() -> list[ItemValues]:
    return [
        ItemValues(
            "en",
            "scores.en",
            ["a#0", "a#1", "b#0"],
            {"accuracy": [1.0, None, 0.25]},
            records=["a", "a", "b"],
            chance={"accuracy": 0.5},
        ),
        ItemValues("de", "scores.de", ["a", "a"], {"accuracy": [True, False]}, part="again", candidates=7),
    ]


def test_a_file_has_a_line_for_each_item_that_others_can_read(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl.gz"
    described = write_items(file, "mine", parts(), ["en"])
    assert described["items"] == 5
    header, *lines = map(json.loads, gzip.decompress(file.read_bytes()).splitlines())
    assert (header["format"], header["task"]) == (FORMAT, "mine")
    assert lines[1] == {"part": "", "language": "en", "id": "a#1", "record": "a", "accuracy": None}
    assert lines[-1] == {"part": "again", "language": "de", "id": "a~2", "accuracy": 0}


def test_a_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl.gz"
    described = write_items(file, "mine", parts(), ["en"])
    one, two = read_items(file, described["sha256"])
    assert (one.part, one.language, one.path, one.trained) == ("", "en", "scores.en", True)
    assert (one.ids, one.records, one.chance) == (["a#0", "a#1", "b#0"], ["a", "a", "b"], {"accuracy": 0.5})
    np.testing.assert_array_equal(one.values["accuracy"], [1.0, np.nan, 0.25])
    assert (two.ids, two.candidates, two.trained) == (["a", "a~2"], 7, False)


def test_equal_values_are_an_equal_file(tmp_path: Path) -> None:
    hashes = [write_items(tmp_path / f"{name}.gz", "mine", parts())["sha256"] for name in "ab"]
    assert hashes[0] == hashes[1]


def test_repeated_ids_are_numbered() -> None:
    assert unique(["a", "b", "a", "a"]) == ["a", "b", "a~2", "a~3"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": {"accuracy": [1.0]}}, "task mine: items of scores.en: 2 ids and 1 values of accuracy"),
        ({"values": {"accuracy": [1.0, float("nan")]}}, "values of accuracy are not finite numbers"),
        ({"values": {}}, "expected one or more metrics"),
        ({"records": ["a"]}, "and a record for each of 2 items"),
    ],
)
def test_wrong_values_of_a_task_are_refused_and_nothing_is_written(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    given: dict[str, Any] = {"values": {"accuracy": [1.0, 0.0]}, **change}
    with pytest.raises(X2KitError, match=message):
        write_items(tmp_path / "items.gz", "mine", [ItemValues("en", "scores.en", ["a", "b"], **given)])
    assert list(tmp_path.iterdir()) == []


def damaged(file: Path, how: str) -> None:
    content = file.read_bytes()
    lines = gzip.decompress(content).splitlines(keepends=True)
    changes: dict[str, bytes] = {
        "cut": content[: len(content) // 2],
        "no gzip": b"not gzip",
        "a line less": gzip.compress(b"".join(lines[:-1])),
        "no header": gzip.compress(b"".join(lines[1:])),
        "no JSON": gzip.compress(lines[0] + b"{"),
        "another part": gzip.compress(b"".join(lines) + lines[-1].replace(b"again", b"other")),
        "no number": gzip.compress(b"".join(lines).replace(b"0.25", b'"x"')),
        "a long line": gzip.compress(b'{"x":"' + b"y" * 2**21 + b'"}\n'),
        "a list": gzip.compress(b"[]\n"),
    }
    file.write_bytes(changes[how])


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("cut", "EOFError"),
        ("no gzip", "BadGzipFile"),
        ("a line less", "fewer or more items of scores.de than 2"),
        ("no header", "its first line has the format None"),
        ("no JSON", "JSONDecodeError"),
        ("another part", "KeyError"),
        ("no number", "ValueError"),
        ("a long line", "line 1 is longer than 1,048,576 bytes"),
        ("a list", "AttributeError"),
    ],
)
def test_a_damaged_file_is_named_with_the_command_that_writes_it_again(
    tmp_path: Path, how: str, reason: str
) -> None:
    file = tmp_path / "items.jsonl.gz"
    write_items(file, "mine", parts())
    damaged(file, how)
    with pytest.raises(X2KitError, match=rf"items\.jsonl\.gz: damaged values.*{reason}.*x2kit evaluate RUN"):
        read_items(file)


def test_the_file_of_another_result_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "items.jsonl.gz"
    write_items(file, "mine", parts())
    with pytest.raises(X2KitError, match="is not the file of its result"):
        read_items(file, "0" * 64)
    with pytest.raises(X2KitError, match="missing, but its result names it"):
        read_items(tmp_path / "gone.gz")


# Tasks that are measured row by row, without `items` of their own.


class Plain(Task):
    """Predicts from nothing; measured by what a test chooses."""

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        raise NotImplementedError

    def loss(self, *_: Any) -> dict[str, Any]:
        raise NotImplementedError

    def predict(self, *_: Any) -> list[Any]:
        raise NotImplementedError

    def measure(self, found: Sequence[Prediction]) -> dict[str, Any]:
        right = sum(each.value == each.truth for each in found) / len(found)
        return {"accuracy": right, "f1": 2 * right / (1 + right), "chance": 0.5, "rows": len(found)}


class PlainConfig(TaskConfig):
    def build(self) -> Task:
        return Plain(self)


class ByF1(PlainConfig):
    score: ClassVar[str] = "f1"


@pytest.mark.parametrize(
    ("config", "name", "chance"), [(PlainConfig(), "accuracy", {"accuracy": 0.5}), (ByF1(), "correct", {})]
)
def test_a_task_gets_items_for_free(
    config: TaskConfig, name: str, chance: dict[str, float], context: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have the name of the main score only if their mean is that score."""
    found = predictions(("a", "a"), ("b", "a"), ("a", "a"))
    monkeypatch.setattr(rows, "_predict", lambda task, context: {"en": found})
    kept: list[ItemValues] = []
    rows.measure_rows(config, context(save_items=kept.append))
    (one,) = kept
    assert (one.path, dict(one.values), one.chance) == ("scores.en", {name: [True, False, True]}, chance)


def test_graded_predictions_have_no_items_for_free() -> None:
    class Graded(Plain):
        def correct(self, prediction: Prediction) -> bool | None:
            return None

    assert Graded(PlainConfig()).items(predictions(("a", "b"))) == {}
