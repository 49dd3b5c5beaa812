"""Shards give back what was written, and nothing of a file that is damaged or of another layout."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

from x2kit.data.features import shards
from x2kit.data.features.shards import (
    NO_FILE,
    FeatureFolder,
    FeatureReader,
    Stamp,
    is_unchanged,
    stack_features,
    stamp_of,
    to_numbers,
)
from x2kit.data.transforms.view import View
from x2kit.errors import StorageError

SIZE = (40, 30)
VIEWS = [View(SIZE), View(SIZE, (1, 2, 33, 30)), View(SIZE, (0, 0, 4, 5), True), None]


@pytest.fixture
def folder(tmp_path: Path) -> FeatureFolder:
    """Ten records of two images in two views, as summaries of half and patches of single precision."""
    return FeatureFolder(tmp_path, 10, 2, 2, (2, 3), 4, torch.bfloat16, torch.float32)


@pytest.fixture(autouse=True)
def four_records_a_shard(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_RECORDS", 4)


def fill(folder: FeatureFolder, shard: int) -> dict[str, Tensor]:
    tensors = folder.empty(shard)
    generator = torch.Generator().manual_seed(shard)
    for name in ("summary", "patches"):
        tensors[name].copy_(torch.rand(tensors[name].shape, generator=generator))
    for row in range(folder.rows_of(shard)):
        tensors["views"][row] = to_numbers(VIEWS[row % 4], Stamp(row, -row, 2**40 + row))
    folder.write(shard, tensors)
    return tensors


def test_each_view_of_each_image_has_its_row(folder: FeatureFolder) -> None:
    written = [fill(folder, shard) for shard in range(folder.shards)]
    assert (folder.shards, [len(each["summary"]) for each in written]) == (3, [16, 16, 8])
    reader = FeatureReader(folder)
    found = [
        reader.image(record, number, view) for record in range(10) for number in (0, 1) for view in (0, 1)
    ]
    for name in ("summary", "patches"):
        expected = torch.cat([each[name] for each in written])
        assert torch.equal(torch.stack([getattr(each.features, name) for each in found]), expected)
    assert [each.view for each in found] == VIEWS * 10
    assert found[18].stamp == Stamp(2, -2, 2**40 + 2)
    assert found[19].stamp == NO_FILE


def test_stacked_features_are_those_of_an_encoder(folder: FeatureFolder) -> None:
    fill(folder, 0)
    reader = FeatureReader(folder)
    found = stack_features([reader.image(number, 0, 0).features for number in (2, 0)], folder.grid)
    assert (found.summary.shape, found.summary.dtype) == ((2, 4), torch.bfloat16)
    assert (found.patches.shape, found.patches.dtype, found.grid) == ((2, 6, 4), torch.float32, (2, 3))
    assert torch.equal(found.patches[1], reader.image(0, 0, 0).features.patches)


def test_tensors_are_mapped_and_not_copied(folder: FeatureFolder) -> None:
    fill(folder, 0)
    one, other = folder.read(0), folder.read(0)
    assert one is not None
    assert other is not None
    lines = Path("/proc/self/maps").read_text().splitlines()
    assert any(line.endswith(folder.file(0).name) for line in lines)


@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "header", "a folder"])
def test_a_damaged_shard_is_not_used(folder: FeatureFolder, damage: str) -> None:
    fill(folder, 0)
    file = folder.file(0)
    content = file.read_bytes()
    file.unlink()
    if damage == "a folder":
        file.mkdir()
    elif damage != "missing":
        kept = {"cut": content[:-1], "empty": b"", "header": b"\xff" * 8 + content[8:]}[damage]
        file.write_bytes(kept)
    assert folder.read(0) is None
    with pytest.raises(StorageError, match=r"00000\.safetensors: missing or damaged"):
        FeatureReader(folder).image(0, 0, 0)


@pytest.mark.parametrize(
    "other",
    [{"records": 3}, {"views": 1}, {"width": 5}, {"grid": (3, 3)}, {"summary": torch.float16}],
    ids=lambda other: next(iter(other)),
)
def test_a_shard_of_another_layout_is_not_used(folder: FeatureFolder, other: dict[str, object]) -> None:
    fill(folder, 0)
    facts = {name: getattr(folder, name) for name in folder.__dataclass_fields__}
    assert FeatureFolder(**{**facts, **other}).read(0) is None  # type: ignore[arg-type]


def test_a_write_that_fails_leaves_no_shard(folder: FeatureFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(tensors: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(shards, "save_file", fail)
    with pytest.raises(KeyboardInterrupt):
        fill(folder, 0)
    assert list(folder.path.iterdir()) == []


def test_shards_are_bounded_in_bytes_and_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_RECORDS", 1024)
    large = FeatureFolder(tmp_path, 10**6, 1, 2, (24, 24), 1024, torch.float32, torch.float32)
    assert large.image_bytes == 577 * 1024 * 4 + 96
    assert large.bytes_of(0) <= shards.SHARD_BYTES < large.bytes_of(0) * 2
    huge = FeatureFolder(tmp_path, 5, 1, 1, (1024, 1024), 1024, torch.float32, torch.float32)
    assert (huge.shards, huge.shard_records) == (5, 1)
    small = FeatureFolder(tmp_path, 5000, 1, 1, (1, 1), 4, torch.float32, torch.float32)
    assert (small.shards, len(small.records_of(4))) == (5, 904)


def test_an_image_file_is_unchanged_until_its_content_changes(tmp_path: Path) -> None:
    """A copy of the data has other times, and is read to compare its content."""
    file = tmp_path / "image.png"
    file.write_bytes(b"pixels")
    stamp = stamp_of(str(file))
    assert is_unchanged(file, stamp)
    os.utime(file, (1, 1))
    assert is_unchanged(file, stamp)
    file.write_bytes(b"PIXELS")
    os.utime(file, (2, 2))
    assert not is_unchanged(file, stamp)
    file.write_bytes(b"more pixels")
    assert not is_unchanged(file, stamp)
    file.unlink()
    with pytest.raises(FileNotFoundError):
        is_unchanged(file, stamp)


def test_images_that_are_no_local_files_have_no_stamp() -> None:
    for image in (b"bytes", torch.zeros(2, 2).numpy(), "https://host/image.png"):
        assert stamp_of(image) == NO_FILE
        assert is_unchanged(image, NO_FILE)
        assert not is_unchanged(image, Stamp(3, 4, 5))
