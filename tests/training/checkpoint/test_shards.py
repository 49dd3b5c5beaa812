"""Shards of one rank; `test_sharded_checkpoints` has several."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from tests.fuzzing import INPUTS, answered, damaged
from tests.training.checkpoint.test_checkpoints import largest_file
from x2kit.distributed.processes import ALONE
from x2kit.errors import CheckpointError, StorageError
from x2kit.training.checkpoint.shards import Shards, write_shards

FILE = "shard-00001-model-00001-of-00001.safetensors"
TENSORS = {
    "model.a.weight": torch.arange(6.0).reshape(2, 3),
    "model.b": torch.tensor(3.5),
    "model.half": torch.ones(4, dtype=torch.bfloat16),
    "model.none": torch.empty(0, 3),
    "optimizer.a.weight.step": torch.tensor(7, dtype=torch.int64),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_shards(tmp_path, TENSORS, ALONE, tmp_path)
    return tmp_path


def read(folder: Path) -> dict[str, torch.Tensor]:
    room = {name: torch.zeros_like(tensor) for name, tensor in TENSORS.items()}
    Shards(folder).fill(room, ALONE)
    return room


@pytest.mark.filterwarnings("error")
def test_tensors_keep_values_size_and_dtype(tmp_path: Path) -> None:
    sums = write_shards(tmp_path, TENSORS, ALONE, tmp_path)
    for name, tensor in read(tmp_path).items():
        assert torch.equal(tensor, TENSORS[name])
    shards = Shards(tmp_path)
    assert shards.sizes == {name: tensor.shape for name, tensor in TENSORS.items()}
    assert shards.dtypes == {name: tensor.dtype for name, tensor in TENSORS.items()}
    assert [*sums] == [FILE]


def test_a_subset_can_be_read(folder: Path) -> None:
    room = torch.zeros(2, 3)
    Shards(folder).fill({"model.a.weight": room}, ALONE)
    assert torch.equal(room, TENSORS["model.a.weight"])


def test_files_are_plain_safetensors(folder: Path) -> None:
    assert torch.equal(load_file(folder / FILE)["model.a.weight"], TENSORS["model.a.weight"])


def rewrite(file: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None]) -> None:
    with safe_open(file, "pt") as opened:
        metadata = dict(opened.metadata())
    tensors = load_file(file)
    change(tensors, metadata)
    save_file(tensors, file, metadata)


def drop_rows(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    offsets = json.loads(metadata["DCP_SHARDING_INFO"])
    offsets["model.a.weight"]["saved_offsets"] = [1, 0]
    metadata["DCP_SHARDING_INFO"] = json.dumps(offsets)
    tensors["model.a.weight"] = tensors["model.a.weight"][1:].contiguous()


def drop_offsets(tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    metadata["DCP_SHARDING_INFO"] = "{}"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (drop_rows, "model.a.weight: the shards hold 3 of 6 values"),
        (drop_offsets, "header of a shard: KeyError"),
    ],
)
def test_a_header_that_does_not_cover_its_tensors_is_refused(
    folder: Path, change: Callable[[dict[str, torch.Tensor], dict[str, str]], None], reason: str
) -> None:
    rewrite(folder / FILE, change)
    with pytest.raises(CheckpointError, match=reason):
        Shards(folder)


def test_a_file_lost_after_the_headers_were_read_is_named_with_its_rank(folder: Path) -> None:
    shards = Shards(folder)
    (folder / FILE).unlink()
    with pytest.raises(CheckpointError, match="rank 0 cannot read it"):
        shards.fill({"model.b": torch.zeros(())}, ALONE)


@pytest.mark.parametrize("room", [0, 100, 3000, 100_000])
def test_a_full_disk_is_reported_with_rank_and_path(tmp_path: Path, room: int) -> None:
    big = {"model.a": torch.zeros(64, 1024)}
    with largest_file(room), pytest.raises(StorageError) as error:
        write_shards(tmp_path, big, ALONE, tmp_path / "step-0000002")
    assert str(error.value).startswith(
        f"rank 0: {tmp_path}/step-0000002: not written: file size limit exceeded (ulimit -f); 256.0 KiB needed"
    )


@pytest.mark.slow
def test_damaged_files_give_tensors_or_a_checkpoint_error(folder: Path) -> None:
    rng = random.Random(0)
    file = folder / FILE
    written = file.read_bytes()
    room = {name: torch.zeros_like(tensor) for name, tensor in TENSORS.items()}

    def fill(content: bytes) -> None:
        file.unlink()
        file.write_bytes(content)
        Shards(folder).fill(room, ALONE)

    good, bad = answered((damaged(written, rng) for _ in range(INPUTS)), fill, CheckpointError)
    assert good + bad == INPUTS
    assert min(good, bad) > 10


def test_a_directory_that_a_rank_cannot_see_is_reported(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"rank 0: .*/elsewhere: not found; every rank needs access"):
        write_shards(tmp_path / "elsewhere", TENSORS, ALONE, tmp_path)
