from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.fuzzing import INPUTS, answered, damaged, damaged_value
from x2kit.distributed.processes import ALONE
from x2kit.errors import CheckpointError
from x2kit.training.checkpoint.shard_index import INDEX, parse_index, read_index, tensors_of
from x2kit.training.checkpoint.shards import write_shards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(1), "c": torch.ones(3)}
    write_shards(tmp_path, tensors, ALONE, tmp_path)
    return tmp_path


def test_it_is_readable_for_people(folder: Path) -> None:
    written = json.loads((folder / INDEX).read_text())
    assert (written["a"]["dtype"], written["a"]["size"]) == ("float32", [2, 3])
    (part,) = written["a"]["parts"]
    assert (part["offsets"], part["sizes"], part["file"]) == ([0, 0], [2, 3], "__0_0.distcp")
    assert written["b"] == {"dtype": "int64", "size": [], "parts": written["b"]["parts"]}


def test_it_comes_back(folder: Path) -> None:
    found = tensors_of(read_index(folder))
    assert [(name, tensor.size) for name, tensor in found.items()] == [("a", (2, 3)), ("b", ()), ("c", (3,))]


def elsewhere(a: dict[str, Any]) -> None:
    a["parts"][0]["file"] = "../__0_0.distcp"


def missing_file(a: dict[str, Any]) -> None:
    a["parts"][0]["file"] = "__7_0.distcp"


def behind_the_end(a: dict[str, Any]) -> None:
    a["parts"][0]["length"] = 10**9


def a_part_less(a: dict[str, Any]) -> None:
    a["parts"].clear()


def outside(a: dict[str, Any]) -> None:
    a["parts"][0]["offsets"] = [1, 0]


def unknown_dtype(a: dict[str, Any]) -> None:
    a["dtype"] = "Tensor"


def negative(a: dict[str, Any]) -> None:
    a["size"] = [-2, -3]


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (elsewhere, r"shards.json: a: bytes .* are not in a file '../__0_0.distcp'"),
        (missing_file, r"shards.json: not an index of shards: FileNotFoundError"),
        (behind_the_end, r"shards.json: a: bytes .* are not in a file '__0_0.distcp'"),
        (a_part_less, r"shards.json: a: its parts hold 0 numbers, 6 are expected"),
        (outside, r"shards.json: a: a part ends at \[3, 3\], outside of \[2, 3\]"),
        (unknown_dtype, r"shards.json: not an index of shards: KeyError: 'Tensor'"),
        (negative, r"shards.json: not an index of shards: ValueError: \[-2, -3\] are not sizes"),
    ],
)
def test_an_index_that_cannot_be_is_refused(
    folder: Path, damage: Callable[[dict[str, Any]], None], reason: str
) -> None:
    written = json.loads((folder / INDEX).read_text())
    damage(written["a"])
    (folder / INDEX).write_text(json.dumps(written))
    with pytest.raises(CheckpointError, match=reason):
        read_index(folder)


def test_ten_thousand_damaged_ones_give_an_index_or_a_checkpoint_error(folder: Path) -> None:
    rng = random.Random(0)
    text = (folder / INDEX).read_bytes()
    written = json.loads(text)

    def inputs() -> Iterator[bytes]:
        for number in range(INPUTS):
            yield damaged(text, rng) if number % 2 else json.dumps(damaged_value(written, rng)).encode()

    good, bad = answered(inputs(), lambda content: parse_index(content, folder), CheckpointError)
    assert good + bad == INPUTS
    assert min(good, bad) > 10
