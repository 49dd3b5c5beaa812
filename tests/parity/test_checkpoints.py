"""Checkpoints with the recorded names and shapes survive conversion and back, key by key."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.interop import made
from x2kit.interop.convert import Converted, from_official, to_official
from x2kit.interop.layout import official_buffers
from x2kit.model import load
from x2kit.plugin.loading.manager import load_plugins

from .evidence import check_equal

EXPLAINED = {"used", "twin", "derived", "kept"}


def convert(source: Path, directory: Path) -> Converted:
    return from_official(source, directory, load_plugins().registry)


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """A checkpoint's tensors and what stands beside them, by torch alone."""
    content = torch.load(file, weights_only=True)
    return content.pop("model"), content


def data(tensors: dict[str, Tensor]) -> Iterator[tuple[str, str, list[int], bytes]]:
    """Name, dtype, shape and bytes of tensors, one by one."""
    for name, value in tensors.items():
        yield name, str(value.dtype), list(value.shape), value.contiguous().numpy().tobytes()


def shared(tensors: dict[str, Tensor]) -> list[list[str]]:
    """Names that share memory, as tied parameters do."""
    groups: dict[int, list[str]] = {}
    for name, value in tensors.items():
        groups.setdefault(value.untyped_storage().data_ptr(), []).append(name)
    return sorted(names for names in groups.values() if len(names) > 1)


def check_there_and_back(inventory: made.Inventory, source: Path, tmp_path: Path) -> Converted:
    """Convert a checkpoint, open it, convert it back: nothing is unexplained, and every byte is as before."""
    file = f"keys/{inventory.name}.json"
    found = convert(source, tmp_path / "weights")
    unexplained = {key: fate for key, (fate, _) in found.account.rows.items() if fate not in EXPLAINED}
    check_equal(file, "keys without a place", unexplained, {})
    check_equal(file, "keys that are accounted for", set(found.account.rows), set(inventory.shapes))

    to_official(tmp_path / "weights", tmp_path / "back.th")
    (before, beside), (after, beside_after) = read(source), read(tmp_path / "back.th")
    check_equal(file, "keys after conversion there and back", list(after), list(inventory.shapes))
    different = [one[0] for one, other in zip(data(before), data(after), strict=True) if one != other]
    check_equal(file, "tensors that differ after conversion there and back", different, [])
    check_equal(
        file, "tied after conversion there and back", shared(after), sorted(map(sorted, inventory.tied))
    )
    assert beside_after == beside
    return found


@pytest.mark.parametrize("name", made.inventories())
def test_a_checkpoint_converts_and_comes_back_byte_equal(name: str, tmp_path: Path) -> None:
    source = made.checkpoint(name, tmp_path / f"{name}.th")
    check_there_and_back(made.inventory(name).scaled(), source, tmp_path)


def kinds() -> list[str]:
    """One model for each set of buffers: other encoders and heads have others."""
    found: dict[frozenset[str], str] = {}
    for name in made.inventories():
        leaves = frozenset(buffer.rpartition(".")[2] for buffer in made.inventory(name).buffers)
        found.setdefault(leaves, name)
    return list(found.values())


@pytest.mark.parametrize("name", kinds())
def test_official_buffers_follow_from_the_settings(name: str, tmp_path: Path) -> None:
    inventory = made.inventory(name).scaled()
    layout = convert(made.checkpoint(name, tmp_path / "random.th"), tmp_path / "random").layout
    buffers = official_buffers(load(tmp_path / "random"), layout)
    shapes = {key: tuple(value.shape) for key, value in buffers.items()}
    recorded = {key: inventory.shapes[key] for key in inventory.buffers if key in buffers}
    check_equal(f"keys/{name}.json", "shapes of buffers that follow from the settings", shapes, recorded)

    tensors = made.tensors_of(inventory, buffers)
    found = convert(made.write(tensors, tmp_path / "sound.th"), tmp_path / "sound")
    assert set(found.account.of("derived")) == set(buffers)
    kept = json.loads((tmp_path / "sound" / "account.json").read_text())["counts"].get("kept", 0)
    assert kept == len(set(inventory.buffers) - set(buffers))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_comes_back_as_it_was(dtype: torch.dtype, tmp_path: Path) -> None:
    inventory = min(
        (made.inventory(name).scaled() for name in made.inventories()), key=lambda it: len(it.shapes)
    )
    before = made.tensors_of(inventory, dtype=dtype)
    convert(made.write(before, tmp_path / "half.th"), tmp_path / "weights")
    to_official(tmp_path / "weights", tmp_path / "back.th")
    after, _ = read(tmp_path / "back.th")
    assert list(after) == list(before)
    assert all(
        after[name].dtype == value.dtype and torch.equal(after[name], value) for name, value in before.items()
    )
    assert shared(after) == sorted(map(sorted, inventory.tied))


@pytest.mark.slow
def test_the_base_model_converts_at_its_real_size(tmp_path: Path) -> None:
    """The smallest of the recorded X²-VLM models with all heads, about a gigabyte."""
    sizes = {
        name: facts["n_parameters"] for name, facts in made.index().items() if name in made.inventories()
    }
    name = min((it for it in sizes if it.startswith("xvlm_pretrain")), key=sizes.__getitem__)
    inventory = made.inventory(name)
    source = made.write(made.tensors_of(inventory), tmp_path / f"{name}.th", config=made.CONFIG)
    check_there_and_back(inventory, source, tmp_path)
    model = load(tmp_path / "weights")
    parameters = sum(value.numel() for value in model.parameters())
    check_equal(f"keys/{name}.json", "number of parameters at real size", parameters, inventory.parameters)
