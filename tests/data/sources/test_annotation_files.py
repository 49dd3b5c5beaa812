"""Annotation files become records: images with the captions of all entries, in all languages."""

from __future__ import annotations

import base64
import json
import pickle
from pathlib import Path
from typing import Any

import fsspec
import pytest
from pydantic import ValidationError

from tests.data.sources.conftest import Write
from x2kit.data.sources import entry_files, x2kit_register
from x2kit.data.sources.annotation_config import AnnotationFiles
from x2kit.data.storage import index_cache
from x2kit.errors import DataError, SettingError
from x2kit.plugin.registry import Registry
from x2kit.plugin.sources import Source
from x2kit.testing import check_source


def records(source: Source) -> list[Any]:
    return [source[place] for place in range(len(source))]


def test_the_source_is_registered_through_the_hook() -> None:
    registry = Registry("x2kit_data", "x2kit")
    x2kit_register(registry)
    assert registry.get("source", "AnnotationFiles") is AnnotationFiles


def test_a_test_list_has_one_record_an_image(tmp_path: Path, document: Write, image: Write) -> None:
    image("val2014/2.jpg")
    entries = [{"image": "val2014/2.jpg", "caption": ["A dog.", "A brown dog."], "image_id": 2}]
    config = AnnotationFiles(files=(document("test.json", entries),), language="en", id_key="image_id")
    check_source(config)
    assert records(config.open()) == [
        {
            "id": "2",
            "image": str(tmp_path / "val2014/2.jpg"),
            "caption": [{"en": "A dog."}, {"en": "A brown dog."}],
        }
    ]


def test_a_training_list_is_read_by_image_or_by_entry(document: Write) -> None:
    entries = [
        {"image": "1.jpg", "caption": "A dog.", "image_id": 1},
        {"image": "2.jpg", "caption": "A cat.", "image_id": 2},
        {"image": "1.jpg", "caption": "A brown dog.", "image_id": 1},
    ]
    file = document("train.json", entries, indent=2)
    by_image = records(AnnotationFiles(files=(file,), image_root=file.parent).open())
    assert [record["caption"] for record in by_image] == [["A dog.", "A brown dog."], "A cat."]
    assert [record["id"] for record in by_image] == ["train.json:1", "train.json:2"]
    by_entry = records(AnnotationFiles(files=(file,), one_record="entry").open())
    assert [record["caption"] for record in by_entry] == ["A dog.", "A cat.", "A brown dog."]


def test_files_by_language_are_merged_by_image(document: Write) -> None:
    english = document("test.en.json", [{"image": "1.jpg", "caption": ["a dog", "a brown dog"]}])
    german = document(
        "test.de.json",
        [{"image": "2.jpg", "caption": ["eine Katze"]}, {"image": "1.jpg", "caption": ["Hund"]}],
    )
    config = AnnotationFiles(files={"en": (english,), "de": (german,)})
    assert config.languages() == ("en", "de")
    assert [record["caption"] for record in records(config.open())] == [
        [{"en": "a dog"}, {"en": "a brown dog"}, {"de": "Hund"}],
        [{"de": "eine Katze"}],
    ]
    check_source(config)


def test_xflickr_and_co_takes_the_root_from_the_path(tmp_path: Path, document: Write) -> None:
    lines = [
        {"id": "1", "img_path": "COCO_val2014_1.jpg", "sentences": ["An orange hat.", ""]},
        {"id": "2", "img_path": "1007129816.jpg", "sentences": ["A man."]},
        {"id": "3", "img_path": "3.jpg", "sentences": [""]},
    ]
    for folder in ("coco", "flickr30k"):
        (tmp_path / folder).mkdir()
    config = AnnotationFiles(
        files={"id": (document("id/test.jsonl", lines),)},
        image_root={"COCO": tmp_path / "coco", "": tmp_path / "flickr30k"},
        image_key="img_path",
        caption_key="sentences",
        id_key="id",
        drop_empty=True,
    )
    check_source(config)
    assert records(config.open()) == [
        {"id": "1", "image": f"{tmp_path}/coco/COCO_val2014_1.jpg", "caption": [{"id": "An orange hat."}]},
        {"id": "2", "image": f"{tmp_path}/flickr30k/1007129816.jpg", "caption": [{"id": "A man."}]},
    ]


