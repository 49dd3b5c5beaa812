"""Tar shards are read in the layout of webdataset; a truncated shard keeps its complete records."""

from __future__ import annotations

import io
import json
import pickle
import tarfile
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from x2kit.data.index import tar_members as member_index
from x2kit.data.index.tar_members import key_and_ending
from x2kit.data.sources.config import TarShards
from x2kit.data.sources.tar_shards import TarShardsSource
from x2kit.data.storage import index_cache
from x2kit.errors import DataError, Reason, SettingError
from x2kit.plugin.sources import Place
from x2kit.testing import check_source

IMAGE = b"\x89PNG of an image" * 60


def shard(path: Path, *members: tuple[str, bytes], kind: int = tarfile.USTAR_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=kind) as archive:
        for name, content in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return path


def pairs(count: int, first: int = 0) -> list[tuple[str, bytes]]:
    """Files of records with an image and a text."""
    return [
        (f"{n:04}.{ending}", content)
        for n in range(first, first + count)
        for ending, content in (("jpg", IMAGE + bytes([n])), ("txt", f"image {n}".encode()))
    ]


def read(folder: Path, *members: tuple[str, bytes], **fields: Any) -> Any:
    return TarShards(files=(shard(folder / "a.tar", *members),), **fields).open()[0]


def whole(source: TarShardsSource) -> list[Any]:
    """The records that are not broken."""
    found = []
    for index in range(len(source)):
        try:
            found.append(source[index])
        except DataError as error:
            if error.reason is not Reason.SHARD_TRUNCATED:
                raise
    return found


def test_files_of_one_key_form_a_record(tmp_path: Path) -> None:
    source = TarShards(files=(shard(tmp_path / "a.tar", *pairs(3)),)).open()
    assert len(source) == 3
    assert source[2] == {"id": "a.tar/0002", "image": IMAGE + b"\x02", "caption": "image 2"}
    assert source.place(0) == Place(str(tmp_path / "a.tar"), offset=512)
    with pytest.raises(IndexError, match="record 3 of 3"):
        source[3]


@pytest.mark.parametrize("kind", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_tar_format_is_read_with_long_names_of_any_letters(tmp_path: Path, kind: int) -> None:
    folder = "ordner/" * 12 if kind == tarfile.USTAR_FORMAT else "übung/" * 60
    name = f"{folder}0001"
    source = TarShards(
        files=(shard(tmp_path / "a.tar", (f"{name}.png", b"x"), (f"{name}.txt", b"y"), kind=kind),)
    )
    assert source.open()[0] == {"id": f"a.tar/{name}", "image": b"x", "caption": "y"}


def test_many_shards_are_one_source_and_a_split_is_other_shards(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("test", 50)):
        for number in range(2):
            shard(tmp_path / split / f"{number}.tar", *pairs(2, first + 2 * number))
    config = TarShards(files=(tmp_path / "{split}" / "*.tar",))
    assert [record["id"] for record in whole(config.open())] == [
        "0.tar/0000", "0.tar/0001", "1.tar/0002", "1.tar/0003",
    ]  # fmt: skip
    assert [record["caption"] for record in whole(config.for_split("test").open())] == [
        f"image {number}" for number in range(50, 54)
    ]
    with pytest.raises(SettingError, match=r"split: no file for split 'val': put \{split\} in the path"):
        TarShards(files=(tmp_path / "train",)).for_split("val")
    with pytest.raises(SettingError, match=r"files: no file at .*none\.tar"):
        TarShards(files=(tmp_path / "none.tar",)).check()


def test_fields_beside_the_text_are_read_as_json_lines_reads_them(tmp_path: Path) -> None:
    fields = {"caption": None, "regions": [{"bbox": [0, 1, 2, 3], "caption": "dog"}]}
    record = read(
        tmp_path, ("7.webp", b"x"), ("7.json", json.dumps(fields).encode()), ("7.txt", b" a dog \n")
    )
    assert record["caption"] == "a dog"
    assert record["regions"] == [{"bbox": [0.0, 1.0, 2.0, 3.0], "caption": "dog"}]
    assert read(tmp_path, ("7.json", b'{"text": "from json"}'))["caption"] == "from json"
    title = ("7.json", b'{"title": "the title"}')
    assert read(tmp_path, title, ("7.txt", b"not this"), caption_key="title", language="en")["caption"] == {
        "en": "the title"
    }


def test_the_name_of_a_class_is_the_caption(tmp_path: Path) -> None:
    members = (("7.jpg", b"x"), ("7.cls", b"1\n"))
    assert read(tmp_path, *members, class_names=("cat", "dog"))["caption"] == "dog"
    assert "caption" not in read(tmp_path, *members)
    with pytest.raises(DataError, match=r"a\.tar: 7\.jpg: cls: expected a number below 1, found b'1'"):
        read(tmp_path, *members, class_names=("cat",))


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("7.jpg", ("7", "jpg")),
        ("a.b/7.seg.PNG", ("a.b/7", "seg.png")),
        ("../../etc/passwd.txt", ("../../etc/passwd", "txt")),
        ("README", None),
        ("a/._7.jpg", None),
        ("a/7.", None),
    ],
)
def test_the_key_ends_at_the_first_dot(name: str, found: tuple[str, str] | None) -> None:
    assert key_and_ending(name) == found


