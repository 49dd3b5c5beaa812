from __future__ import annotations

from pathlib import Path

import pytest

from x2kit.recipe.catalogue import find, folder, is_overlay, shipped


def test_shipped_recipes_are_known_by_name() -> None:
    names = [file.name for file in shipped()]
    assert names == sorted(names, key=str)
    assert {"overlays/xlmr", "overlays/bf16", "overlays/debug"} <= set(names)


def test_a_name_and_the_path_of_its_file_are_the_same_recipe() -> None:
    by_name = find("overlays/xlmr")
    assert by_name.shown == "recipes/overlays/xlmr.yaml"
    assert by_name.label == "overlays-xlmr"
    assert find(by_name.path) == by_name


def test_a_file_in_the_working_directory_wins_over_a_shipped_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "overlays").mkdir()
    (tmp_path / "overlays/xlmr").write_text("training: {}")
    assert find("overlays/xlmr").name is None


def test_overlays_are_distinguished_from_recipes() -> None:
    assert all(is_overlay(file) == str(file.name).startswith("overlays/") for file in shipped())


def test_a_wheel_contains_its_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x2kit/recipes/quickstart").mkdir(parents=True)
    (tmp_path / "x2kit/recipes/quickstart/one.yaml").write_text("training: {}")
    monkeypatch.setattr("x2kit.recipe.catalogue.PACKAGE", tmp_path / "x2kit")
    assert folder() == tmp_path / "x2kit/recipes"
    assert [file.name for file in shipped()] == ["quickstart/one"]