def test_wit_has_base64_images_and_one_record_a_url(document: Write) -> None:
    content = base64.b64encode(b"the bytes of an image").decode()
    lines = [
        {"image_url": url, "image_content": content, "caption_reference_description": text}
        for url, text in (("https://e.org/a.jpg", "A bird."), ("b", " "), ("https://e.org/a.jpg", "."))
    ]
    config = AnnotationFiles(
        files={"en": (document("wit/en.jsonl", lines),)},
        image_key="image_content",
        image_as="base64",
        caption_key="caption_reference_description",
        same_image_key="image_url",
        drop_empty=True,
    )
    check_source(config)
    (record,) = records(config.open())
    assert record["image"] == b"the bytes of an image"
    assert record["caption"] == [{"en": "A bird."}, {"en": "."}]


def test_vqa_has_ten_answers_or_one_of_half_weight_or_none(tmp_path: Path, document: Write) -> None:
    entries = [
        {
            "question_id": 5,
            "question": "What is it?",
            "image": "a.jpg",
            "dataset": "vqa",
            "answer": ["dog", "dog", "puppy"],
        },
        {"question_id": 6, "question": "Who is there?", "image": "b.jpg", "dataset": "vg", "answer": "a man"},
        {"question_id": 7, "question": "Is it day?", "image": "test2015/c.jpg"},
    ]
    config = AnnotationFiles(
        files=(document("vqa.json", entries),),
        image_root={"vg": tmp_path, "": tmp_path / "coco"},
        image_root_key="dataset",
        question_key="question",
        answers_key="answer",
        single_answer_weight=0.5,
        id_key="question_id",
        one_record="entry",
    )
    source = config.open()
    assert records(source) == [
        {
            "id": "5",
            "image": f"{tmp_path}/coco/a.jpg",
            "question": "What is it?",
            "answers": ["dog", "dog", "puppy"],
        },
        {
            "id": "6",
            "image": f"{tmp_path}/b.jpg",
            "question": "Who is there?",
            "answers": {"a man": 0.5},
        },
        {"id": "7", "image": f"{tmp_path}/coco/test2015/c.jpg", "question": "Is it day?"},
    ]
    assert list(source.texts()) == [
        *("What is it?", "dog", "dog", "puppy", "Who is there?", "a man", "Is it day?"),
    ]


def test_gqa_has_labels_of_equal_weight(tmp_path: Path, document: Write) -> None:
    entries = [
        {"img_id": "2354786", "label": {"yes": 0.3, "no": 1.0}, "question_id": "02", "sent": "Is it dark?"}
    ]
    keys: dict[str, Any] = {
        "image_key": "img_id",
        "image_suffix": ".jpg",
        "question_key": "sent",
        "answers_key": "label",
        "id_key": "question_id",
        "one_record": "entry",
    }
    config = AnnotationFiles(files={"en": (document("train.json", entries),)}, **keys, equal_answers=True)
    question = {"id": "02", "image": f"{tmp_path}/2354786.jpg", "question": {"en": "Is it dark?"}}
    assert records(config.open()) == [{**question, "answers": ["yes", "no"]}]
    given = AnnotationFiles(files=config.files, **keys)
    assert records(given.open()) == [{**question, "answers": {"yes": 0.3, "no": 1.0}}]


XGQA: dict[str, Any] = {
    "image_key": "imageId",
    "image_suffix": ".jpg",
    "question_key": "question",
    "answers_key": "answer",
    "id_key": "id",
    "one_record": "id",
}


