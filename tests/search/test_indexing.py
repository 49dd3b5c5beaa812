"""Indexing encodes what is new, copies what is known, and marks what is gone."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from tests.search.conftest import OPTIONS, Index, write_image
from x2kit.errors import DataError
from x2kit.inference import Model
from x2kit.search import index_folders, indexing, open_index
from x2kit.search.binding import BoundModel
from x2kit.search.changes import Part
from x2kit.search.lists import ListOptions
from x2kit.search.manifest import MANIFEST


def table(place: Path, where: str = "") -> dict[str, tuple[np.ndarray, dict[str, Any]]]:
    """Vector and columns of each row."""
    found = {}
    with open_index(place) as opened:
        for rows in opened.rows(where):
            assert rows.vectors is not None
            for number, name in enumerate(rows.ids):
                columns = {key: values[number] for key, values in rows.columns.items()}
                found[name] = rows.vectors[number], columns
    return found


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Paths of the files that reach the model."""
    seen: list[str] = []
    inputs = indexing.encode_files

    def encode(model: Any, hashed: Any, options: Any) -> Iterator[Any]:
        for each in inputs(model, hashed, options):
            seen.append(each.entry.path)
            yield each

    monkeypatch.setattr(indexing, "encode_files", encode)
    return seen


def test_every_image_is_a_row_with_its_vector_and_facts(
    index: Index, photos: Path, place: Path, model: Model
) -> None:
    report = index()
    assert (report.added, report.broken) == (8, [])
    rows = table(place)
    files = sorted(photos.rglob("*.png"))
    assert sorted(rows) == [str(file) for file in files]
    vectors = model.embed_images(files).vectors
    np.testing.assert_allclose(np.stack([rows[str(file)][0] for file in files]), vectors, atol=1e-5)
    columns = rows[str(files[0])][1]
    assert columns["size"] == files[0].stat().st_size
    assert columns["mtime"] == files[0].stat().st_mtime
    assert len(columns["hash"]) == 64
    assert columns["gone"] is None


