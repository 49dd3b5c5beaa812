from __future__ import annotations

from pathlib import Path
from threading import Event
from typing import Any

import pytest
import torch

from x2kit.errors import StorageError, X2KitError
from x2kit.training.checkpoint import writer as module
from x2kit.training.checkpoint.checkpoints import checkpoints, load_checkpoint
from x2kit.training.checkpoint.writer import CheckpointWriter, copy_to_cpu, free_memory, superseded
from x2kit.training.config import TrainingConfig

LOSSES = {10: 3.0, 20: 1.0, 30: 2.0, 40: 1.0, 50: 4.0}


def stay(now: int = 50, **settings: Any) -> list[int]:
    metrics = {step: {"loss": loss, "images.itc": -loss} for step, loss in LOSSES.items()}
    gone = superseded(metrics, now, TrainingConfig(**settings))
    return [step for step in LOSSES if step not in gone]


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"keep_last": 2}, [40, 50]),
        ({"keep_last": 1, "keep_every": 20}, [20, 40, 50]),
        ({"keep_last": 1, "keep_every": 7}, [50]),
        ({"keep_last": 1, "keep_best": "loss"}, [20, 50]),  # the earlier of two that are equal
        ({"keep_last": 1, "keep_best": "loss", "best_is": "highest"}, [50]),
        ({"keep_last": 1, "keep_best": "images.itc", "best_is": "lowest"}, [50]),
        ({"keep_last": 1, "keep_best": "images.itc", "best_is": "highest"}, [20, 50]),
        ({"keep_last": 1, "keep_best": "unknown"}, [50]),
        ({"keep_last": 9}, [10, 20, 30, 40, 50]),
    ],
)
def test_retention_keeps_newest_multiples_and_best(settings: dict[str, Any], kept: list[int]) -> None:
    assert stay(**settings) == kept


def test_checkpoints_after_the_saved_step_are_deleted_first() -> None:
    assert stay(now=30, keep_last=1) == [30]
    assert stay(now=30, keep_last=2, keep_every=50) == [20, 30]


def writer(run: Path, said: list[str] | None = None, **settings: Any) -> CheckpointWriter:
    return CheckpointWriter(run, TrainingConfig(**settings), (said if said is not None else []).append)


def names(run: Path) -> list[str]:
    return [path.name for path in checkpoints(run)]


def test_superseded_checkpoints_are_deleted(tmp_path: Path) -> None:
    with writer(tmp_path, keep_last=1, keep_best="loss") as saves:
        for step, loss in ((1, 3.0), (2, 1.0), (3, 2.0), (4, 2.0)):
            saves.save(step, {"step": step}, {"loss": loss})
    assert names(tmp_path) == ["step-0000002", "step-0000004"]


def test_an_unknown_keep_best_is_reported_once_with_logged_names(tmp_path: Path) -> None:
    said: list[str] = []
    with writer(tmp_path, said, keep_best="los") as saves:
        saves.save(1, {"step": 1}, {"loss": 1.0, "lr": 0.1})
        saves.save(2, {"step": 2}, {"loss": 1.0, "lr": 0.1})
    (line,) = said
    assert line.startswith("training.keep_best: no value 'los' is logged")
    assert line.endswith("logged: loss, lr")


def test_async_saving_writes_the_state_of_the_saved_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = Event()
    ordinary = module.save_checkpoint

    def later(*given: Any) -> Path:
        assert go_on.wait(60)
        return ordinary(*given)

    monkeypatch.setattr(module, "save_checkpoint", later)
    weight = torch.ones(3)
    with writer(tmp_path, async_saving=True) as saves:
        saves.save(1, {"step": 1, "model": {"weight": weight}}, {})
        weight.mul_(5)  # the training goes on
        assert names(tmp_path) == []
        go_on.set()
    assert torch.equal(load_checkpoint(tmp_path)[0]["model"]["weight"], torch.ones(3))


@pytest.mark.parametrize(
    ("device", "free", "wanted", "background"),
    [
        ("cuda", 24, None, True),
        ("cuda", 23, None, False),  # the copy would take more than half
        ("cuda", 23, True, True),
        ("cuda", 24, False, False),
        ("cpu", 24, None, False),  # the writing thread would take a core from the training
        ("cpu", 24, True, True),
    ],
)
def test_saving_is_async_by_default_where_it_costs_nothing(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    device: str,
    free: int,
    wanted: bool | None,
    background: bool,
) -> None:
    monkeypatch.setattr(module, "free_memory", lambda: free)
    config = TrainingConfig(async_saving=wanted)
    with CheckpointWriter(tmp_path, config, print, device=torch.device(device)) as saves:
        saves.save(1, {"step": 1, "weight": torch.ones(3)}, {})  # 12 bytes
        assert (saves._thread is not None) == background
    assert names(tmp_path) == ["step-0000001"]


def test_free_memory_is_that_of_the_machine_or_of_its_container(tmp_path: Path) -> None:
    memory, group = tmp_path / "meminfo", tmp_path / "group"
    memory.write_text("MemTotal: 9 kB\nMemAvailable:      5 kB\n")
    assert free_memory(memory, group) == 5 * 1024
    group.mkdir()
    (group / "memory.current").write_text("100\n")
    for limit, free in (("max", 5 * 1024), ("1100", 1000), ("99999999", 5 * 1024)):
        (group / "memory.max").write_text(f"{limit}\n")
        assert free_memory(memory, group) == free
    assert free_memory(tmp_path / "none", group) == 0
    assert free_memory() > 0


def full(*given: Any) -> Path:
    raise StorageError("the disk is full")


def test_an_async_error_is_raised_at_the_next_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "save_checkpoint", full)
    saves = writer(tmp_path, async_saving=True)
    saves.check()
    saves.save(1, {"step": 1}, {})
    assert saves._thread is not None
    saves._thread.join()
    with pytest.raises(StorageError, match="the disk is full"):
        saves.check()
    saves.check()  # it is raised once


def test_an_async_error_is_raised_on_exit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "save_checkpoint", full)

    def end() -> None:
        with writer(tmp_path, async_saving=True) as saves:
            saves.save(1, {"step": 1}, {})

    with pytest.raises(StorageError, match="the disk is full"):
        end()


def test_an_async_error_does_not_replace_the_error_of_the_block(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "save_checkpoint", full)
    said: list[str] = []

    def end() -> None:
        with writer(tmp_path, said, async_saving=True) as saves:
            saves.save(1, {"step": 1}, {})
            raise X2KitError("loss is not finite")

    with pytest.raises(X2KitError, match="loss is not finite"):
        end()
    assert said == ["the disk is full"]


def test_tied_tensors_are_copied_once() -> None:
    tied = torch.ones(4)
    copied = copy_to_cpu({"a": tied, "b": [tied, (tied[:2], 3, "x")]})
    assert copied["a"] is copied["b"][0]
    assert copied["a"].data_ptr() != tied.data_ptr()
    assert copied["b"][1][1:] == (3, "x")
    tied.zero_()
    assert torch.equal(copied["b"][1][0], torch.ones(2))