@pytest.mark.parametrize("indent", [None, 1])
def test_xgqa_has_one_record_a_question_in_all_languages(
    tmp_path: Path, document: Write, indent: int | None
) -> None:
    german = {
        "055": {"imageId": "2405722", "question": "Ist der Himmel dunkel?", "answer": "no"},
        "056": {"imageId": 7, "question": "Ja?", "answer": "yes"},
    }
    english = {"055": {"imageId": "2405722", "question": "Is the sky dark?", "answer": "no"}}
    config = AnnotationFiles(
        files={
            "de": (document("testdev_de.json", german, indent=indent),),
            "en": (document("testdev_en.json", english, indent=indent),),
        },
        **XGQA,
    )
    check_source(config)
    assert records(config.open()) == [
        {
            "id": "055",
            "image": f"{tmp_path}/2405722.jpg",
            "question": {"de": "Ist der Himmel dunkel?", "en": "Is the sky dark?"},
            "answers": ["no"],
        },
        {"id": "056", "image": f"{tmp_path}/7.jpg", "question": {"de": "Ja?"}, "answers": ["yes"]},
    ]


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"answer": "yes"}, r"b\.json entry 1: answers: \['yes'\], but \['no'\] in another entry of this id"),
        ({}, "question: several texts without a language for one id; give files by language"),
    ],
)
def test_entries_of_one_id_that_contradict_are_named(
    document: Write, other: dict[str, str], message: str
) -> None:
    entry = {"imageId": 1, "question": "Ja?", "answer": "no"}
    files = (document("a.json", {"055": entry}), document("b.json", {"055": {**entry, **other}}))
    by_language = {"de": files[:1], "en": files[1:]} if other else files
    with pytest.raises(DataError, match=message) as found:
        AnnotationFiles(files=by_language, **XGQA).open()[0]
    assert found.value.record == "055"


@pytest.mark.parametrize("label", ["True", True])
def test_nlvr2_has_two_images_and_a_label(tmp_path: Path, document: Write, label: Any) -> None:
    entries = [{"sentence": "Both show dogs.", "label": label, "images": ["dev/0.png", "dev/1.png"]}]
    config = AnnotationFiles(
        files=(document("dev.json", entries),),
        image_key="images",
        caption_key="sentence",
        label_key="label",
        label_as="bool",
        one_record="entry",
    )
    assert records(config.open()) == [
        {
            "id": "dev.json:1",
            "images": [f"{tmp_path}/dev/0.png", f"{tmp_path}/dev/1.png"],
            "caption": "Both show dogs.",
            "label": True,
        }
    ]


@pytest.mark.parametrize(
    ("image_path", "folder"),
    [
        ("{language}/images/{concept}/{value}", "zh/images/82-eagle"),
        ("{language}/images/{prefix}/{value}", "zh/images/82"),
    ],
)
def test_marvl_composes_the_paths_of_its_images(
    tmp_path: Path, document: Write, image_path: str, folder: str
) -> None:
    line = {
        "caption": "左右都有鹰",
        "label": False,
        "language": "zh",
        "left_img": "82-6.jpg",
        "right_img": "82-1.jpg",
        "concept": "82-eagle",
    }
    config = AnnotationFiles(
        files={"zh": (document("marvl-zh.jsonl", [line]),)},
        image_key="left_img",
        second_image_key="right_img",
        image_path=image_path,
        label_key="label",
        one_record="entry",
    )
    check_source(config)
    assert records(config.open()) == [
        {
            "id": "marvl-zh.jsonl:1",
            "images": [f"{tmp_path}/{folder}/82-6.jpg", f"{tmp_path}/{folder}/82-1.jpg"],
            "caption": {"zh": "左右都有鹰"},
            "label": False,
        }
    ]


