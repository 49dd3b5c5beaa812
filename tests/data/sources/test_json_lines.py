"""JSON Lines are read in both layouts; errors name file and line."""

from __future__ import annotations

import base64
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from x2kit.data.sources import x2kit_register
from x2kit.data.sources.config import JsonLines
from x2kit.errors import DataError, SettingError
from x2kit.plugin.registry import Registry
from x2kit.plugin.sources import Record, Source
from x2kit.testing import check_source

IMAGE = b"the bytes of an image"
BINARY = base64.b64encode(IMAGE).decode()


def write(path: Path, *records: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8"
    )
    return path


def read(folder: Path, record: Any, **fields: Any) -> Record:
    """Write one record and read it back."""
    return JsonLines(files=(write(folder / "a.jsonl", record),), **fields).open()[0]


def test_the_source_is_registered_through_the_hook() -> None:
    registry = Registry("x2kit_data", "x2kit")
    x2kit_register(registry)
    assert registry.get("source", "JsonLines") is JsonLines


def test_own_fields_are_read_unchanged(tmp_path: Path) -> None:
    written = {
        "id": "one",
        "image": "images/1.png",
        "caption": {"en": "a dog", "de": "ein Hund"},
        "regions": [{"bbox": [1, 2, 3.5, 4], "caption": ["dog", "puppy"]}],
        "texts": {"en": "a dog", "zh": "狗"},
    }
    assert read(tmp_path, written) == {**written, "image": tmp_path / "images/1.png"}


def test_fields_of_tasks_are_read_unchanged(tmp_path: Path) -> None:
    written = {
        "id": "5001",
        "images": ["images/1.png", "images/2.png"],
        "question": {"en": "What is it?", "de": "Was ist das?"},
        "answers": ["dog", "dog", "puppy"],
        "options": ["dog", {"en": "cat"}],
        "label": False,
        "premise": "A dog.",
        "detections": [{"bbox": [1.0, 2.0, 3.0, 4.0]}],
    }
    images = [tmp_path / "images/1.png", tmp_path / "images/2.png"]
    assert read(tmp_path, written) == {**written, "images": images}
    source = JsonLines(files=(tmp_path / "a.jsonl",)).open()
    assert list(source.texts()) == ["What is it?", "Was ist das?", "dog", "cat", "dog", "dog", "puppy"]


def test_fields_of_tasks_may_be_null_or_without_answers(tmp_path: Path) -> None:
    written = {"id": "1", "question": "What?", "answers": [], "label": None, "premise": None}
    assert read(tmp_path, written) == {"id": "1", "question": "What?"}


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ({"images": ["1.png"]}, r"images: expected a list of two images, found \['1.png'\]"),
        ({"question": " "}, "question: the text is empty"),
        ({"answers": ["dog", None]}, "answers: expected a text or a number, found None"),
        ({"answers": {"dog": -1}}, "answers.dog: expected a weight of 0 or more, found -1"),
        ({"options": ["one"]}, "options: expected a list of two or more options"),
        ({"label": 0.5}, "label: expected text, a whole number, true or false, found 0.5"),
        (
            {"detections": [[1, 2, 3]]},
            r"detections\[0\]: expected \[x, y, width, height\], found \[1, 2, 3\]",
        ),
    ],
)
def test_a_broken_field_of_a_task_is_named_with_file_and_line(
    tmp_path: Path, field: Any, message: str
) -> None:
    with pytest.raises(DataError, match=rf"a\.jsonl:1: {message}"):
        read(tmp_path, {"caption": "a dog", **field})


@pytest.mark.parametrize("key", ["desc", "caption", "text"])
def test_official_images_with_text_are_read(tmp_path: Path, key: str) -> None:
    record = read(tmp_path, {"binary": BINARY, key: ["a brown dog", "dog resting"]})
    assert record == {"id": "a.jsonl:1", "image": IMAGE, "caption": ["a brown dog", "dog resting"]}


