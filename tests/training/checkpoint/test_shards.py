"""Shards in one process; `test_sharded_checkpoints` has several."""

from __future__ import annotations

import pickle
import random
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from tests.fuzzing import INPUTS, answered, damaged
from tests.training.checkpoint.test_checkpoints import Code, largest_file
from x2kit.distributed.processes import ALONE
from x2kit.errors import CheckpointError, StorageError
from x2kit.training.checkpoint.shards import Shards, write_shards

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
def test_tensors_come_back_with_size_and_dtype(tmp_path: Path) -> None:
    sums = write_shards(tmp_path, TENSORS, ALONE, tmp_path)
    for name, tensor in read(tmp_path).items():
        assert torch.equal(tensor, TENSORS[name])
    shards = Shards(tmp_path)
    assert shards.sizes == {name: tensor.shape for name, tensor in TENSORS.items()}
    assert shards.dtypes == {name: tensor.dtype for name, tensor in TENSORS.items()}
    assert "__0_0.distcp" in sums


def test_some_of_them_can_be_read(folder: Path) -> None:
    room = torch.zeros(2, 3)
    Shards(folder).fill({"model.a.weight": room}, ALONE)
    assert torch.equal(room, TENSORS["model.a.weight"])


def test_the_tools_of_torch_read_them(folder: Path) -> None:
    dcp_to_torch_save(folder, folder / "all.pt")
    found = torch.load(folder / "all.pt", weights_only=True)
    assert torch.equal(found["model.a.weight"], TENSORS["model.a.weight"])


def test_the_pickle_of_torch_is_not_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / ".metadata").write_bytes(pickle.dumps(Code()))
    read(folder)
    assert capsys.readouterr().out == ""


def test_shards_are_never_unpickled_freely(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = folder / "__0_0.distcp"
    torch.save({"model.b": Code()}, file)
    file.write_bytes(file.read_bytes() * 20)  # the index finds its bytes
    with pytest.raises(CheckpointError, match=r"rank 0 cannot read it"):
        read(folder)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("room", [0, 100, 3000, 100_000])
def test_a_disk_that_takes_no_more_is_told(tmp_path: Path, room: int) -> None:
    big = {"model.a": torch.zeros(64, 1024)}
    with largest_file(room), pytest.raises(StorageError) as error:
        write_shards(tmp_path, big, ALONE, tmp_path / "step-0000002")
    assert str(error.value).startswith(
        f"rank 0: {tmp_path}/step-0000002: not written: files may not grow so large (ulimit -f); 256.0 KiB are needed"
    )


@pytest.mark.slow
def test_ten_thousand_damaged_ones_give_tensors_or_a_checkpoint_error(folder: Path) -> None:
    rng = random.Random(0)
    file = folder / "__0_0.distcp"
    written = file.read_bytes()
    shards = Shards(folder)
    room = {name: torch.zeros_like(tensor) for name, tensor in TENSORS.items()}

    def fill(content: bytes) -> None:
        file.unlink()
        file.write_bytes(content)
        shards.fill(room, ALONE)

    good, bad = answered((damaged(written, rng) for _ in range(INPUTS)), fill, CheckpointError)
    assert good + bad == INPUTS
    assert bad > 1000


def test_a_folder_that_a_process_does_not_see_is_told(tmp_path: Path) -> None:
    with pytest.raises(
        StorageError, match=r"rank 0: .*: not there; all processes have to see the run directory"
    ):
        write_shards(tmp_path / "elsewhere", TENSORS, ALONE, tmp_path)
