"""Official files: read without running code, written whole, never over another."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from x2kit.errors import StorageError, WeightsError
from x2kit.interop.checkpoint_files import SUFFIXES, OfficialFile, read_official, write_official

W = torch.tensor([1.0, 2.0])


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_is_read_as_it_was_written(suffix: str, tmp_path: Path) -> None:
    tied = {"b": W, "a": W, "half": W.half()}
    write_official(OfficialFile(tied, {}), tmp_path / f"c{suffix}")
    found = read_official(tmp_path / f"c{suffix}").tensors
    assert set(found) == set(tied)
    assert all(
        found[name].dtype == value.dtype and torch.equal(found[name], value) for name, value in tied.items()
    )
    if suffix != ".safetensors":  # which sorts by size and name, and knows no order
        assert list(found) == list(tied)


@pytest.mark.parametrize("content", [{"w": W, "epoch": 3}, {"model": {"w": W}, "epoch": 3}])
def test_tensors_lie_bare_or_under_model(content: dict[str, object], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "c.th")
    found = read_official(tmp_path / "c.th")
    assert (list(found.tensors), found.values, found.dropped) == (["w"], {"epoch": 3}, ())


def test_plain_values_beside_the_tensors_are_kept_and_the_rest_named(tmp_path: Path) -> None:
    config = {"lr": 1e-4, "sizes": [1, None], "nested": {"on": True}}
    optimizer = {"state": {0: {"exp_avg": W}}}
    torch.save({"model": {"w": W}, "config": config, "optimizer": optimizer, "v": W}, tmp_path / "c.th")
    found = read_official(tmp_path / "c.th")
    assert found.values == {"config": config}
    assert found.dropped == ("optimizer", "v")


@pytest.mark.parametrize("content", [{}, {"model": {}}, {"epoch": 3}])
def test_a_file_without_tensors_is_refused(content: dict[str, object], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "c.th")
    with pytest.raises(WeightsError, match=r"c\.th: contains no tensor"):
        read_official(tmp_path / "c.th")


def test_another_suffix_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"c\.bin: expected a name that ends in \.th"):
        write_official(OfficialFile({"w": W}, {}), tmp_path / "c.bin")


def test_an_existing_file_is_unchanged(tmp_path: Path) -> None:
    (tmp_path / "c.th").write_bytes(b"mine")
    with pytest.raises(WeightsError, match=r"c\.th: exists already"):
        write_official(OfficialFile({"w": W}, {}), tmp_path / "c.th")
    assert (tmp_path / "c.th").read_bytes() == b"mine"


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(StorageError, match=r"c\.th: not written: (Not a directory|File exists)"):
        write_official(OfficialFile({"w": W}, {}), tmp_path / "file" / "c.th")
