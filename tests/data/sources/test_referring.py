"""Referring expressions become images with named boxes; the pickle of the release is read without running it."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from tests.data.sources.conftest import Write
from x2kit.data.sources import referring as referring_records
from x2kit.data.sources.annotation_config import ReferringExpressions
from x2kit.data.storage import index_cache
from x2kit.errors import DataError, SettingError
from x2kit.testing import check_source

ENTRIES = [
    {"image": "train2014/1.jpg", "text": "dog on the left", "ref_id": 17},
    {"image": "train2014/2.jpg", "text": "man", "ref_id": 19},
    {"image": "train2014/1.jpg", "text": "right cat", "ref_id": 18},
]
REFS = [
    {
        "ref_id": ref,
        "ann_id": ann,
        "image_id": 1,
        "category_id": 18,
        "split": split,
        "sentences": [{"raw": "x"}],
    }
    for ref, ann, split in ((19, 3, "testB"), (17, 1, "testA"), (18, 2, "testA"))
]
INSTANCES = {
    "images": [{"id": 1, "width": 64, "height": 48}, {"id": 2, "width": 30, "height": 30}],
    "annotations": [
        {"id": 2, "image_id": 1, "bbox": [30, 2, 10, 10.5]},
        {"id": 1, "image_id": 1, "bbox": [1, 2, 10, 20]},
        {"id": 3, "image_id": 2, "bbox": [0, 0, 30, 30]},
    ],
    "categories": [],
}


@pytest.fixture
def release(tmp_path: Path, document: Write) -> Any:
    def make(refs: Any = REFS, instances: Any = INSTANCES, entries: Any = ENTRIES, **settings: Any) -> Any:
        pickled = tmp_path / "refs(unc).p"
        pickled.write_bytes(refs if isinstance(refs, bytes) else pickle.dumps(refs, protocol=0))
        return ReferringExpressions(
            files=(document("refcoco+_test.json", entries),),
            refs=pickled,
            instances=document("instances.json", instances),
            language="en",
            **settings,
        )

    return make


def test_boxes_are_read_from_the_release(tmp_path: Path, release: Any) -> None:
    check_source(release())
    source = release().open()
    assert [source[place] for place in range(len(source))] == [
        {
            "id": "refcoco+_test.json:1",
            "image": f"{tmp_path}/train2014/1.jpg",
            "regions": [
                {"bbox": [1.0, 2.0, 10.0, 20.0], "caption": {"en": "dog on the left"}},
                {"bbox": [30.0, 2.0, 10.0, 10.5], "caption": {"en": "right cat"}},
            ],
        },
        {
            "id": "refcoco+_test.json:2",
            "image": f"{tmp_path}/train2014/2.jpg",
            "regions": [{"bbox": [0.0, 0.0, 30.0, 30.0], "caption": {"en": "man"}}],
        },
    ]


def test_detections_are_joined_by_the_number_of_the_image_and_clipped(release: Any, document: Write) -> None:
    dets = document("dets.json", {"2": [], "1": [[10.0, 20.0, 100.0, 80.0, 0.93], [1, 2, 3, 4]]})
    source = release(detections=dets).open()
    assert source[0]["detections"] == [{"bbox": [10.0, 20.0, 54.0, 28.0]}, {"bbox": [1.0, 2.0, 3.0, 4.0]}]
    assert source[1]["detections"] == []
    before = source.fingerprint()
    document("dets.json", {"1": []})
    with pytest.raises(DataError, match=r"entry 2: .*dets\.json has no image 2"):
        release(detections=dets).open()[1]
    assert release(detections=dets).open().fingerprint() != before


def test_detections_may_be_in_the_entries(document: Write) -> None:
    entry = {"image": "1.jpg", "text": "dog", "bbox": [1, 2, 3, 4], "dets": [[5, 6, 7, 8]]}
    config = ReferringExpressions(files=(document("a.json", [entry]),), detections_key="dets")
    assert config.open()[0]["detections"] == [{"bbox": [5.0, 6.0, 7.0, 8.0]}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"a": []}, r"dets\.json entry 1: image id: expected a whole number, found 'a'"),
        ([[]], r"dets\.json entry 1: not JSON"),
    ],
)
def test_a_file_of_other_detections_is_named(
    release: Any, document: Write, content: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        release(detections=document("dets.json", content)).open()


def test_every_expression_may_be_a_record(release: Any) -> None:
    source = release(one_record="entry").open()
    boxes = [[region["bbox"] for region in source[place]["regions"]] for place in range(len(source))]
    assert boxes == [[[1.0, 2.0, 10.0, 20.0]], [[0.0, 0.0, 30.0, 30.0]], [[30.0, 2.0, 10.0, 10.5]]]


def test_a_split_of_the_references_is_selected(release: Any) -> None:
    assert [len(release(refs_split=split).open()) for split in ("testA", "testB")] == [1, 1]
    assert list(release(refs_split="testB").open().texts()) == ["man"]
    with pytest.raises(DataError, match="no reference is in the split 'val'; the splits are testA, testB"):
        release(refs_split="val").open()


def test_a_split_of_an_evaluation_may_be_one_of_the_references(release: Any) -> None:
    by_name = release(refs_split="{split}")
    assert [list(by_name.for_split(split).open().texts()) for split in ("testA", "testB")] == [
        ["dog on the left", "right cat"],
        ["man"],
    ]
    fixed = release(refs_split="testB")
    assert fixed.for_split("val") == fixed  # for records of a task of their own


def test_a_large_pickle_is_read_once(tmp_path: Path, release: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("X2KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index_cache, "CACHED_FROM", 0)
    monkeypatch.setattr(index_cache, "RACY_SECONDS", 0)
    config = release(refs_split="testA")
    first = config.open()[0]
    monkeypatch.setattr(referring_records, "read_plain_pickle", None)
    assert config.open()[0] == first


def test_changed_references_select_other_entries_of_an_unchanged_file(
    tmp_path: Path, release: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X2KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index_cache, "CACHED_FROM", 0)
    monkeypatch.setattr(index_cache, "RACY_SECONDS", 0)
    config = release(refs_split="testA")
    assert len(config.open()) == 1
    all_in_split = [{**each, "split": "testA"} for each in REFS]
    (tmp_path / "refs(unc).p").write_bytes(pickle.dumps(all_in_split, protocol=0))
    assert len(config.open()) == 2


def test_boxes_are_read_from_entries(document: Write) -> None:
    entries = [
        {"image": "1.jpg", "text": ["dog", "brown dog"], "bbox": [1, 2, 3, 4], "width": 64, "height": 48}
    ]
    source = ReferringExpressions(files=(document("vlue.json", entries),)).open()
    assert source[0]["regions"] == [{"bbox": [1.0, 2.0, 3.0, 4.0], "caption": ["dog", "brown dog"]}]


class Harmful:
    """Unpickled freely, it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