def test_xvnli_skips_and_counts_lines_without_a_gold_label(
    tmp_path: Path, document: Write, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [
        {"Flikr30kID": "44", "gold_label": label, "sentence1": "Two people.", "sentence2": f"Hypothesis {n}."}
        for n, label in enumerate(("neutral", "-", "entailment"))
    ]
    config = AnnotationFiles(
        files={"fr": (document("fr/test.jsonl", lines),)},
        image_key="Flikr30kID",
        image_suffix=".jpg",
        caption_key="sentence2",
        premise_key="sentence1",
        label_key="gold_label",
        skip={"gold_label": ("-",)},
        one_record="entry",
    )
    with caplog.at_level("INFO"):
        found = records(config.open())
    assert "fr/test.jsonl: 1 of 3 entries are skipped" in caplog.text
    assert [record["label"] for record in found] == ["neutral", "entailment"]
    assert found[1] == {
        "id": "test.jsonl:3",
        "image": f"{tmp_path}/fr/44.jpg",
        "caption": {"fr": "Hypothesis 2."},
        "premise": {"fr": "Two people."},
        "label": "entailment",
    }


def test_msrvtt_questions_name_files_of_frames(tmp_path: Path, document: Write) -> None:
    lines = [{"question": "what is a man doing", "answer": "cook", "video_id": "video7"}]
    config = AnnotationFiles(
        files=(document("qa_test.jsonl", lines),),
        video_key="video_id",
        image_path="video_{number}.json",
        question_key="question",
        answers_key="answer",
        one_record="entry",
    )
    assert records(config.open()) == [
        {
            "id": "qa_test.jsonl:1",
            "video": f"{tmp_path}/video_7.json",
            "question": "what is a man doing",
            "answers": ["cook"],
        }
    ]


def test_next_qa_is_a_table_with_five_options(tmp_path: Path) -> None:
    file = tmp_path / "val.csv"
    file.write_text(
        'video,question,answer,a0,a1,a2,a3,a4\n40,"why, then",4,to rest,b,c,d,e\n41,why,x,a,b,c,d,e\n'
    )
    config = AnnotationFiles(
        files=(file,),
        video_key="video",
        image_suffix=".mp4",
        question_key="question",
        options_keys=("a0", "a1", "a2", "a3", "a4"),
        label_key="answer",
        label_as="int",
        one_record="entry",
    )
    source = config.open()
    assert source[0] == {
        "id": "val.csv:2",
        "video": f"{tmp_path}/40.mp4",
        "question": "why, then",
        "options": ["to rest", "b", "c", "d", "e"],
        "label": 4,
    }
    with pytest.raises(DataError, match=r"val\.csv:3: answer: expected a whole number, found 'x'"):
        source[1]


def test_captions_of_coco_replace_those_of_the_entries(tmp_path: Path, document: Write) -> None:
    gold = {
        "images": [{"id": 42}],
        "annotations": [
            {"id": 2, "image_id": 42, "caption": "a brown dog"},
            {"id": 3, "image_id": 7, "caption": "a cat"},
            {"id": 1, "image_id": 42, "caption": "a dog"},
        ],
    }
    entries = [{"image": f"val2014/COCO_val2014_0000000000{n}.jpg"} for n in ("42", "99")]
    config = AnnotationFiles(
        files=(document("coco_karpathy_test.json", entries),),
        coco_captions=document("coco_karpathy_test_gt.json", gold),
        id_key="image",
        id_as="number",
    )
    source = config.open()
    assert source[0] == {
        "id": "42",
        "image": f"{tmp_path}/val2014/COCO_val2014_000000000042.jpg",
        "caption": ["a brown dog", "a dog"],
    }
    with pytest.raises(DataError, match=r"entry 2: .*test_gt\.json has no caption of image 99"):
        source[1]
    assert list(source.texts()) == ["a brown dog", "a dog"]
    with pytest.raises(SettingError, match="coco_captions: no file at"):
        config.model_copy(update={"coco_captions": str(tmp_path / "none.json")}).check()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"question_key": "question"}, "question_key: a record of an image has several entries"),
        ({"label_key": "label", "one_record": "id"}, "one_record: id needs id_key"),
        ({"keep": ("a",), "one_record": "id", "id_key": "id"}, "keep: a record has several entries"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        AnnotationFiles(files=("a.json",), **settings)


def test_a_path_composed_of_a_missing_field_is_named(document: Write) -> None:
    file = document("a.json", [{"image": "a.jpg", "caption": "a"}])
    for path, message in (
        ("{concept}/{value}", "no field 'concept'"),
        ("{number}.jpg", "expected a number at the"),
    ):
        with pytest.raises(DataError, match=f"entry 1: .*{message}"):
            AnnotationFiles(files=(file,), image_path=path).open()[0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '[{"image": "1.jpg", "caption": "a"}, {"image": "2.jpg", "cap',
            "test.json: not JSON: the document is truncated",
        ),
        ("", "test.json: not a JSON list or object"),
        ("[]", "no record in .*test.json"),
        ("17", "test.json: not a JSON list or object"),
    ],
)
def test_an_invalid_file_is_named(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "test.json"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        AnnotationFiles(files=(file,)).open()


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ('{"image": "1.jpg"}', "no field 'caption'; its fields are image"),
        ('{"caption": "a dog"}', "no field 'image'"),
        ('{"image": ["a.jpg", 1.5], "caption": "a dog"}', "image: expected a text or a number, found 1.5"),
        ('{"image": "1.jpg", "caption": " "}', "caption: the text is empty"),
        ('{"image": "1.jpg", "caption": []}', r"caption: expected text.*found \[\]"),
        ('{"image": "1.jpg", "caption": ["a", 7]}', r"caption\[1\]: expected text.*found 7"),
        ('{"image": "1.jpg", "caption": nothing}', "not JSON: Expecting value"),
        ('{"image": ' + "9" * 5000 + "}", "not JSON: Exceeds the limit"),
        ('["1.jpg", "a dog"]', "expected a JSON object, found list"),
    ],
)
def test_a_broken_entry_is_named_and_the_others_are_read(tmp_path: Path, entry: str, message: str) -> None:
    file = tmp_path / "test.json"
    file.write_text(f'[{{"image": "0.jpg", "caption": "fine"}}, {entry}]', encoding="utf-8")
    source = AnnotationFiles(files=(file,)).open()
    assert len(source) == 2
    assert source[0]["caption"] == "fine"
    with pytest.raises(DataError, match=f"{file} entry 2: {message}"):
        source[1]
    assert next(source.texts()) == "fine"


