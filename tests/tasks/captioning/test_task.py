"""Rows, targets and results of the captioning task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.model.tiny import TinyTokenizer
from x2kit.data.pipeline.collation import pad_texts
from x2kit.errors import DataError, Reason, SettingError, ShapeError
from x2kit.model.config import HeadsConfig
from x2kit.plugin.tasks import Prediction, TaskRow
from x2kit.tasks import Captioning
from x2kit.tasks.captioning import java_metrics
from x2kit.tasks.captioning.task import CaptioningTask, image_id

from .conftest import StubReader

TOKENIZER = TinyTokenizer()
SEP, MASK, PAD = TOKENIZER.special.sep, TOKENIZER.special.mask, TOKENIZER.special.pad
RECORD = {"image": "val2014/COCO_val2014_000000000042.jpg", "caption": ["A red dog.", {"de": "Ein Hund"}]}


def build(**settings: Any) -> CaptioningTask:
    return Captioning(**{"prompt": "the sun", **settings}).build()


def test_a_caption_is_drawn_raw_or_cleaned() -> None:
    assert build().draw(RECORD, StubReader(training=True)).texts == ["A red dog."]
    assert build(clean=True).draw(RECORD, StubReader(training=True)).texts == ["a red dog"]


def test_a_blank_caption_makes_a_broken_record() -> None:
    with pytest.raises(DataError, match="nothing to learn in ' '"):
        build().draw({"image": "a.jpg", "caption": " "}, StubReader(training=True))


def test_a_prompt_without_room_for_a_caption_is_refused() -> None:
    with pytest.raises(ShapeError, match="the prompt has 3 tokens and max_tokens of the stream is 4"):
        build().encode([TaskRow([], ["a dog"])], TOKENIZER, 4)


def test_evaluation_reads_all_captions_of_the_language_and_the_number_of_the_image() -> None:
    row = build().draw(RECORD, StubReader(training=False, language="de"))
    assert row.truth == {"image": 42, "references": ["A red dog.", "Ein Hund"]}
    assert row.texts == [""]


def test_a_record_without_captions_is_written_and_not_measured() -> None:
    row = build().draw({"image": "a.jpg"}, StubReader(training=False))
    assert row.truth == {"image": None, "references": []}
    with pytest.raises(DataError) as error:
        build().draw({"image": "a.jpg", "caption": {"de": "ein Hund"}}, StubReader(training=False))
    assert error.value.reason == Reason.LANGUAGE_MISSING


def test_a_video_is_read_in_place_of_an_image() -> None:
    row = build().draw({"video": ["a", "b"], "caption": "a dog"}, StubReader(training=True))
    assert row.images == [["a", "b"]]


@pytest.mark.parametrize(
    ("image", "number"),
    [
        ("COCO_val2014_000000391895.jpg", 391895),
        (Path("a/17.png"), 17),
        ("a/dog.png", None),
        ("17", None),
        (b"17.png", None),
    ],
)
def test_the_id_of_an_image_is_the_number_at_the_end_of_its_name(image: object, number: int | None) -> None:
    assert image_id(image) == number


def collated(task: CaptioningTask, *captions: str) -> Any:
    rows = task.encode(
        [TaskRow([], [text], seed=number) for number, text in enumerate(captions)], TOKENIZER, 40
    )
    (texts,), targets = task.collate(rows, [pad_texts([row.texts[0] for row in rows], PAD, 40)])
    return texts, targets


def test_targets_are_padded_and_counted() -> None:
    task = build(form="causal")
    _, targets = collated(task, "a dog", "the red dog and the cat")
    assert targets["labels"][0].tolist()[2:] == [SEP, -100, -100, -100, -100]
    assert task.counts("caption", targets).tolist() == [3, 7]


def test_padding_and_inserted_masks_are_seen_by_no_other_token() -> None:
    texts, targets = collated(build(form="insert"), "a dog", "the red dog and the cat")
    kept = texts.ids != PAD
    others = ~torch.eye(texts.ids.shape[1], dtype=torch.bool)
    for row in range(2):
        seen = (texts.mask[row] & others).any(0)
        assert not seen[~kept[row]].any()
        assert not seen[targets["places"][row][targets["labels"][row] >= 0]].any()
    assert (texts.ids.gather(1, targets["places"]) == MASK)[targets["labels"] >= 0].all()


def test_choices_repeat_with_the_seed_of_the_row() -> None:
    (one, _), (other, _) = collated(build(), "a dog", "a cat"), collated(build(), "a dog", "a cat")
    assert (one.ids == other.ids).all()


def predictions(*rows: tuple[str, list[str]]) -> list[Prediction]:
    return [
        Prediction(f"id{number}", caption, {"image": None, "references": references})
        for number, (caption, references) in enumerate(rows)
    ]


def test_scores_stand_beside_those_of_captions_of_other_images() -> None:
    found = build().measure(
        predictions(
            ("A dog runs.", ["a dog runs", "the dog"]), ("a cat sits", ["a cat sits"]), ("", ["the sun"])
        )
    )
    assert (found["images"], found["references"], found["empty"], found["distinct"]) == (3, 4, 1, 3)
    assert found["cider"] > 4 > found["chance"]


def test_without_references_nothing_is_measured() -> None:
    found = build().measure(predictions(("a dog", []), ("a cat", [])))
    assert found == {"cider": None, "images": 0, "captions": 2}
    mixed = build().measure(predictions(("a dog", []), ("a cat", ["a cat"])))
    assert mixed["images"] == 1


def test_the_results_file_has_the_number_of_the_image_or_the_id_of_the_record() -> None:
    rows = [
        Prediction("7", "a dog", {"image": 42, "references": []}),
        Prediction("7", "a cat", {"image": None, "references": []}),
    ]
    assert build().results(rows) == [
        {"image_id": 42, "caption": "a dog"},
        {"image_id": "7", "caption": "a cat"},
    ]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_length": 9, "max_length": 9}, "min_length 9: must be below max_length 9"),
        ({"objective": "cider"}, "objective cider needs frequencies"),
        (
            {"objective": "cider", "frequencies": "a.json", "baseline": "samples", "samples": 1},
            "needs two samples or more",
        ),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Captioning(**settings)


def test_a_model_without_the_masked_language_head_is_refused() -> None:
    assert Captioning().missing_heads(HeadsConfig(built=("itm",))) == {
        "built": "no masked-language head; add mlm"
    }
    assert not Captioning().missing_heads(HeadsConfig(built=("mlm",)))


def test_metrics_that_need_java_say_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java_metrics.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(java_metrics.shutil, "which", lambda name: None)
    with pytest.raises(
        SettingError, match=r"meteor need pycocoevalcap \(pip install 'x2kit\[captions\]'\) and java"
    ):
        java_metrics.require_installed(["meteor"])