def test_official_regions_are_read_with_their_attributes(tmp_path: Path) -> None:
    elems = [
        {"caption": ["dog", "puppy"], "attributes": "brown", "bb": [12, 30, 200, 150]},
        {"caption": "man", "attributes": ["tall", "old"], "bb": [0, 5, 90, 180]},
        {
            "caption": {"en": "cat", "de": "Katze"},
            "attributes": {"en": "black", "fr": "noir"},
            "bb": [0, 0, 1, 1],
        },
        {"caption": {"en": "cat", "de": "Katze"}, "attributes": "XL", "bb": [0, 0, 1, 1]},
        {"caption": "hat", "attributes": None, "bb": [0, 0, 1, 1]},
    ]
    record = read(tmp_path, {"binary": BINARY, "elems": elems, "caption": "a man and his dog"})
    assert record["caption"] == "a man and his dog"
    assert record["regions"][0] == {
        "bbox": [12.0, 30.0, 200.0, 150.0],
        "caption": ["brown dog", "brown puppy"],
    }
    assert [region["caption"] for region in record["regions"][1:]] == [
        ["tall man", "old man"],
        {"en": "black cat"},
        {"en": "XL cat", "de": "XL Katze"},
        "hat",
    ]


def test_official_parallel_text_is_read(tmp_path: Path) -> None:
    pair = {"source_text": "a dog", "target_text": "ein Hund"}
    assert read(tmp_path, pair)["texts"] == {"source": "a dog", "target": "ein Hund"}
    assert read(tmp_path, pair, pair_languages=("en", "de"))["texts"] == {"en": "a dog", "de": "ein Hund"}


def test_fields_are_mapped_by_settings(tmp_path: Path) -> None:
    record = {"image_rpath": "1.jpg", "image": "not this", "title": "a dog", "caption": "not this"}
    found = read(
        tmp_path, record, image_key="image_rpath", caption_key="title", image_root=tmp_path / "images"
    )
    assert found["image"] == tmp_path / "images" / "1.jpg"
    assert found["caption"] == "a dog"
    assert read(tmp_path, {"jpg": BINARY}, image_key="jpg", image_as="base64")["image"] == IMAGE
    assert read(tmp_path, {"binary": "1.jpg"}, image_as="path")["image"] == tmp_path / "1.jpg"


def test_absolute_paths_ignore_the_root(tmp_path: Path) -> None:
    assert read(tmp_path, {"image": "/images/1.jpg"}, image_root=tmp_path)["image"] == Path("/images/1.jpg")


def test_texts_without_a_code_get_the_language_of_the_settings(tmp_path: Path) -> None:
    record = {"caption": ["ein Hund", {"en": "a dog"}], "elems": [{"bb": [0, 0, 1, 1], "caption": "Hund"}]}
    found = read(tmp_path, record, language="de")
    assert found["caption"] == [{"de": "ein Hund"}, {"en": "a dog"}]
    assert found["regions"][0]["caption"] == {"de": "Hund"}


def test_languages_are_those_of_the_settings(tmp_path: Path) -> None:
    files = (write(tmp_path / "a.jsonl", {"caption": "a"}),)
    assert JsonLines(files=files).languages() is None
    assert JsonLines(files=files, language="de").languages() == ("de",)
    assert JsonLines(files=files, language="de", languages_held=("en", "de")).languages() == ("en", "de")


def test_files_patterns_and_folders_are_read_in_order_and_each_once(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.jsonl", "more/c.jsonl", "more/_SUCCESS", "more/.hidden"):
        write(tmp_path / name, {"caption": name})
    files = (tmp_path / "b.jsonl", tmp_path / "*.jsonl", tmp_path / "more")
    source = JsonLines(files=files).open()
    assert [source[i]["caption"] for i in range(len(source))] == ["b.jsonl", "a.jsonl", "more/c.jsonl"]
    assert [source[i]["id"] for i in range(3)] == ["b.jsonl:1", "a.jsonl:1", "more/c.jsonl:1"]
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"record {index} of 3"):
            source[index]


def test_files_of_one_name_give_different_ids(tmp_path: Path) -> None:
    files = tuple(write(tmp_path / folder / "a.jsonl", {"caption": folder}) for folder in ("x", "y"))
    source = JsonLines(files=files).open()
    assert [source[0]["id"], source[1]["id"]] == ["x/a.jsonl:1", "y/a.jsonl:1"]