def test_an_unchanged_folder_is_not_read_again(
    index: Index, photos: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index()

    def refuse(*_: object) -> None:
        raise AssertionError("read again")

    monkeypatch.setattr(BoundModel, "_load", refuse)
    monkeypatch.setattr("x2kit.search.entries.Entry.digest", refuse)
    report = index_folders([photos], place, None, OPTIONS)
    assert (report.added, report.updated, report.unchanged) == (0, 0, 8)


def test_new_and_changed_files_alone_are_encoded(
    index: Index, photos: Path, place: Path, encoded: list[str]
) -> None:
    index()
    before = table(place)
    encoded.clear()
    new = write_image(photos / "new.png", 100)
    changed = write_image(photos / "0.png", 101)
    report = index()
    assert (report.added, report.updated, report.unchanged) == (1, 1, 7)
    assert sorted(encoded) == sorted([str(new), str(changed)])
    assert not np.allclose(table(place)[str(changed)][0], before[str(changed)][0])


def test_a_touched_file_is_not_encoded(index: Index, photos: Path, place: Path, encoded: list[str]) -> None:
    index()
    encoded.clear()
    os.utime(photos / "0.png", (1, 1))
    assert index().unchanged == 8
    assert encoded == []
    assert table(place)[str(photos / "0.png")][1]["mtime"] == 1


def test_a_renamed_file_keeps_its_vector(index: Index, photos: Path, place: Path, encoded: list[str]) -> None:
    index()
    before = table(place)
    encoded.clear()
    (photos / "0.png").rename(photos / "it's.png")
    report = index()
    assert (report.renamed, report.added, report.gone, encoded) == (1, 0, 0, [])
    after = table(place)
    assert str(photos / "0.png") not in after
    np.testing.assert_array_equal(after[str(photos / "it's.png")][0], before[str(photos / "0.png")][0])


def test_a_copy_is_a_row_of_its_own_but_not_encoded(index: Index, photos: Path, encoded: list[str]) -> None:
    index()
    encoded.clear()
    shutil.copy(photos / "0.png", photos / "copy.png")
    report = index()
    assert (report.added, report.copied, report.renamed, encoded) == (1, 1, 0, [])


def test_a_missing_file_is_marked_and_comes_back_without_encoding(
    index: Index, photos: Path, place: Path, encoded: list[str]
) -> None:
    index()
    encoded.clear()
    (photos / "0.png").rename(photos.parent / "kept.png")
    assert index().gone == 1
    assert index().gone == 0
    with open_index(place) as opened:
        assert len(opened) == 7
    (photos.parent / "kept.png").rename(photos / "0.png")
    assert index().unchanged == 8
    assert encoded == []
    with open_index(place) as opened:
        assert len(opened) == 8


def test_files_of_other_folders_are_not_gone(index: Index, photos: Path, tmp_path: Path) -> None:
    index()
    write_image(tmp_path / "more" / "a.png", 50)
    assert index(tmp_path / "more").gone == 0


def test_files_of_a_folder_that_cannot_be_read_are_not_gone(
    index: Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index()
    scan = os.scandir

    def refuse(folder: str) -> Any:
        if str(folder).endswith("trip"):
            raise PermissionError(13, "Permission denied")
        return scan(folder)

    monkeypatch.setattr(os, "scandir", refuse)
    report = index()
    assert report.gone == 0
    assert [(error.name, error.message) for error in report.broken] == [
        (str(photos / "trip"), "the folder cannot be read: Permission denied")
    ]


def test_another_model_is_refused_with_both_names(
    index: Index, photos: Path, place: Path, weights: Path, other_weights: Path
) -> None:
    index()
    with pytest.raises(DataError, match="another folder") as error:
        index_folders([photos], place, other_weights, OPTIONS)
    assert str(weights) in str(error.value)
    assert str(other_weights) in str(error.value)
    with pytest.raises(DataError, match="was encoded by"):
        open_index(place, other_weights)


def test_parts_divide_the_files(index: Index, place: Path) -> None:
    reports = [index(part=Part(number, 3)) for number in range(3)]
    assert sum(report.added for report in reports) == 8
    assert all(report.added < 8 for report in reports)
    assert index().unchanged == 8


def test_broken_files_are_tried_again_only_if_changed(index: Index, photos: Path, encoded: list[str]) -> None:
    broken = photos / "broken.jpg"
    broken.write_bytes(b"no image")
    assert [error.name for error in index().broken] == [str(broken)]
    encoded.clear()
    assert [error.name for error in index().broken] == [str(broken)]
    assert encoded == []
    assert len(index(retry_broken=True).broken) == 1
    assert encoded == [str(broken)]
    write_image(broken, 9)
    report = index()
    assert (report.added, report.broken) == (1, [])


def test_a_file_that_became_damaged_is_found_no_more(index: Index, photos: Path, place: Path) -> None:
    index()
    (photos / "0.png").write_bytes(b"damaged")
    report = index()
    assert (len(report.broken), report.gone) == (1, 1)
    assert table(place, "gone IS NOT NULL").keys() == {str(photos / "0.png")}


def test_a_list_brings_columns(index: Index, photos: Path, place: Path, encoded: list[str]) -> None:
    rows = [
        {"image": "0.png", "Tag": "red", "size": 3, "year": 2024, "notes": {"a": [1]}},
        {"image": "trip/1.png", "Tag": None, "year": 1.5},
        {"image": "missing.png"},
        {"image": "../outside.png"},
        {"image": "https://example.org/a.png"},
        {"caption": "no image"},
        {"image": "0.png", "Tag": "again"},
    ]
    names = photos / "list.jsonl"
    names.write_text("".join(json.dumps(row) + "\n" for row in rows) + "not json\n")
    report = index(names)
    assert report.added == 2
    assert [error.name for error in report.broken] == [f"{names}:{line}" for line in range(3, 9)]
    rows_of = {path: columns for path, (_, columns) in table(place).items()}
    first, second = rows_of[str(photos / "0.png")], rows_of[str(photos / "trip" / "1.png")]
    assert (first["tag"], first["meta_size"], first["year"], first["notes"]) == (
        "red",
        3,
        2024.0,
        '{"a": [1]}',
    )
    assert (second["tag"], second["year"]) == (None, 1.5)
    encoded.clear()
    names.write_text(json.dumps({"image": "0.png", "tag": "blue", "new": 1}) + "\n")
    report = index(names)
    assert (report.unchanged, report.gone, report.skipped_columns, encoded) == (1, 1, ["new"], [])
    assert table(place)[str(photos / "0.png")][1]["tag"] == "blue"


def test_metadata_that_does_not_fit_is_named_and_the_file_indexed(
    index: Index, photos: Path, place: Path
) -> None:
    names = photos / "list.jsonl"
    rows = [{"image": "0.png", "year": 2**80, "tag": "a\ud800b\0c"}, {"image": "trip/1.png", "year": "old"}]
    names.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for _ in range(2):
        report = index(names, columns={"year": "integer", "tag": "text"})
        assert [(error.name, error.message[:25]) for error in report.broken] == [
            (str(photos / "0.png"), "metadata: column 'year' i"),
            (str(photos / "trip" / "1.png"), "metadata: column 'year' i"),
        ]
    columns = table(place)[str(photos / "0.png")][1]
    assert (columns["year"], columns["tag"]) == (None, "a\\ud800b\\x00c")


def test_a_table_without_description_is_adopted(index: Index, place: Path) -> None:
    index()
    (place / MANIFEST).unlink()
    assert index().unchanged == 8


def test_added_files_are_found_unchanged_by_indexing(
    index: Index, photos: Path, place: Path, model: Model, encoded: list[str]
) -> None:
    index(photos / "trip", columns={"tag": "text"})
    broken = photos / "broken.png"
    broken.write_bytes(b"broken")
    files = [photos / f"{number}.png" for number in range(0, 8, 2)]
    with open_index(place, model) as opened:
        errors = opened.add([*files, broken], {"tag": ["a", "b", "c", "d", "e"]})
        assert len(opened) == 8
    assert [error.name for error in errors] == [str(broken)]
    encoded.clear()
    report = index()
    assert (report.unchanged, report.added, encoded) == (8, 0, [str(broken)])
    assert table(place)[str(files[2])][1]["tag"] == "c"


def test_a_parquet_list_and_an_image_root(index: Index, photos: Path, tmp_path: Path, place: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    parquet.write_table(pyarrow.table({"path": ["0.png"], "year": [7]}), tmp_path / "list.parquet")
    assert index(tmp_path / "list.parquet", lists=ListOptions(str(photos))).added == 1
    assert table(place)[str(photos / "0.png")][1]["year"] == 7


def shard(file: Path, members: dict[str, bytes]) -> Path:
    import io

    with tarfile.open(file, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file


def test_members_of_a_shard_are_rows_with_their_metadata(
    index: Index, photos: Path, tmp_path: Path, place: Path, encoded: list[str]
) -> None:
    image = (photos / "0.png").read_bytes()
    file = shard(tmp_path / "a.tar", {"x/1.png": image, "x/1.json": b'{"tag": "t"}', "x/2.png": b"bad"})
    report = index(file, columns={"tag": "text"})
    assert (report.added, [error.name for error in report.broken]) == (1, [f"{file}#x/2.png"])
    assert table(place)[f"{file}#x/1.png"][1]["tag"] == "t"
    encoded.clear()
    os.utime(file, (5, 5))
    assert index(file).unchanged == 1
    assert encoded == [f"{file}#x/2.png"]  # a new version of the shard is a new chance
    with open_index(place) as opened:
        (hit,) = opened.query("a red dog", k=1).hits
        assert opened.open(hit).size == (32, 32)


def test_a_remote_folder_is_indexed_by_version(
    index: Index, photos: Path, place: Path, encoded: list[str]
) -> None:
    store = fsspec.filesystem("memory")
    for number in range(3):
        store.pipe_file(f"/bucket/a/{number}.png", (photos / ("0.png" if number else "2.png")).read_bytes())
    report = index("memory://bucket")
    assert (report.added, len(encoded)) == (3, 3)
    assert index("memory://bucket").unchanged == 3
    assert len(encoded) == 3
    store.rm("/bucket", recursive=True)


def test_regions_of_lists_are_rows(index: Index, photos: Path, place: Path, model: Model) -> None:
    box = [4, 8, 16, 12]
    names = photos / "list.jsonl"
    names.write_text(json.dumps({"image": "0.png", "regions": [{"bbox": box}]}) + "\n")
    assert index(names, regions=True).added == 1
    rows = table(place)
    assert rows.keys() == {str(photos / "0.png"), f"{photos / '0.png'}#box=0"}
    vector = model.embed_regions(photos / "0.png", [(4, 8, 16, 12)]).vectors[0]
    np.testing.assert_allclose(rows[f"{photos / '0.png'}#box=0"][0], vector, atol=1e-5)
    with open_index(place, model) as opened:
        hits = opened.search(vector[None], 5)[0]
    assert [hit.path for hit in hits] == [str(photos / "0.png")]  # one hit a file
    assert hits[0].box is not None
    assert hits[0].box.pixels == (4, 8, 16, 12)


def test_an_interrupted_run_keeps_what_it_encoded(
    photos: Path, place: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Model.stream_images

    def interrupted(self: Model, *args: Any, **settings: Any) -> Iterator[Any]:
        batches = stream(self, *args, **{**settings, "batch_size": 2})
        yield next(batches)
        raise KeyboardInterrupt

    monkeypatch.setattr(Model, "stream_images", interrupted)
    with pytest.raises(KeyboardInterrupt, match="2 of 8 files; run again to continue"):
        index_folders([photos], place, model, OPTIONS)
    assert len(table(place)) == 2


def test_a_missing_source_names_the_nearest(index: Index, photos: Path) -> None:
    with pytest.raises(DataError, match=f"no such file or folder; nearest: {photos}"):
        index(photos.parent / "photo")


def hostile(folder: Path, count: int) -> Callable[[], set[str]]:
    """Write damaged and hostile files; return the names that a report should have."""
    import struct
    import zlib

    from PIL import Image

    folder.mkdir()
    image = write_image(folder.parent / "whole.png", 3).read_bytes()
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    kinds: list[tuple[str, bytes]] = [
        ("empty.png", b""),
        ("truncated.png", image[: len(image) // 2]),
        ("text.jpg", b"this is text"),
        ("bomb.png", b"\x89PNG\r\n\x1a\n" + chunk),
        ("svg.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("eps.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n"),
        ("new\nline.jpg", b"x"),
        ("\x1b[31mred.jpg", b"x"),
        ("quote'.png", b"GIF89a"),
        ("zeros.bmp", bytes(100)),
    ]
    for number in range(count - 5):
        name, content = kinds[number % len(kinds)]
        (folder / f"{number}-{name}").write_bytes(content)
    os.mkfifo(folder / "pipe.png")
    (folder / "out.png").symlink_to(folder.parent / "whole.png")
    (folder / "dangling.png").symlink_to(folder / "nothing.png")
    (folder / "up").symlink_to(folder.parent)
    shutil.copy(folder.parent / "whole.png", os.fsencode(folder) + b"/\xff.png")  # type: ignore[arg-type]
    Image.new("RGB", (20, 20), "red").save(folder / "good.jpg")
    names = {str(path) for path in folder.iterdir() if path.name != "good.jpg"}
    return lambda: {os.fsencode(name).decode("utf-8", "backslashreplace") for name in names}


def test_a_thousand_hostile_files_are_named_and_none_is_fatal(index: Index, tmp_path: Path) -> None:
    expected = hostile(tmp_path / "hostile", 1000)()
    report = index(tmp_path / "hostile")
    assert report.added == 1
    assert {error.name for error in report.broken} == expected
    assert len(report.broken) == 1000
    assert all(error.message for error in report.broken)