NESTED = b"(l" + b"(l" * 100_000 + b"a" * 100_000 + b"."
"""A list in a list in a list, deeper than Python can write."""
ENDLESS = pickle.dumps([{**REFS[0], "ann_id": 10**5000}])
"""With a number that Python refuses to write."""
GREEDY = b"\x80\x02]r\x00\x00\x00\x20."
"""An empty list, to be noted at place 2 ** 29: to do so the unpickler written in C takes 8 GiB."""
READ_IN_LITTLE_MEMORY = """
import resource, sys
from x2kit.data.sources.referring import read_plain_pickle
resource.setrlimit(resource.RLIMIT_AS, (2**32, 2**32))
print(read_plain_pickle(sys.argv[1]))
"""


def test_a_pickle_needs_no_more_memory_than_its_values(tmp_path: Path) -> None:
    (tmp_path / "refs.p").write_bytes(GREEDY)
    command = [sys.executable, "-c", READ_IN_LITTLE_MEMORY, str(tmp_path / "refs.p")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path, release: Any, protocol: int) -> None:
    refs = pickle.dumps([*REFS, Harmful(tmp_path / "harm")], protocol=protocol)
    with pytest.raises(
        DataError, match=r"not a pickle of plain values: object .* is not allowed; only plain values are read"
    ):
        release(refs).open()
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"refs": pickle.dumps(REFS)[:-20]}, "not a pickle of plain values"),
        ({"refs": b""}, "not a pickle of plain values"),
        ({"refs": {"a": 1}}, "expected a list of references"),
        ({"refs": [{"ref_id": 1, "ann_id": 1}]}, "reference 1: no field 'split'"),
        ({"refs": NESTED}, r"expected a list of references, found \[\[\[\["),
        ({"refs": [{**REFS[0], "ref_id": (1,)}]}, "operation .* is not allowed; only plain values are read"),
        ({"refs": [{**REFS[0], "split": ["testA"]}]}, "reference 1: split: expected a text or a number"),
        ({"refs": ENDLESS}, "reference 1: ann_id: expected a whole number"),
        ({"instances": []}, "expected an object with the lists images, annotations"),
    ],
)
def test_a_release_of_another_layout_is_refused(release: Any, change: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        release(**change).open()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"entries": [{"image": "1.jpg", "text": "a", "ref_id": 99}]}, "ref_id: .* has no reference 99"),
        ({"entries": [{"image": "1.jpg", "text": "a"}]}, "no field 'ref_id'"),
        ({"entries": [{"image": "1.jpg", "text": " ", "ref_id": 17}]}, "text: the text is empty"),
        ({"instances": {**INSTANCES, "annotations": []}}, ".*no annotation has the id 1"),
        ({"instances": {**INSTANCES, "images": []}}, ".*no image has the id 1"),
    ],
)
def test_an_entry_without_its_box_is_named(release: Any, change: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"refcoco\+_test.json entry 1: {message}"):
        release(**change).open()[0]


def test_an_incomplete_release_is_refused(document: Write, release: Any) -> None:
    file = document("a.json", ENTRIES)
    with pytest.raises(ValidationError, match="set both or none"):
        ReferringExpressions(files=(file,), refs="refs.p")
    with pytest.raises(ValidationError, match=r"refs_split: splits are defined in refs"):
        ReferringExpressions(files=(file,), refs_split="testA")
    with pytest.raises(SettingError, match=r"instances: no file at .*none.json"):
        release().model_copy(update={"instances": "none.json"}).check()
