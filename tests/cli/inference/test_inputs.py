from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from x2kit.cli.inference.inputs import Item, batched, read_images, read_items

Failures = list[tuple[str, str]]


@pytest.fixture
def failures() -> Failures:
    return []


@pytest.fixture
def items(failures: Failures) -> Callable[..., list[Item]]:
    """Read these inputs with the texts "a" and "b"."""
    return lambda *inputs: list(read_items(inputs, ("a", "b"), lambda *failure: failures.append(failure)))


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of empty files, which the working directory holds."""
    monkeypatch.chdir(tmp_path)
    for name in (
        "b.jpg",
        "a.PNG",
        "notes.txt",
        "deep/film.mp4",
        "deep/c.webp",
        ".hidden.jpg",
        ".cache/d.jpg",
    ):
        file = tmp_path / "photos" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    return tmp_path / "photos"


def feed(monkeypatch: pytest.MonkeyPatch, lines: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))


def test_a_folder_is_searched_for_images_and_videos(
    photos: Path, items: Callable[..., list[Item]], failures: Failures
) -> None:
    found = items("photos")
    assert [item.image for item in found] == [
        "photos/a.PNG", "photos/b.jpg", "photos/deep/c.webp", "photos/deep/film.mp4"
    ]  # fmt: skip
    assert found[0].texts == ("a", "b")
    assert failures == []


def test_a_file_is_an_input_whatever_its_suffix(photos: Path, items: Callable[..., list[Item]]) -> None:
    assert items("photos/notes.txt", "https://example.org/a.jpg") == [
        Item("photos/notes.txt", ("a", "b")), Item("https://example.org/a.jpg", ("a", "b"))
    ]  # fmt: skip


def test_a_pattern_is_expanded_unless_a_file_has_this_name(
    photos: Path, items: Callable[..., list[Item]]
) -> None:
    assert [item.image for item in items("photos/**/*.[jw]*")] == ["photos/b.jpg", "photos/deep/c.webp"]
    (photos / "a[1].jpg").touch()
    assert [item.image for item in items("photos/a[1].jpg")] == ["photos/a[1].jpg"]


def test_an_input_without_images_fails_and_the_others_are_read(
    photos: Path, items: Callable[..., list[Item]], failures: Failures
) -> None:
    (photos / "empty").mkdir()
    assert [item.image for item in items("none.jpg", "photos/empty", "*.tif", "photos/b.jpg")] == [
        "photos/b.jpg"
    ]
    assert failures == [
        ("none.jpg", "no such file or folder"),
        ("photos/empty", "no image and no video in this folder"),
        ("*.tif", "no file matches this pattern"),
    ]


def test_a_folder_that_cannot_be_read_fails(
    photos: Path, items: Callable[..., list[Item]], failures: Failures, monkeypatch: pytest.MonkeyPatch
) -> None:
    scan = os.scandir

    def refuse(folder: str) -> Any:  # root reads a folder whatever its mode
        if Path(folder).name == "deep":
            raise PermissionError(errno.EACCES, "Permission denied", folder)
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    assert [item.image for item in items("photos")] == ["photos/a.PNG", "photos/b.jpg"]
    assert failures == [("photos/deep", "Permission denied")]


def test_a_pipe_is_not_waited_for(photos: Path, items: Callable[..., list[Item]], failures: Failures) -> None:
    os.mkfifo(photos / "deep" / "b.mp4")
    (photos / "deep" / "gone.jpg").symlink_to("nowhere")
    found = [item.image for item in items("photos/deep", "photos/deep/b.mp4")]
    assert found == ["photos/deep/c.webp", "photos/deep/film.mp4", "photos/deep/gone.jpg"]
    assert failures == [("photos/deep/b.mp4", "a pipe or device, not a file")] * 2


def test_standard_input_has_paths_and_json_objects(
    items: Callable[..., list[Item]], monkeypatch: pytest.MonkeyPatch, failures: Failures
) -> None:
    feed(
        monkeypatch,
        b'one.jpg\r\n\n{"image": "two.jpg", "text": "c", "id": 7}\n{"image": "three.jpg"}\n{"text": "c"}',
    )
    assert items("-") == [
        Item("one.jpg", ("a", "b")), Item("two.jpg", ("c",)), Item("three.jpg", ("a", "b")), Item(None, ("c",))
    ]  # fmt: skip
    assert failures == []


def test_a_line_is_read_when_the_program_before_has_written_it(monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as stream, os.fdopen(writing, "w") as writer:
        monkeypatch.setattr(sys, "stdin", stream)
        found = read_items(["-"], (), lambda *failure: None)
        writer.write("one.jpg\n")
        writer.flush()
        assert next(found) == Item("one.jpg")


def test_a_path_that_is_not_utf8_is_kept(
    items: Callable[..., list[Item]], monkeypatch: pytest.MonkeyPatch
) -> None:
    feed(monkeypatch, b"caf\xe9.jpg\n")
    assert [os.fsencode(str(item.image)) for item in items("-")] == [b"caf\xe9.jpg"]


@pytest.mark.parametrize(
    "line",
    [b'{"image": "a.jpg"', b'{"image": 3}', b'{"caption": "c"}', b'{"text": ["c"]}', b'{"image": "\xff"}'],
)
def test_a_wrong_line_fails_with_its_number(
    line: bytes, items: Callable[..., list[Item]], monkeypatch: pytest.MonkeyPatch, failures: Failures
) -> None:
    feed(monkeypatch, b"one.jpg\n" + line + b"\ntwo.jpg\n")
    assert [item.image for item in items("-")] == ["one.jpg", "two.jpg"]
    assert [name for name, _ in failures] == ["standard input, line 2"]


def test_a_text_alone_is_no_image(monkeypatch: pytest.MonkeyPatch, failures: Failures) -> None:
    feed(monkeypatch, b'{"text": "c"}\none.jpg\n')
    found = list(read_images(["-"], ("a",), lambda *failure: failures.append(failure)))
    assert found == [Item("one.jpg", ("a",))]
    assert failures == [("standard input", 'a line has a "text" and no "image": c')]


def test_batches_are_made_as_items_come() -> None:
    def endless() -> object:
        yield from (1, 2, 3)
        raise AssertionError("read too far")

    assert next(batched(endless(), 3)) == [1, 2, 3]  # type: ignore[arg-type]
    assert list(batched([1, 2, 3], 2)) == [[1, 2], [3]]
