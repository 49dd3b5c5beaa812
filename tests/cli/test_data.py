"""`x2kit data check` and `x2kit data show`, on real files."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli import asking
from tests.data import broken_records
from tests.model import tiny
from x2kit.data.validation.check import Check

Run = Callable[..., Any]


@pytest.fixture
def recipe(folder: Path) -> Path:
    """Images and their regions from a file of 40 sound records, and an evaluation on the same."""
    records(folder, 40)
    plain = {"crop_scale": None, "flip": 0.0, "augment_operations": 0}
    common = {
        "source": {"class_path": "JsonLines", "init_args": {"files": ["records.jsonl"], "language": "en"}},
        "batch_size": 4,
        "max_tokens": 8,
        "languages": ["en"],
        "transform": plain,
    }
    measured = {
        "class_path": "JsonLines",
        "init_args": {"files": ["records.jsonl"], "split": "test", "language": "en"},
    }
    tree = {
        "plugins": [tiny.__file__],
        "model": {
            "vision": "TinyVision",
            "text": "TinyText",
            "fusion": {"class_path": "CrossBert", "init_args": {"layers": 1, "heads": 2}},
            "heads": {"embed_dim": 6},
        },
        "data": {
            "streams": {
                "images": {**common, "task": "ImageText"},
                "regions": {
                    **common,
                    "task": {
                        "class_path": "RegionText",
                        "init_args": {"images_from": "images", "max_boxes": 40},
                    },
                },
            }
        },
        "training": {"steps": 6},
        "evaluation": {"source": measured, "tasks": {"retrieval": "Retrieval"}},
    }
    (folder / "mine.yaml").write_text(yaml.safe_dump(tree))
    return folder / "mine.yaml"


def records(folder: Path, sound: int, *kinds: str) -> None:
    lines = [json.dumps(broken_records.sound(number)).encode() for number in range(sound)]
    lines += [broken_records.KINDS[kind][1]({**broken_records.sound(0), "id": kind}) for kind in kinds]
    (folder / "records.jsonl").write_bytes(b"\n".join(lines))


@pytest.fixture
def apart(recipe: Path) -> Path:
    """The recipe with an evaluation on 10 other images, and captions and names that the tokenizer knows."""
    tree = yaml.safe_load(recipe.read_text())
    tree["evaluation"]["source"]["init_args"]["files"] = ["test.jsonl"]
    recipe.write_text(yaml.safe_dump(tree))
    known(recipe.parent / "records.jsonl", range(40))
    known(recipe.parent / "test.jsonl", range(100, 110))
    return recipe


def known(file: Path, numbers: Sequence[int], **changes: Any) -> None:
    """Sound records with a caption of their own each, of words that the tokenizer knows."""
    captions = itertools.permutations(("red", "green", "dog", "cat", "sun", "moon"), 3)
    named = [{"bbox": [0, 0, 8, 8], "caption": "red dog"}]
    records = [
        {**broken_records.sound(number), "caption": {"en": " ".join(words)}, "regions": named, **changes}
        for number, words in zip(numbers, itertools.islice(captions, numbers[0] % 97, None), strict=False)
    ]
    file.write_text("\n".join(map(json.dumps, records)))


def checked(x2kit: Run, *arguments: str) -> tuple[int, dict[str, Any]]:
    """Exit status and result."""
    done = x2kit("data", "check", "mine.yaml", "--workers", "0", "--json", *arguments)
    return done.status, json.loads(done.out)


def test_sound_data_end_with_status_0(apart: Path, x2kit: Run) -> None:
    done = x2kit("data", "check", "mine.yaml", "--workers", "0")
    assert done.status == 0, done.err
    assert re.search(r"images +│ 40 +│ 0 ", done.out)
    assert "no problems found (" in done.out


@pytest.mark.parametrize("workers", ["0", "1"])
def test_limits_of_the_recipe_hold_for_every_record(recipe: Path, x2kit: Run, workers: str) -> None:
    limit = "--data.limits.max_record_bytes=10"
    done = x2kit("data", "check", "mine.yaml", limit, "--workers", workers, "--json")
    found = json.loads(done.out)["streams"]
    assert found["images"]["reasons"]["too many bytes"]["count"] == 40
    assert found["evaluation"]["reasons"]["too many bytes"]["count"] == 40


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # torch cannot tell either
def test_a_system_without_processor_affinity_checks_as_any_other(
    recipe: Path, x2kit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = x2kit("data", "check", "mine.yaml")
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)  # macOS has none
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    done = x2kit("data", "check", "mine.yaml")
    assert (done.status, done.out, done.err) == (usual.status, usual.out, usual.err)


def test_too_many_broken_records_end_with_status_1_and_the_stream(recipe: Path, x2kit: Run) -> None:
    records(recipe.parent, 40, "empty-caption", "truncated-png", "flat-box")
    done = x2kit("data", "check", "mine.yaml", "--workers", "0")
    assert done.status == 1
    assert "images: 2 of 43 records are broken (4.65%), more than data.max_bad_share = 0.01" in done.out
    assert "regions: 1 of 41 records are broken (2.44%)" in done.out
    assert "evaluation: 3 of 43 records are broken (6.98%); an evaluation stops at the first" in done.out
    assert f"  {recipe.parent / 'records.jsonl'}:41: empty-caption: " in done.out


def test_fewer_than_allowed_end_with_status_0_where_no_evaluation_needs_them(apart: Path, x2kit: Run) -> None:
    broken = broken_records.KINDS["empty-caption"][1]({**broken_records.sound(0), "id": "empty-caption"})
    with (apart.parent / "records.jsonl").open("ab") as file:
        file.write(b"\n" + broken)
    allowed = ("--data.max_bad_share", "0.05", "--evaluation", "null")
    done = x2kit("data", "check", "mine.yaml", "--workers", "0", *allowed)
    assert (done.status, "empty text" in done.out) == (0, True)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_json_has_counts_and_samples_with_their_places(recipe: Path, x2kit: Run, workers: str) -> None:
    records(recipe.parent, 40, "flat-box", "latin-1")
    done = x2kit("data", "check", "mine.yaml", "--json", "--workers", workers)
    found = json.loads(done.out)
    assert (done.status, found["checked"], found["records"], found["complete"]) == (1, 84, 84, True)
    assert found["streams"]["regions"]["reasons"]["box without area"] == {
        "count": 1,
        "samples": [
            {
                "record": "flat-box",
                "message": "box [2.0, 2.0, 0.0, 5.0] of region 0 has no area",
                "file": str(recipe.parent / "records.jsonl"),
                "line": 41,
                "offset": None,
            }
        ],
    }
    assert found["streams"]["images"]["reasons"]["not UTF-8"]["count"] == 1


def test_duplicate_ids_are_found(recipe: Path, x2kit: Run) -> None:
    lines = (recipe.parent / "records.jsonl").read_text().splitlines()
    (recipe.parent / "records.jsonl").write_text("\n".join([*lines, lines[3], lines[3], lines[7]]))
    found = json.loads(x2kit("data", "check", "mine.yaml", "--json", "--workers", "2").out)
    twice = found["streams"]["images"]["reasons"]["duplicate id"]
    assert twice["count"] == 3
    assert [one["line"] for one in twice["samples"]] == [41, 42, 43]
    assert "'good-3'" in twice["samples"][1]["message"]
    assert "records.jsonl:4;" in twice["samples"][1]["message"]
    assert found["streams"]["regions"]["reasons"] == {}  # the same source, counted once
    assert found["streams"]["evaluation"]["reasons"]["duplicate id"]["count"] == 3


def test_truncated_texts_are_a_problem_with_counts_by_stream_and_language(apart: Path, x2kit: Run) -> None:
    long = {"en": " ".join(["dog"] * 9), "de": "hund"}
    known(apart.parent / "records.jsonl", range(40), caption=long)
    for words in ("40", "3"):
        status, found = checked(
            x2kit,
            *("--data.streams.images.languages", "null", "--data.streams.images.max_words", words),
            *("--data.streams.images.max_tokens", "8" if words == "40" else "40"),
        )
        assert (status, found["sound"]) == (1, False)
        assert found["streams"]["images"]["languages"] == {
            "de": {"texts": 40, "median_tokens": 3, "longest_tokens": 3, "cut": 0, "unknown": 0},
            "en": {"texts": 40, "median_tokens": 11, "longest_tokens": 11, "cut": 40, "unknown": 0},
        }
        (problem,) = found["problems"]
        assert problem.startswith("images, en: 40 of 40 texts are truncated; the longest has 11 tokens")


def test_few_truncated_texts_are_not_a_problem(apart: Path, x2kit: Run) -> None:
    lines = (apart.parent / "records.jsonl").read_text().splitlines()
    long = {**broken_records.sound(99), "caption": {"en": " ".join(["dog"] * 9)}}
    (apart.parent / "records.jsonl").write_text("\n".join([*lines, json.dumps(long)]))
    status, found = checked(x2kit)
    assert (status, found["streams"]["images"]["languages"]["en"]["cut"]) == (0, 1)


def test_a_language_that_is_held_and_has_no_text_is_a_problem(apart: Path, x2kit: Run) -> None:
    source = (
        "{class_path: JsonLines, init_args: {files: [test.jsonl], split: test, languages_held: [en, sw]}}"
    )
    status, found = checked(x2kit, "--evaluation.source", source)
    assert status == 1
    (problem,) = found["problems"]
    assert problem.startswith("evaluation: no text in sw")


def test_a_test_caption_without_a_known_word_is_a_problem(apart: Path, x2kit: Run) -> None:
    lines = (apart.parent / "test.jsonl").read_text().splitlines()
    foreign = {**broken_records.sound(99), "caption": {"en": "xyzzy plugh"}, "regions": []}
    (apart.parent / "test.jsonl").write_text("\n".join([*lines, json.dumps(foreign)]))
    status, found = checked(x2kit)
    assert status == 1
    (problem,) = found["problems"]
    assert problem.startswith("evaluation, en: 1 of 21 texts contain only unknown words")


def test_images_that_are_trained_on_and_measured_are_a_problem(apart: Path, x2kit: Run) -> None:
    lines = (apart.parent / "test.jsonl").read_text().splitlines()
    trained = {**broken_records.sound(7), "caption": {"en": "the moon"}}
    (apart.parent / "test.jsonl").write_text("\n".join([*lines, json.dumps(trained)]))
    status, found = checked(x2kit)
    assert status == 1
    assert found["equal"]["images"]["between"] == [{"of": "evaluation", "also_in": "images", "count": 1}]
    assert any("1 images are also in the training stream images" in problem for problem in found["problems"])


@pytest.mark.parametrize(("positives", "status"), [("row", 1), ("text", 0)])
def test_equal_captions_of_the_evaluation_are_a_problem_where_they_count_as_wrong(
    apart: Path, x2kit: Run, positives: str, status: int
) -> None:
    known(apart.parent / "test.jsonl", range(100, 110), caption={"en": "the sun"})
    arguments = ("--evaluation.tasks.retrieval.positives", positives)
    found = checked(x2kit, *arguments)
    assert found[0] == status
    assert found[1]["equal"]["captions"]["within"] == {"evaluation": 10}


def test_boxes_are_counted_with_their_sizes(apart: Path, x2kit: Run) -> None:
    small = [{"bbox": [0, 0, 8, 8], "caption": "dog"}, {"bbox": [0, 0, 1, 1], "caption": "cat"}]
    known(apart.parent / "records.jsonl", range(40), regions=small)
    _, found = checked(x2kit)
    assert found["streams"]["regions"]["boxes"] == {
        "boxes": 80,
        "median_area": 0.0039,
        "smallest_area": 0.0039,
        "below_a_patch": 40,
    }
    assert found["streams"]["images"]["boxes"] is None


def test_tables_show_what_was_counted(apart: Path, x2kit: Run) -> None:
    out = x2kit("data", "check", "mine.yaml", "--workers", "0").out
    assert re.search(r"images +│ en +│ 40 +│ 5 +│ 5 +│ 0 +│ 0 ", out)
    assert re.search(r"regions +│ 40 +│ 25\.00% ", out)


def test_the_source_of_a_task_is_checked_too(apart: Path, x2kit: Run) -> None:
    known(apart.parent / "more.jsonl", range(200, 203))
    source = "{class_path: JsonLines, init_args: {files: [more.jsonl], split: test, language: en}}"
    _, found = checked(x2kit, "--evaluation.sources.retrieval", source)
    assert found["streams"]["evaluation.retrieval"]["records"] == 3
    assert "evaluation" not in found["streams"]


def test_the_records_of_validation_are_checked_too(apart: Path, x2kit: Run) -> None:
    known(apart.parent / "val.jsonl", range(200, 204))
    source = "{class_path: JsonLines, init_args: {files: [val.jsonl], split: val, language: en}}"
    _, found = checked(x2kit, "--evaluation.every", "2", "--evaluation.select_source", source)
    assert {name: found["streams"][name]["records"] for name in ("evaluation", "validation")} == {
        "evaluation": 10,
        "validation": 4,
    }
    _, found = checked(x2kit, "--evaluation.every", "2", "--evaluation.select_on", "official")
    assert "validation" not in found["streams"]


def test_a_mixture_is_checked_source_by_source_each_record_once(recipe: Path, x2kit: Run) -> None:
    (recipe.parent / "records.jsonl").rename(recipe.parent / "good.jsonl")
    records(recipe.parent, 3, "empty-caption")
    one, other = (
        {"class_path": "JsonLines", "init_args": {"files": [file], "language": "en"}}
        for file in ("good.jsonl", "records.jsonl")
    )
    tree = yaml.safe_load(recipe.read_text())
    mixed = {"sources": {"much": one, "little": other}, "weights": {"much": 1, "little": 9}}
    for stream in tree["data"]["streams"].values():
        stream["source"] = {"class_path": "Mixture", "init_args": mixed}
    recipe.write_text(yaml.safe_dump(tree))
    found = json.loads(x2kit("data", "check", "mine.yaml", "--json", "--workers", "0").out)
    images = found["streams"]["images"]
    assert (images["records"], images["broken"]) == (44, 1)
    (broken,) = images["reasons"]["empty text"]["samples"]
    assert (broken["record"], broken["line"]) == ("little/empty-caption", 4)


def test_a_limit_takes_records_from_all_over_the_source(recipe: Path, x2kit: Run) -> None:
    records(recipe.parent, 39, "flat-box")
    done = x2kit("data", "check", "mine.yaml", "--json", "--workers", "0", "--limit", "10")
    found = json.loads(done.out)
    assert found["checked"] == 20
    assert found["streams"]["images"]["records"] == 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("check", "mine.yaml", "--limit", "0"), "--limit: should be 1 or more, found 0"),
        (("show", "mine.yaml", "--step", "7"), "--step: should be from 1 to 6, found 7"),
        (("show", "mine.yaml", "--rows", "0"), "--rows: should be 1 or more, found 0"),
    ],
)
def test_invalid_options_are_refused(
    recipe: Path, x2kit: Run, arguments: tuple[str, ...], message: str
) -> None:
    done = x2kit("data", *arguments)
    assert (done.status, message in done.err) == (2, True), done.err


def test_a_recipe_without_streams_is_refused(recipe: Path, x2kit: Run) -> None:
    tree = yaml.safe_load(recipe.read_text())
    del tree["data"]
    tree["training"] = {"steps": 0}
    recipe.write_text(yaml.safe_dump(tree))
    done = x2kit("data", "check", "mine.yaml")
    assert (done.status, "data.streams: the recipe has no stream" in done.err) == (2, True), done.err


def test_an_interrupted_check_reports_its_findings(
    recipe: Path, x2kit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Check.run
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

    def interrupted(check: Check) -> Iterator[int]:
        for done in whole(check):
            yield done
            if done >= 64:
                os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Check, "run", interrupted)
    records(recipe.parent, 100, "flat-box")
    try:
        done = x2kit("data", "check", "mine.yaml", "--json", "--workers", "2")
    finally:
        signal.signal(signal.SIGINT, before)
    found = json.loads(done.out)
    assert (done.status, found["complete"], found["checked"]) == (130, False, 64)
    assert "interrupted: 64 of 202 records" in done.err


def test_the_sheet_shows_the_batch_of_the_step(recipe: Path, x2kit: Run) -> None:
    records(recipe.parent, 40, "flat-box", "empty-caption")
    done = x2kit("data", "show", "mine.yaml", "--step", "2", "--output", "out/sheet.html")
    assert (done.status, done.out) == (0, "out/sheet.html\n"), done.err
    page = (recipe.parent / "out" / "sheet.html").read_text()
    assert page.count('class="card"') >= 5
    assert page.count("data:image/png;base64,") >= 4
    assert 'class="unseen"' in page
    assert 'class="truth"' in page
    assert 'class="token masked"' in page
    assert "[CLS]" in page
    assert "<script" not in page
    again = x2kit("data", "show", "mine.yaml", "--step", "2", "--data.num_workers", "2", "--output", "b.html")
    assert again.status == 0
    assert (recipe.parent / "b.html").read_text() == page


def test_the_sheet_limits_its_rows(recipe: Path, x2kit: Run) -> None:
    x2kit("data", "show", "mine.yaml", "--rows", "1")
    page = (recipe.parent / "data-step-1.html").read_text()
    assert page.count('class="card"') == 2
    assert "4, first 1 shown" in page


@pytest.fixture
def questions(apart: Path) -> Path:
    """The recipe with a stream and an evaluation of questions about two images, of which one is broken."""
    tree = yaml.safe_load(apart.read_text())
    tree["plugins"].append(asking.__file__)
    (apart.parent / "1.png").write_bytes(broken_records.encoded_image(1))
    lines = [
        {
            "id": f"q{number}",
            "images": ["1.png", "1.png"],
            "question": {"en": f"red dog {'sun' if number else 'moon'}"},
            "answers": ["dog", "cat", "dog"],
            "options": ["dog", "cat"],
            "label": number if number < 2 else 7,
        }
        for number in range(3)
    ]
    for name, kept in (("questions.jsonl", lines), ("asked.jsonl", lines[:2])):
        (apart.parent / name).write_text("\n".join(map(json.dumps, kept)))
    streams = tree["data"]["streams"]
    common = {**streams["images"], "source": {"class_path": "JsonLines", "init_args": {"language": "en"}}}
    common["source"]["init_args"]["files"] = ["questions.jsonl"]
    tree["data"]["streams"] = {"asked": {**common, "task": "Asking", "batch_size": 2}}
    tree["evaluation"]["source"]["init_args"]["files"] = ["asked.jsonl"]
    tree["evaluation"]["tasks"] = {"asked": "Asking"}
    apart.write_text(yaml.safe_dump(tree))
    return apart


def test_fields_of_tasks_are_counted_and_checked(questions: Path, x2kit: Run) -> None:
    status, found = checked(x2kit)
    assert status == 1
    (sample,) = found["streams"]["asked"]["reasons"]["field of a wrong type"]["samples"]
    assert sample["message"] == "label: the record has 2 options, numbered from 0; found 7"
    assert sample["line"] == 3
    measured = found["streams"]["evaluation"]
    assert measured["broken"] == 0
    assert measured["fields"] == {
        "answers": {"records": 2, "values": 1, "most_frequent": "dog", "share": 1.0},
        "images": {"records": 2},
        "label": {"records": 2, "values": 2, "most_frequent": "0", "share": 0.5},
        "options": {"records": 2},
        "question": {"records": 2},
    }
    assert measured["languages"]["en"]["texts"] == 6
    assert found["equal"]["images"]["between"] == [{"of": "evaluation", "also_in": "asked", "count": 2}]
    done = x2kit("data", "check", "mine.yaml", "--workers", "0")
    assert re.search(r"evaluation +│ label +│ 2 +│ 2 +│ 0 +│ 50.00%", done.out)


def test_the_sheet_shows_both_images_the_question_and_its_answers(questions: Path, x2kit: Run) -> None:
    (questions.parent / "questions.jsonl").write_text((questions.parent / "asked.jsonl").read_text())
    done = x2kit("data", "show", "mine.yaml", "--output", "sheet.html")
    assert done.status == 0, done.err
    page = (questions.parent / "sheet.html").read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "<b>answers</b> dog × 2, cat" in page
    assert "<b>option 0</b> en: dog ✓" in page
    assert "<b>option 1</b> en: cat ✓" in page
    assert "<b>question</b> en: red dog sun" in page


def test_a_record_that_a_task_cannot_measure_is_broken(questions: Path, x2kit: Run) -> None:
    lines = [json.loads(line) for line in (questions.parent / "asked.jsonl").read_text().splitlines()]
    del lines[1]["question"]
    lines[1]["caption"] = "red dog"
    (questions.parent / "asked.jsonl").write_text("\n".join(map(json.dumps, lines)))
    status, found = checked(x2kit)
    assert status == 1
    (reason,) = found["streams"]["evaluation"]["reasons"].values()
    assert reason["samples"][0]["message"] == "the record has no field 'question'"
    assert reason["samples"][0]["line"] == 2


def test_the_sheet_shows_the_fields_of_the_record_that_replaces_a_broken_one(
    questions: Path, x2kit: Run
) -> None:
    lines = [json.loads(line) for line in (questions.parent / "questions.jsonl").read_text().splitlines()]
    del lines[0]["question"]
    lines[0]["caption"] = "red dog"
    (questions.parent / "questions.jsonl").write_text("\n".join(map(json.dumps, lines)))
    limit = "--data.streams.asked.batch_size=3"  # one of three records is broken
    assert x2kit("data", "show", "mine.yaml", "--output", "sheet.html", limit).status == 0
    page = (questions.parent / "sheet.html").read_text()
    targets = re.findall(r">right: (\d)<", page)
    marked = re.findall(r"<b>option (\d)</b> en: \w+ ✓", page)
    assert marked == [target for target in targets if target != "7"]