@pytest.mark.parametrize(
    ("members", "reason", "message"),
    [
        ([("7.jpg", b"x"), ("7.txt", b"\xff")], Reason.NOT_UTF8, "txt: not UTF-8 at byte 0"),
        ([("7.json", b"[1]")], Reason.NOT_JSON, "json: expected a JSON object, found list"),
        ([("7.json", b"{")], Reason.NOT_JSON, "json: not JSON"),
        (
            [("7.bin", b"x"), ("7.dat", b"y")],
            Reason.FIELD_MISSING,
            "no image and no text; its files are bin, dat",
        ),
    ],
)
def test_a_broken_record_is_named_with_shard_and_key(
    tmp_path: Path, members: list[tuple[str, bytes]], reason: Reason, message: str
) -> None:
    with pytest.raises(DataError, match=r"a\.tar: 7\.") as caught:
        read(tmp_path, *members)
    assert message in str(caught.value)
    assert (caught.value.reason, caught.value.record) == (reason, "a.tar/7")


def test_a_truncated_shard_keeps_its_complete_records_and_names_the_byte(tmp_path: Path) -> None:
    file = shard(tmp_path / "a.tar", *pairs(4))
    content = file.read_bytes()
    start = content.index(IMAGE + b"\x02")
    file.write_bytes(content[: start + 700])
    source = TarShards(files=(file,)).open()
    assert [record["caption"] for record in whole(source)] == ["image 0", "image 1"]
    assert len(source) == 3
    with pytest.raises(
        DataError, match=rf"a\.tar: the shard ends in 0002\.jpg, which begins at byte {start};"
    ) as caught:
        source[2]
    assert (caught.value.reason, caught.value.record) == (Reason.SHARD_TRUNCATED, "a.tar/0002")
    assert list(source.texts()) == ["image 0", "image 1"]


