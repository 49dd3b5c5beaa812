"""Where the cache is, who may write an entry, and whether the network may be used."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from x2kit.errors import StorageError
from x2kit.io.cache import cache_folder, locked_entry, offline_variable


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("X2KIT_CACHE", "XDG_CACHE_HOME", "X2KIT_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


def test_the_cache_is_the_users_unless_a_variable_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == Path.home() / ".cache" / "x2kit"
    monkeypatch.setenv("XDG_CACHE_HOME", "/of/the/user")
    assert cache_folder() == Path("/of/the/user/x2kit")
    monkeypatch.setenv("X2KIT_CACHE", "/own")
    assert cache_folder() == Path("/own")


@pytest.mark.parametrize("value", ["1", "true", "YES", " on "])
def test_either_variable_forbids_downloads(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    assert offline_variable() is None
    monkeypatch.setenv("HF_HUB_OFFLINE", value)
    assert offline_variable() == "HF_HUB_OFFLINE"
    monkeypatch.setenv("X2KIT_OFFLINE", value)
    assert offline_variable() == "X2KIT_OFFLINE"


@pytest.mark.parametrize("value", ["", "0", "false", "no"])
def test_other_values_allow_them(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("X2KIT_OFFLINE", value)
    assert offline_variable() is None


def test_a_killed_process_releases_its_entry(tmp_path: Path) -> None:
    entry, mark = tmp_path / "new" / "entry", tmp_path / "held"
    program = (
        "import sys, time; from pathlib import Path; from x2kit.io.cache import locked_entry\n"
        "with locked_entry(Path(sys.argv[1])):\n    Path(sys.argv[2]).touch(); time.sleep(600)"
    )
    holder = subprocess.Popen([sys.executable, "-c", program, str(entry), str(mark)])
    while not mark.exists():
        assert holder.poll() is None
        time.sleep(0.02)
    holder.kill()
    with locked_entry(entry):
        holder.wait()
    assert not entry.exists()


def test_a_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StorageError, match=r"file: is not a folder; set X2KIT_CACHE"),
        locked_entry(tmp_path / "file" / "entry"),
    ):
        pass