def test_a_split_in_the_path_selects_another_file(tmp_path: Path) -> None:
    for split in ("train", "test"):
        write(tmp_path / f"{split}.jsonl", {"caption": split, "image": "1.png"})
    config = JsonLines(files=(tmp_path / "{split}.jsonl",), image_root=tmp_path / "{split}")
    assert config.open()[0]["caption"] == "train"
    test = config.for_split("test").open()[0]
    assert test["caption"] == "test"
    assert test["image"] == tmp_path / "test" / "1.png"


def test_a_split_without_files_is_refused(tmp_path: Path) -> None:
    config = JsonLines(files=(write(tmp_path / "a.jsonl", {"caption": "a"}),), split="test")
    assert config.for_split("test") == config
    with pytest.raises(SettingError, match=r"split: no file for split 'val': put \{split\} in the path"):
        config.for_split("val")


def test_missing_files_and_folders_are_found_when_settings_are_checked(tmp_path: Path) -> None:
    write(tmp_path / "a.jsonl", {"caption": "a"})
    JsonLines(files=(tmp_path / "a.jsonl",), image_root=tmp_path).check()
    with pytest.raises(SettingError, match=r"files: no file at .*b-\*\.jsonl"):
        JsonLines(files=(tmp_path / "b-*.jsonl",)).check()
    with pytest.raises(SettingError, match=r"files: no file at .*train\.jsonl"):
        JsonLines(files=(tmp_path / "{split}.jsonl",)).check()
    with pytest.raises(SettingError, match="image_root: no folder"):
        JsonLines(files=(tmp_path / "a.jsonl",), image_root=tmp_path / "none").check()
    with pytest.raises(ValidationError, match="at least 1"):
        JsonLines(files=())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"caption": ', "not JSON: Expecting value"),
        (b"\xff\xfe", "not UTF-8 at byte 0"),
        (b'"a dog"', "expected a JSON object, found str"),
        (b'{"video_frames": 3}', "video_frames: expected base64 text, found 3"),
        (b"{}", "no image, no video and no text; its fields are none"),
        (b'{"caption": 3}', "caption: expected text, {code: text} or a list of these, found 3"),
        (b'{"caption": []}', "caption: expected text"),
        (b'{"caption": {"en": 3}}', "caption.en: expected text, found 3"),
        (b'{"binary": "?"}', "binary: not base64"),
        (b'{"binary": null}', "binary: expected base64 text, found None"),
        (b'{"elems": {}}', "elems: expected a list, found {}"),
        (b'{"elems": [{"caption": "a"}]}', "elems[0]: expected bb and caption, found {'caption': 'a'}"),
        (
            b'{"regions": [{"bbox": [1, 2, 3], "caption": "a"}]}',
            "regions[0].bbox: expected [x, y, width, height]",
        ),
        (
            b'{"elems": [{"bb": [1, 2, 3, "4"], "caption": "a"}]}',
            "elems[0].bb: expected [x, y, width, height]",
        ),
        (
            b'{"elems": [{"bb": [1, 2, 3, 4], "caption": {"en": "a"}, "attributes": {"de": "b"}}]}',
            "elems[0]: attributes and caption have no language in common",
        ),
        (b'{"texts": "a dog"}', "texts: expected {code: sentence}, found 'a dog'"),
        (b'{"source_text": "a dog"}', "no field 'target_text'; its fields are source_text"),
        (b'{"source_text": "a", "target_text": 3}', "target_text: expected text, found 3"),
    ],
)
def test_a_broken_line_is_named_with_file_line_and_reason(tmp_path: Path, line: bytes, message: str) -> None:
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'{"caption": "before"}\n\n' + line + b'\n{"caption": "after"}')
    source = JsonLines(files=(file,)).open()
    assert len(source) == 3
    with pytest.raises(DataError) as caught:
        source[1]
    assert str(caught.value).startswith(f"{file}:3: {message}")
    assert caught.value.reason
    assert not any(
        digit in caught.value.reason.replace("UTF-8", "").replace("base64", "") for digit in "0123456789"
    )
    assert (source[0]["caption"], source[2]["caption"]) == ("before", "after")


@pytest.mark.parametrize("key", ["image_key", "caption_key"])
def test_a_field_in_the_settings_is_required(tmp_path: Path, key: str) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl:1: no field 'title'; its fields are image, caption"):
        read(tmp_path, {"image": "1.jpg", "caption": "a dog"}, **{key: "title"})