def test_any_truncation_keeps_complete_records_and_adds_one_error(tmp_path: Path) -> None:
    file = shard(tmp_path / "a.tar", *pairs(3))
    content = file.read_bytes()
    ends = [content.index(f"image {n}".encode()) + len(f"image {n}") for n in range(3)]
    for length in range(0, ends[-1] + 512, 128):
        file.write_bytes(content[:length])
        source = TarShards(files=(file,)).open()
        found = [record["caption"] for record in whole(source)]
        assert len(found) == len(source) - 1
        # of the first record alone nobody can say whether a file is missing
        sure = sum(end <= length // 512 * 512 for end in ends)
        assert found == [f"image {n}" for n in range(len(found))]
        assert sure - 1 <= len(found) <= sum(end <= length for end in ends)


def test_a_damaged_header_truncates_the_shard(tmp_path: Path) -> None:
    file = shard(tmp_path / "a.tar", *pairs(4))
    content = bytearray(file.read_bytes())
    header = content.index(b"0003.jpg")
    content[header + 150] ^= 1  # of the checksum
    file.write_bytes(content)
    source = TarShards(files=(file,)).open()
    assert [record["caption"] for record in whole(source)] == ["image 0", "image 1", "image 2"]
    with pytest.raises(DataError, match=rf"or is damaged, at byte {header};"):
        source[3]


def test_other_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.tar"
    file.write_bytes(b"no tar file " * 100)
    with pytest.raises(DataError, match=r"a\.tar: not a tar file"):
        TarShards(files=(file,)).open()
    with pytest.raises(DataError, match=r"no record in .*a\.tar"):
        TarShards(files=(shard(file, ("README", b"x")),)).open()


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_bytes_give_records_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    file = shard(tmp_path_factory.mktemp("tar") / "a.tar", *pairs(2), kind=tarfile.PAX_FORMAT)
    content = bytearray(file.read_bytes()[: data.draw(st.integers(1, 6000))])
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[place] = data.draw(st.integers(0, 255))
    file.write_bytes(content)
    try:
        source = TarShards(files=(file,)).open()
    except DataError:
        return
    list(source.texts())
    for index in range(len(source)):
        try:
            source[index]
        except DataError:
            continue


def test_the_index_of_a_large_shard_is_cached_and_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("X2KIT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(index_cache, "CACHED_FROM", 0)
    monkeypatch.setattr(index_cache, "RACY_SECONDS", 0)
    config = TarShards(files=(shard(tmp_path / "a.tar", *pairs(3)),))
    first = whole(config.open())
    monkeypatch.setattr(member_index, "_members", None)  # nothing looks for them again
    again = config.open()
    assert whole(again) == first
    assert isinstance(again._shards[0]._starts.base, np.memmap)


def test_it_meets_the_contract_of_sources(tmp_path: Path) -> None:
    config = TarShards(files=(shard(tmp_path / "a.tar", *pairs(3)),))
    check_source(config)
    source = config.open()
    assert whole(pickle.loads(pickle.dumps(source))) == whole(source)


def test_remote_shards_are_read_as_local_ones(tmp_path: Path) -> None:
    local = shard(tmp_path / "a.tar", *pairs(3))
    store = fsspec.filesystem("memory")
    store.pipe("/shards/a.tar", local.read_bytes())
    remote = TarShards(files=("memory://shards/*.tar",)).open()
    here = TarShards(files=(local,)).open()
    assert whole(remote) == whole(here)
    assert remote.fingerprint() != ""
    assert list(remote.texts()) == list(here.texts())


def test_braces_and_the_split_expand_to_shards(tmp_path: Path) -> None:
    for number in range(4):
        shard(tmp_path / f"train-{number:03}.tar", *pairs(2, first=2 * number))
    config = TarShards(files=(str(tmp_path / "{split}-{000..003}.tar"),))
    assert [Path(path).name for path in config.paths()] == [f"train-{number:03}.tar" for number in range(4)]
    check_source(config)
    assert len(config.open()) == 8


def test_a_shard_of_a_range_that_is_missing_is_named(tmp_path: Path) -> None:
    shard(tmp_path / "a-0.tar", *pairs(1))
    with pytest.raises(SettingError, match=r"files: no file at .*a-1\.tar"):
        TarShards(files=(str(tmp_path / "a-{0..1}.tar"),)).check()


def test_a_range_of_too_many_shards_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingError, match=r"files: .* more than 100000 paths"):
        TarShards(files=(str(tmp_path / "a-{0..99999999}.tar"),)).check()
