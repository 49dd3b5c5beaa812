"""`x2kit export` from the command line: what it prints, what it writes, and what it refuses."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Done
from tests.export.conftest import config_of, tiny
from x2kit.export import folder as exporting

Subcommand = Callable[..., Done]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a model without matching head: two towers, which are exported fast."""
    folder = tmp_path_factory.mktemp("saved") / "weights"
    tiny(folder, config_of(heads=("itc",)))
    return folder


@pytest.fixture
def weights(saved: Path, folder: Path) -> Path:
    return shutil.copytree(saved, folder / "weights")


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"stubs.py", "good.yaml", "weights"}


def test_it_prints_each_program_with_shapes_and_difference(x2kit: Subcommand, weights: Path) -> None:
    done = x2kit("export", "weights", "--to", "torch", "--output", "out")
    assert done.status == 0, done.err
    image, text, *others = done.out.splitlines()
    assert image.startswith("image: image.pt2 (")
    assert "images [batch, 3, 32, 32] to image_vector [batch, 8]; largest difference " in image
    assert "ids [batch, length], mask [batch, length] to text_vector [batch, 8]" in text
    assert others[:-2] == [
        "left out: probability: the model has no matching head (itm)",
        "left out: box: the model has no box head (bbox)",
        "left out: pair: it needs a matching head (itm) or a box head (bbox)",
    ]
    assert others[-2:] == ["tokenizer: tokenizer.json; at most 24 tokens", "exported: out"]
    assert {path.name for path in Path("out").iterdir()} == {
        *("image.pt2", "text.pt2", "manifest.json", "preprocessing.json", "tokenizer.json"),
    }


def test_json_is_the_manifest(x2kit: Subcommand, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "export_model", lambda *_, **__: json.loads(MANIFEST))
    done = x2kit("export", "weights", "--to", "torch", "--output", "out", "--json")
    assert json.loads(done.out) == json.loads(MANIFEST)


def refused(done: Done, *said: str) -> None:
    assert done.status == 2
    assert "Traceback" not in done.err
    for text in said:
        assert text in done.err, done.err


def test_an_existing_folder_is_refused_and_kept(x2kit: Subcommand, weights: Path, folder: Path) -> None:
    (folder / "out").mkdir()
    (folder / "out" / "mine").touch()
    refused(
        x2kit("export", "weights", "--to", "torch", "--output", "out"), "out: exists; give another --output"
    )
    assert [path.name for path in (folder / "out").iterdir()] == ["mine"]


def test_weights_that_do_not_exist_are_refused(x2kit: Subcommand, folder: Path) -> None:
    refused(x2kit("export", "absent", "--to", "torch", "--output", "out"), "absent")
    assert left(folder) == set()


def test_weights_without_a_tokenizer_are_refused(x2kit: Subcommand, weights: Path, folder: Path) -> None:
    shutil.rmtree(weights / "tokenizer")
    (weights / "tokenizer").mkdir()
    special = {"pad": 1, "cls": 0, "sep": 2, "unk": 3, "mask": 4}
    size = json.loads((weights / "text" / "config.json").read_text())["vocab_size"]
    (weights / "tokenizer" / "ids.json").write_text(json.dumps({"vocab_size": size, "special": special}))
    refused(
        x2kit("export", "weights", "--to", "torch", "--output", "out"),
        "no tokenizer",
        "x2kit convert --tokenizer",
    )
    assert left(folder) == set()


def test_a_missing_package_names_the_extra(
    x2kit: Subcommand, weights: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    done = x2kit("export", "weights", "--to", "onnx", "--output", "out")
    refused(done, "--to onnx needs another package", "pip install 'x2kit[export]'")
    assert left(folder) == set()


def test_keys_of_the_evaluation_need_int8(x2kit: Subcommand, weights: Path) -> None:
    done = x2kit("export", "weights", "--to", "onnx", "--output", "out", "--evaluation.split", "test")
    refused(done, "change the evaluation of --int8; add it")


def test_int8_without_an_evaluation_is_refused(x2kit: Subcommand, weights: Path, folder: Path) -> None:
    done = x2kit("export", "weights", "--to", "onnx", "--output", "out", "--int8")
    refused(done, "weights/recipe.yaml: evaluation: missing", "--evaluation.source")
    assert left(folder) == set()


def test_int8_measures_the_recipe_that_is_given(
    x2kit: Subcommand, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recipe that reaches the measurement: another recipe's evaluation, with the keys of the command line."""
    given: dict[str, Any] = {}

    def stop(model: Any, to: str, output: Path, **named: Any) -> dict[str, Any]:
        given.update(named, to=to)
        return json.loads(MANIFEST)

    monkeypatch.setattr(exporting, "export_model", stop)
    options = ("--int8", "--recipe", "good.yaml", "--evaluation.languages", "[de]")
    done = x2kit("export", "weights", "--to", "onnx", "--output", "out", *options)
    assert done.status == 0, done.err
    assert given["recipe"].evaluation.languages == ("de",)
    assert given["recipe"].model.vision == config_of().vision
    assert (given["to"], given["int8"]) == ("onnx", True)
    assert "  de             0.500 > 0.400" in done.out
    assert "lost                  0.1000" in done.out


_ROW = {"r1": 0.5, "r5": 0.5, "r10": 0.5}
_LOST = {"r1": 0.4, "r5": 0.5, "r10": 0.5}
MANIFEST = json.dumps(
    {
        "programs": {},
        "left_out": {},
        "text": {"tokenizer": "tokenizer.json", "max_length": 24},
        "int8": {
            "programs": {},
            "measured_on": {"source": "Scenes()", "split": "test", "languages": ["de"]},
            "recall": {
                "float32": {"de": {"text_to_image": _ROW, "image_to_text": _ROW}},
                "int8": {"de": {"text_to_image": _LOST, "image_to_text": _ROW}},
            },
            "recall_lost": {"text_to_image r1": 0.1},
        },
    }
)


def test_help_names_formats_and_examples(x2kit: Subcommand) -> None:
    done = x2kit("export", "--help")
    assert done.status == 0
    assert "--to {onnx,torch}" in done.out
    assert "nothing is written if one differs by more than 1e-4" in done.out
