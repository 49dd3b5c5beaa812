"""Reading files of weights without running what is in them, and filling modules strictly."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from x2kit.plugin import WeightsError
from x2kit.plugin.toolkit.weights import load_exactly, read_checkpoint, read_weights


class Harmful:
    """Something that a checkpoint must not bring to life."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path, ("ran",)


def test_tensors_are_found_under_the_keys_of_training_code(tmp_path: Path) -> None:
    state = nn.Linear(2, 3).state_dict()
    contents = [state, {"model": state, "args": argparse.Namespace(lr=1)}, {"state_dict": {"module": state}}]
    for number, content in enumerate(contents):
        torch.save(content, tmp_path / f"{number}.pth")
        assert set(read_weights(tmp_path / f"{number}.pth")) == {"weight", "bias"}


def test_safetensors_are_read(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(2)}, tmp_path / "model.safetensors")
    assert (read_weights(tmp_path / "model.safetensors")["weight"] == 1).all()


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2), "extra": Harmful()}, tmp_path / "harmful.pth")
    with pytest.raises(WeightsError, match=r"harmful\.pth: .* reading it would run pathlib\.Path"):
        read_weights(tmp_path / "harmful.pth")


def test_what_is_no_tensor_stands_beside_them(tmp_path: Path) -> None:
    weight = torch.ones(2)
    for number, content in enumerate(({"w": weight, "epoch": 3}, {"model": {"w": weight}, "epoch": 3})):
        torch.save(content, tmp_path / f"{number}.pth")
        tensors, beside = read_checkpoint(tmp_path / f"{number}.pth")
        assert (list(tensors), beside) == (["w"], {"epoch": 3})


def test_an_archive_that_says_what_none_can_be_is_named(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(2)}, tmp_path / "w.pth")
    whole = bytearray((tmp_path / "w.pth").read_bytes())
    locator = whole.index(b"PK\x06\x07")
    whole[locator + 16] = 9  # disks that it spans
    (tmp_path / "w.pth").write_bytes(whole)
    with pytest.raises(WeightsError, match=r"w\.pth: damaged, or not a file of weights"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_cut_anywhere_is_named(tmp_path: Path, zipped: bool) -> None:
    torch.save({"model": {"w": torch.ones(2)}}, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    whole = (tmp_path / "w.pth").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "w.pth").write_bytes(whole[:length])
        with pytest.raises(WeightsError, match=r"w\.pth: (is empty|is truncated|damaged)"):
            read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize("begin", [b"hello world, " * 9, b"\x89PNG\r\n", b"<!DOCTYPE html>", b".", b"\x80"])
def test_the_beginning_of_a_foreign_file_is_shown(tmp_path: Path, begin: bytes) -> None:
    (tmp_path / "model.th").write_bytes(begin)
    with pytest.raises(WeightsError) as error:
        read_weights(tmp_path / "model.th")
    assert repr(begin[:12]) in str(error.value)
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize("name", ["model.safetensors", "model.pth"])
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(WeightsError, match="no such file"):
        read_weights(tmp_path / name)
    (tmp_path / name).write_bytes(b"not weights")
    with pytest.raises(WeightsError, match=f"{name}: damaged"):
        read_weights(tmp_path / name)


def test_what_does_not_fit_is_listed() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    state = {"0.weight": torch.zeros(3, 2), "0.bias": torch.zeros(4), "1.weight": torch.zeros(1, 3)}
    with pytest.raises(WeightsError) as error:
        load_exactly(
            module, {**state, "2.weight": torch.zeros(1), "head.weight": torch.zeros(1)}, "f", ("head.",)
        )
    assert str(error.value) == (
        "f: does not fit Sequential\n"
        "  missing: 1.bias\n  unexpected: 2.weight\n  other shape: 0.bias [4] instead of [3]"
    )
    load_exactly(module, {**module.state_dict(), "head.weight": torch.zeros(1)}, "f", ("head.",))
