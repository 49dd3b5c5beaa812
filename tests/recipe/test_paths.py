from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from x2kit.recipe import read_recipe

Write = Callable[[str, str], Path]


def text_settings(*names: str, **keys: str) -> Any:
    overrides = [(f"model.text.{name}", value) for name, value in keys.items()]
    return read_recipe(["good.yaml", *names], overrides).recipe.model.text


def test_a_path_is_relative_to_the_file_that_holds_it(write: Write, tmp_path: Path) -> None:
    write("elsewhere/data.bin", "")
    settings = "{file: data.bin, more: [data.bin, ../data.bin, /abs]}"
    write("elsewhere/over.yaml", f"evaluation: {{source: {{init_args: {settings}}}}}\n")
    source: Any = read_recipe(["good.yaml", "elsewhere/over.yaml"]).recipe.evaluation.source
    assert source.file == tmp_path / "elsewhere/data.bin"
    assert source.more == (tmp_path / "elsewhere/data.bin", tmp_path / "data.bin", Path("/abs"))


def test_a_url_stays_a_url_where_a_path_is_made_absolute(write: Write, tmp_path: Path) -> None:
    parts = "[part-*.jsonl, s3://bucket/part-*.jsonl, 'memory://a/{split}.tar']"
    write("elsewhere/over.yaml", f"evaluation: {{source: {{init_args: {{parts: {parts}}}}}}}\n")
    source: Any = read_recipe(["good.yaml", "elsewhere/over.yaml"]).recipe.evaluation.source
    here = str(tmp_path / "elsewhere/part-*.jsonl")
    assert source.parts == (here, "s3://bucket/part-*.jsonl", "memory://a/{split}.tar")


def test_each_file_of_a_chain_has_its_own_folder(write: Write, tmp_path: Path) -> None:
    write("a/over.yaml", "model: {text: {init_args: {pretrained: ./weights}}}\n")
    write("b/top.yaml", "base: [../good.yaml, ../a/over.yaml]\nplugins: [../stubs.py]\n")
    text: Any = read_recipe(["b/top.yaml"]).recipe.model.text
    assert text.pretrained == str(tmp_path / "a/weights")


def test_a_path_inside_nested_settings_is_found(write: Write, tmp_path: Path) -> None:
    write("a/over.yaml", "model: {text: {init_args: {lexicon: {file: words.txt}}}}\n")
    assert text_settings("a/over.yaml").lexicon.file == tmp_path / "a/words.txt"


def test_a_path_on_the_command_line_is_relative_to_the_working_directory(
    write: Write, tmp_path: Path
) -> None:
    write("a/over.yaml", "model: {text: {init_args: {pretrained: ./weights}}}\n")
    assert text_settings("a/over.yaml", pretrained="./other").pretrained == str(tmp_path / "other")


@pytest.mark.parametrize("name", ["org/model", "xlm-roberta-base", ""])
def test_a_published_name_stays_a_name(write: Write, name: str) -> None:
    assert text_settings(pretrained=f"'{name}'").pretrained == name


def test_a_name_of_an_existing_file_is_a_path(write: Write, tmp_path: Path) -> None:
    write("a/weights/config.json", "{}")
    write("a/over.yaml", "model: {text: {init_args: {pretrained: weights}}}\n")
    assert text_settings("a/over.yaml").pretrained == str(tmp_path / "a/weights")
    write("b/over.yaml", "model: {text: {init_args: {pretrained: weights}}}\n")
    assert text_settings("b/over.yaml").pretrained == "weights"


def test_the_home_directory_is_expanded(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/someone")
    assert text_settings(pretrained="~/weights").pretrained == "/home/someone/weights"


def test_a_link_keeps_its_name(write: Write, tmp_path: Path) -> None:
    write("blobs/0a1b", "")
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blobs/0a1b")
    assert text_settings(pretrained="./model.safetensors").pretrained == str(tmp_path / "model.safetensors")


def test_plugins_are_found_from_the_file_that_names_them(write: Write, tmp_path: Path) -> None:
    write("a/copy.yaml", Path("good.yaml").read_text().replace("stubs.py", "../stubs.py"))
    assert read_recipe(["a/copy.yaml"]).recipe.plugins == (str(tmp_path / "stubs.py"),)