def test_an_extra_comma_in_an_object_is_named_by_entry(tmp_path: Path) -> None:
    file = tmp_path / "test.json"
    file.write_text('{"a": {"image": "1.jpg", "caption": "fine"},\n}')
    source = AnnotationFiles(files=(file,)).open()
    assert source[0]["caption"] == "fine"
    with pytest.raises(DataError, match=f"{file} entry 2: not JSON: no member between two commas"):
        source[1]


def test_bytes_that_are_not_utf8_are_named(tmp_path: Path) -> None:
    file = tmp_path / "test.json"
    file.write_bytes(b'[{"image": "1.jpg", "caption": "Stra\xdfe"}]')
    with pytest.raises(DataError, match=f"{file} entry 1: not UTF-8 at byte 35"):
        AnnotationFiles(files=(file,)).open()[0]


def test_an_image_without_a_root_is_refused(tmp_path: Path, document: Write) -> None:
    file = document("test.json", [{"image": "flickr/1.jpg", "caption": "a dog"}])
    config = AnnotationFiles(files=(file,), image_root={"COCO": tmp_path})
    with pytest.raises(DataError, match=r"image_root: none of COCO occurs in 'flickr/1.jpg'"):
        config.open()[0]


def test_files_of_one_name_give_different_ids(document: Write) -> None:
    files = tuple(
        document(f"{code}/test.jsonl", [{"image": f"{code}.jpg", "caption": "a"}]) for code in ("de", "id")
    )
    assert [record["id"] for record in records(AnnotationFiles(files=files).open())] == [
        "de/test.jsonl:1",
        "id/test.jsonl:1",
    ]


def test_urls_in_entries_need_an_allowed_host(document: Write) -> None:
    file = document("a.json", [{"image": "https://images.example.org/1.jpg", "caption": "a"}])
    with pytest.raises(DataError, match=r"a.json entry 1: the record names https://images.example.org/1.jpg"):
        AnnotationFiles(files=(file,)).open()[0]
    allowed = AnnotationFiles(files=(file,), image_hosts=("https://images.example.org",))
    assert allowed.open()[0]["image"] == "https://images.example.org/1.jpg"


