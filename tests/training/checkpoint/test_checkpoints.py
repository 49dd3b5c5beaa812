from __future__ import annotations

import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from x2kit.errors import CheckpointError, StorageError
from x2kit.training.checkpoint.checkpoints import (
    checkpoints,
    load_checkpoint,
    logged_metrics,
    save_checkpoint,
)
from x2kit.training.checkpoint.checksums import verify_checksums, write_checksums


def state(step: int) -> dict[str, Any]:
    return {"step": step, "model": {"weight": torch.full((3,), float(step))}}


def save(run: Path, *steps: int) -> None:
    for step in steps:
        save_checkpoint(run, step, state(step), {"step": step, "loss": 1 / step})


def names(run: Path) -> list[str]:
    return [path.name for path in checkpoints(run)]


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_the_newest_state_is_loaded(tmp_path: Path) -> None:
    save(tmp_path, 10, 200, 9)
    found, messages = load_checkpoint(tmp_path)
    assert (found["step"], messages) == (200, ["resumed after step 200"])
    assert torch.equal(found["model"]["weight"], torch.full((3,), 200.0))
    assert names(tmp_path) == ["step-0000009", "step-0000010", "step-0000200"]


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux lists what a process has mapped")
def test_a_loaded_state_is_memory_mapped(tmp_path: Path) -> None:
    """Otherwise every rank of a machine would hold a copy of model and optimiser."""
    save(tmp_path, 10)
    found, _ = load_checkpoint(tmp_path)
    assert found["model"]["weight"].sum() == 30
    assert str(checkpoints(tmp_path)[-1] / "state.pt") in Path("/proc/self/maps").read_text()


def test_a_checkpoint_holds_the_last_logged_metrics(tmp_path: Path) -> None:
    save(tmp_path, 3)
    assert logged_metrics(checkpoints(tmp_path)[0]) == {"step": 3, "loss": 1 / 3}


def test_sha256sum_can_check_a_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    subprocess.run(
        ["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=checkpoints(tmp_path)[0], check=True
    )


def test_a_partial_directory_is_not_a_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "checkpoints/.step-0000002.4711.partial").mkdir()
    assert names(tmp_path) == ["step-0000001"]
    assert load_checkpoint(tmp_path)[0]["step"] == 1


def test_an_interrupted_save_keeps_earlier_checkpoints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1)

    def half(what: object, file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2)
    assert names(tmp_path) == ["step-0000001"]
    assert leftovers(tmp_path / "checkpoints") == []


def flip_a_bit(path: Path) -> None:
    content = bytearray((path / "state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (path / "state.pt").write_bytes(content)


def truncate(path: Path) -> None:
    (path / "state.pt").write_bytes((path / "state.pt").read_bytes()[:100])


def lose_the_state(path: Path) -> None:
    (path / "state.pt").unlink()


def lose_the_checksums(path: Path) -> None:
    (path / "SHA256SUMS").unlink()


def cut_the_checksums(path: Path) -> None:
    first, *_ = (path / "SHA256SUMS").read_text().splitlines(keepends=True)
    (path / "SHA256SUMS").write_text(first)


def lose_the_metrics(path: Path) -> None:
    (path / "metrics.json").unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip_a_bit, "state.pt: its checksum differs from the recorded one"),
        (truncate, "state.pt: its checksum differs from the recorded one"),
        (lose_the_state, "state.pt: missing"),
        (lose_the_metrics, "metrics.json: missing"),
        (lose_the_checksums, "No such file or directory"),
        (cut_the_checksums, "state.pt: not in SHA256SUMS"),
    ],
)
def test_a_damaged_checkpoint_falls_back_to_the_previous_one(
    tmp_path: Path, damage: Any, reason: str
) -> None:
    save(tmp_path, 1, 2, 3)
    damage(tmp_path / "checkpoints/step-0000003")
    found, (message, resumed) = load_checkpoint(tmp_path)
    assert (found["step"], resumed) == (2, "resumed after step 2")
    assert message.startswith(f"{tmp_path}/checkpoints/step-0000003: damaged, using the previous one: ")
    assert reason in message


def test_a_run_with_only_damaged_checkpoints_is_refused_naming_each(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for path in checkpoints(tmp_path):
        truncate(path)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path)
    first, *rest = str(error.value).splitlines()
    assert first == "every checkpoint of this run is damaged:"
    assert [line.partition(":")[0] for line in rest] == [
        f"{tmp_path}/checkpoints/step-0000002",
        f"{tmp_path}/checkpoints/step-0000001",
    ]


def test_a_run_without_checkpoint_starts_at_the_first_step(tmp_path: Path) -> None:
    assert load_checkpoint(tmp_path) == (
        {},
        [f"{tmp_path}: no checkpoint yet, starting at the first step"],
    )


@pytest.mark.parametrize("room", [0, 100, 3000, 100_000])
def test_a_full_disk_is_reported_and_keeps_earlier_checkpoints(tmp_path: Path, room: int) -> None:
    save(tmp_path, 1)
    before = (tmp_path / "checkpoints/step-0000001/state.pt").read_bytes()
    big = {"step": 2, "model": {"weight": torch.zeros(64, 1024)}}
    with largest_file(room), pytest.raises(StorageError) as error:
        save_checkpoint(tmp_path, 2, big, {})
    first, second = str(error.value).splitlines()
    path = f"{tmp_path}/checkpoints/step-0000002"
    assert first.startswith(f"{path}: not written: file size limit exceeded (ulimit -f); 256.0 KiB needed, ")
    assert second == (
        "  the checkpoint of step 1 is kept; free space, then resume with: "
        f"x2kit train --resume --run-dir {tmp_path}"
    )
    assert [file.name for file in (tmp_path / "checkpoints").iterdir()] == ["step-0000001"]
    assert (tmp_path / "checkpoints/step-0000001/state.pt").read_bytes() == before


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


class Code:
    def __reduce__(self) -> Any:
        return (print, ("this would run",))


def test_a_checkpoint_with_code_is_not_executed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, 1, 2)
    path = tmp_path / "checkpoints/step-0000002"
    torch.save({"step": 2, "model": Code()}, path / "state.pt")
    write_checksums(path, {})
    verify_checksums(path)
    found, (message, _) = load_checkpoint(tmp_path)
    assert found["step"] == 1
    assert "\n" not in message
    assert capsys.readouterr().out == ""
