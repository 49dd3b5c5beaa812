"""One string is a path, a repository of the Hub or a published model; a path that exists wins."""

from __future__ import annotations

from pathlib import Path

import pytest

from x2kit.errors import WeightsError
from x2kit.hub.catalogue import PublishedModel
from x2kit.hub.names import HubModel, LocalModel, is_local, parse_name


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_kind_of_name_is_recognised(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "model.th").write_bytes(b"")
    assert parse_name("run") == LocalModel(Path("run"))
    assert parse_name(folder / "model.th") == LocalModel(folder / "model.th")
    assert parse_name("hf-hub:acme/scenes") == HubModel("acme/scenes")
    assert parse_name("hf-hub:acme/scenes@v1") == HubModel("acme/scenes", "v1")
    found = parse_name("x2vlm-base-4m")
    assert isinstance(found, PublishedModel)
    assert found.name == "x2vlm-base-4m"


@pytest.mark.parametrize("name", ["hf-hub:acme/scenes", "hf-hub:acme/scenes@v1", "xvlm-4m"])
def test_a_parsed_name_is_written_as_it_was(name: str) -> None:
    assert parse_name(name).name == name


def test_an_existing_path_wins_over_a_published_model(folder: Path) -> None:
    (folder / "x2vlm-base-4m").mkdir()
    assert parse_name("x2vlm-base-4m") == LocalModel(Path("x2vlm-base-4m"))


def test_only_directories_hold_results(folder: Path) -> None:
    (folder / "model.th").write_bytes(b"")
    assert is_local(folder)
    assert not any(map(is_local, ("model.th", "x2vlm-base-4m", "hf-hub:acme/scenes", "none")))


def test_an_unknown_name_gives_the_nearest_and_all_kinds() -> None:
    with pytest.raises(WeightsError) as error:
        parse_name("X2VLM-base")
    assert str(error.value).splitlines() == [
        "X2VLM-base: no such directory or file, and no published model of this name; nearest published model: "
        "x2vlm-base-4m",
        "  allowed: a run or weights directory, an official checkpoint (.th, .pth, .pt, .safetensors), "
        "hf-hub:ORGANISATION/NAME, or a name of x2kit models list",
    ]
    with pytest.raises(WeightsError, match="a repository of the Hub is hf-hub:acme/scenes@v1"):
        parse_name("acme/scenes@v1")


def test_a_misspelt_run_gives_the_one_beside_it(folder: Path) -> None:
    (folder / "runs" / "quickstart").mkdir(parents=True)
    with pytest.raises(WeightsError, match=r"^runs/quikstart: .*; nearest: runs/quickstart\n"):
        parse_name("runs/quikstart")


@pytest.mark.parametrize("name", ["./run", "/nowhere", "~/run-that-is-not-there", Path("run")])
def test_a_missing_path_is_only_a_missing_path(name: str | Path) -> None:
    with pytest.raises(WeightsError, match=r"no such directory or file$"):
        parse_name(name)


@pytest.mark.parametrize("name", ["hf-hub:", "hf-hub:scenes", "hf-hub:a/b/c", "hf-hub:a/b@", "hf-hub:../b"])
def test_an_impossible_repository_is_refused(name: str) -> None:
    with pytest.raises(WeightsError, match=r"expected hf-hub:ORGANISATION/NAME, optionally with @REVISION"):
        parse_name(name)


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 5000])
def test_a_name_that_no_file_can_have_is_no_traceback(name: str) -> None:
    with pytest.raises(WeightsError):
        parse_name(name)