def test_files_and_images_may_lie_in_a_remote_store() -> None:
    fsspec.filesystem("memory").pipe_file(
        "/annotations/test.json", b'[{"image": "1.jpg", "caption": "a dog"}]'
    )
    config = AnnotationFiles(files=("memory://annotations/{split}.json",), split="test")
    check_source(config)
    assert config.open()[0]["image"] == "memory://annotations/1.jpg"


def test_missing_files_and_invalid_settings_are_refused(tmp_path: Path, document: Write) -> None:
    file = document("test.json", [])
    with pytest.raises(SettingError, match=r"files: no file at .*none.json"):
        AnnotationFiles(files=(tmp_path / "none.json",)).check()
    with pytest.raises(SettingError, match=r"image_root: no folder .*images"):
        AnnotationFiles(files=(file,), image_root={"": tmp_path / "images"}).check()
    with pytest.raises(SettingError, match="image_root_key: image_root has no keys"):
        AnnotationFiles(files=(file,), image_root_key="dataset").check()
    with pytest.raises(ValidationError, match=r"keep: .* set one_record: entry"):
        AnnotationFiles(files=(file,), keep=("answer",))
    with pytest.raises(SettingError, match=r"split: no file for split 'val': put \{split\} in the path"):
        AnnotationFiles(files=(file,)).for_split("val")


def test_the_split_is_a_part_of_the_path(tmp_path: Path, document: Write) -> None:
    for split in ("train", "test"):
        document(f"{split}.de.json", [{"image": "1.jpg", "caption": split}])
    config = AnnotationFiles(files={"de": (tmp_path / "{split}.de.json",)})
    assert config.open()[0]["caption"] == {"de": "train"}
    assert config.for_split("test").open()[0]["caption"] == {"de": "test"}


def test_the_index_of_a_large_file_is_cached(
    tmp_path: Path, document: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X2KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index_cache, "CACHED_FROM", 0)
    monkeypatch.setattr(index_cache, "RACY_SECONDS", 0)
    entries = [{"image": f"{n % 3}.jpg", "caption": f"{n}", "other": ["{", '"']} for n in range(9)]
    config = AnnotationFiles(files=(document("train.json", entries),))
    first = records(config.open())
    monkeypatch.setattr(entry_files, "find_marks", None)
    assert records(config.open()) == first
    by_entry = AnnotationFiles(files=config.files, one_record="entry")
    assert len(by_entry.open()) == 9


def test_an_open_source_can_be_pickled(document: Write) -> None:
    source = AnnotationFiles(files=(document("a.json", [{"image": "1.jpg", "caption": "a"}]),)).open()
    assert pickle.loads(pickle.dumps(source))[0] == source[0]


def test_place_is_file_and_line(document: Write) -> None:
    file = document("a.json", [{"image": "1.jpg", "caption": "a"}, {"image": "2.jpg", "caption": "a"}])
    place = AnnotationFiles(files=(file,)).open().place(1)  # type: ignore[attr-defined]
    assert place.file == str(file)
    assert file.read_bytes()[place.offset :].lstrip().startswith(b'{"image": "2.jpg"')


def test_the_fingerprint_depends_on_the_content(document: Write) -> None:
    entries = [{"image": "1.jpg", "caption": "a dog"}]
    config = AnnotationFiles(files=(document("a.json", entries),))
    before = config.open().fingerprint()
    document("a.json", json.loads(json.dumps(entries).replace("dog", "cat")))
    assert config.open().fingerprint() != before


def test_braces_expand_to_local_and_remote_files(document: Write, tmp_path: Path) -> None:
    for number in (1, 2):
        local = document(f"part-{number}.json", [{"image": f"{number}.jpg", "caption": "a"}])
        fsspec.filesystem("memory").pipe_file(f"/braces/{local.name}", local.read_bytes())
    for folder in (str(tmp_path), "memory://braces"):
        assert len(AnnotationFiles(files=(f"{folder}/part-{{1..2}}.json",)).open()) == 2