def test_a_json_list_is_refused_with_a_command_to_convert_it(tmp_path: Path) -> None:
    file = tmp_path / "a.json"
    file.write_text('[{"caption": "a"}]', encoding="utf-8")
    with pytest.raises(
        DataError, match=r"a\.json: a JSON list, expected JSON Lines; .* jq -c '\.\[\]' a\.json"
    ):
        JsonLines(files=(file,)).open()


def test_files_without_records_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.jsonl"
    for content in (b"", b"\n\r\n\n"):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"no record in .*a\.jsonl"):
            JsonLines(files=(file,)).open()


@settings(max_examples=60)
@given(
    captions=st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, max_size=8),
    gaps=st.lists(st.sampled_from([b"\n", b"\r\n", b"\n\n", b"\r\n\r\n"]), min_size=8, max_size=8),
    end=st.booleans(),
    mark=st.booleans(),
)
def test_lines_are_read_with_any_line_ends(
    tmp_path_factory: pytest.TempPathFactory, captions: list[str], gaps: list[bytes], end: bool, mark: bool
) -> None:
    content = b"\xef\xbb\xbf" if mark else b""
    for number, caption in enumerate(captions):
        content += json.dumps({"caption": caption}, ensure_ascii=number % 2 == 0).encode()
        content += gaps[number] if end or number + 1 < len(captions) else b""
    file = tmp_path_factory.mktemp("lines") / "a.jsonl"
    file.write_bytes(content)
    source = JsonLines(files=(file,)).open()
    assert [source[i]["caption"] for i in range(len(source))] == captions
    numbers = [int(source[i]["id"].split(":")[1]) for i in range(len(source))]
    assert numbers == [n for n, line in enumerate(content.split(b"\n"), 1) if line.strip(b"\r")]


def test_a_file_of_several_chunks_is_indexed_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("x2kit.data.index.lines._CHUNK", 7)
    file = write(tmp_path / "a.jsonl", *({"caption": f"{number} " * number} for number in range(1, 30)))
    source = JsonLines(files=(file,)).open()
    assert [source[i]["caption"] for i in range(29)] == [f"{number} " * number for number in range(1, 30)]


def test_texts_skips_broken_lines_and_counts_them(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = write(
        tmp_path / "a.jsonl",
        {"binary": "no base64, and no matter", "desc": ["a", {"en": "b", "de": "c"}]},
        {"caption": 3},
        {"elems": [{"bb": [0, 0, 1, 1], "caption": "d", "attributes": ["e", "f"]}]},
        {"source_text": "g", "target_text": "h"},
    )
    source = JsonLines(files=(file,)).open()
    with caplog.at_level(logging.WARNING):
        assert list(source.texts()) == ["a", "b", "c", "e d", "f d", "g", "h"]
    assert "no texts from 1 of 4 records" in caplog.text


def test_the_fingerprint_depends_on_content_and_not_on_the_folder(tmp_path: Path) -> None:
    def fingerprint(place: str, caption: str, **fields: Any) -> str:
        return (
            JsonLines(files=(write(tmp_path / place / "a.jsonl", {"caption": caption}),), **fields)
            .open()
            .fingerprint()
        )

    assert fingerprint("x", "one") == fingerprint("y", "one")
    assert fingerprint("x", "one") != fingerprint("x", "two")
    assert fingerprint("x", "one") != fingerprint("x", "one", language="en")


def test_it_meets_the_contract_of_sources(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {"caption": "a"}, {"source_text": "b", "target_text": "c"})
    check_source(JsonLines(files=(file,)))


def test_a_source_can_be_sent_to_workers(tmp_path: Path) -> None:
    source = JsonLines(files=(write(tmp_path / "a.jsonl", {"caption": "a"}, {"caption": "b"}),)).open()
    assert isinstance(source, Source)
    again = pickle.loads(pickle.dumps(source))
    assert [again[0], again[1]] == [source[0], source[1]]


def test_a_truncated_file_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "a.jsonl", {"caption": "a"}, {"caption": "b"})
    source = JsonLines(files=(file,)).open()
    file.write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.jsonl:2: .*truncated"):
        source[1]
