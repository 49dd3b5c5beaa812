from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from x2kit.errors import CheckpointError
from x2kit.model.whole_files import appears_whole
from x2kit.training import checkpoints as module
from x2kit.training.checkpoints import checkpoints, load_checkpoint, save_checkpoint


def state(step: int) -> dict[str, Any]:
    return {"step": step, "model": {"weight": torch.full((3,), float(step))}}


def save(run: Path, *steps: int, keep_last: int = 9) -> None:
    for step in steps:
        save_checkpoint(run, step, state(step), keep_last)


def names(run: Path) -> list[str]:
    return [path.name for path in checkpoints(run)]


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.startswith("."))


def test_the_newest_state_comes_back(tmp_path: Path) -> None:
    save(tmp_path, 10, 200, 9)
    found, messages = load_checkpoint(tmp_path)
    assert (found["step"], messages) == (200, [])
    assert torch.equal(found["model"]["weight"], torch.full((3,), 200.0))
    assert names(tmp_path) == ["step-0000009", "step-0000010", "step-0000200"]


def test_only_the_newest_are_kept(tmp_path: Path) -> None:
    save(tmp_path, 1, 2, 3, 4, keep_last=2)
    assert names(tmp_path) == ["step-0000003", "step-0000004"]


def test_a_directory_appears_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    with appears_whole(path) as beside:
        (beside / "a").write_text("1")
        assert not path.exists()
    assert (path / "a").read_text() == "1"
    assert leftovers(tmp_path) == []


def test_a_directory_that_fails_half_way_never_appears(tmp_path: Path) -> None:
    def write() -> None:
        with appears_whole(tmp_path / "weights") as beside:
            (beside / "a").write_text("1")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write()
    assert list(tmp_path.iterdir()) == []


def test_what_stood_there_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    with appears_whole(path) as beside:
        (beside / "old").write_text("1")

    def replace(fail: bool) -> None:
        with appears_whole(path) as beside:
            (beside / "new").write_text("1")
            if fail:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(fail=True)
    assert [file.name for file in path.iterdir()] == ["old"]
    replace(fail=False)
    assert [file.name for file in path.iterdir()] == ["new"]
    assert leftovers(tmp_path) == []


def test_what_a_killed_process_left_behind_is_no_checkpoint(tmp_path: Path) -> None:
    save(tmp_path, 1)
    (tmp_path / "checkpoints/.step-0000002.4711.partial").mkdir()
    assert names(tmp_path) == ["step-0000001"]
    assert load_checkpoint(tmp_path)[0]["step"] == 1


def test_a_save_that_is_interrupted_leaves_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path, 1, keep_last=1)

    def half(what: object, file: Path) -> None:
        file.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(KeyboardInterrupt):
        save(tmp_path, 2, keep_last=1)
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


def lose_the_checksum(path: Path) -> None:
    (path / "checksum").unlink()


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (flip_a_bit, "its checksum differs from the recorded one"),
        (truncate, "its checksum differs from the recorded one"),
        (lose_the_state, "No such file or directory"),
        (lose_the_checksum, "No such file or directory"),
    ],
)
def test_the_one_before_a_damaged_checkpoint_is_used(tmp_path: Path, damage: Any, reason: str) -> None:
    save(tmp_path, 1, 2, 3)
    damage(tmp_path / "checkpoints/step-0000003")
    found, (message,) = load_checkpoint(tmp_path)
    assert found["step"] == 2
    assert message.startswith(f"{tmp_path}/checkpoints/step-0000003: damaged, the one before is used: ")
    assert reason in message


def test_a_run_of_damaged_checkpoints_is_refused_with_each(tmp_path: Path) -> None:
    save(tmp_path, 1, 2)
    for path in checkpoints(tmp_path):
        truncate(path)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path)
    first, *rest = str(error.value).splitlines()
    assert first == "no checkpoint of this run can be read:"
    assert [line.partition(":")[0] for line in rest] == [
        f"{tmp_path}/checkpoints/step-0000002",
        f"{tmp_path}/checkpoints/step-0000001",
    ]


def test_a_run_without_checkpoints_is_told_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: no checkpoint yet, so there is nothing to resume; --restart begins the run again"
    )


class Code:
    def __reduce__(self) -> Any:
        return (print, ("this would run",))


def test_a_checkpoint_is_never_unpickled_freely(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, 1, 2)
    path = tmp_path / "checkpoints/step-0000002"
    torch.save({"step": 2, "model": Code()}, path / "state.pt")
    (path / "checksum").write_text(module._checksum(path / "state.pt"))
    found, (message,) = load_checkpoint(tmp_path)
    assert found["step"] == 1
    assert "\n" not in message
    assert capsys.readouterr().out == ""
