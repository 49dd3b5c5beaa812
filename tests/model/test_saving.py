from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors import safe_open

from tests.model import plain, tiny
from x2kit.errors import PluginError, WeightsError
from x2kit.model import X2VLM, load, save_weights

from .conftest import RECIPE, build

TEXTS = ["a red dog", "the sun", "ein roter hund"]


def edit_recipe(weights: Path, old: str, new: str) -> None:
    recipe = weights / "recipe.yaml"
    text = recipe.read_text()
    assert old in text
    recipe.write_text(text.replace(old, new))


def refused(directory: Path, kind: type[Exception] = WeightsError) -> str:
    with pytest.raises(kind) as error:
        load(directory)
    return str(error.value)


def test_a_loaded_model_gives_equal_outputs(model: X2VLM, weights: Path, images: list[Image.Image]) -> None:
    loaded = load(weights)
    for ask in (plain.similarity, plain.match, plain.locate):
        assert torch.equal(ask(loaded, images, TEXTS), ask(model, images, TEXTS)), ask
    own, theirs = model.state_dict(), loaded.state_dict()
    assert list(own) == list(theirs)
    assert all(torch.equal(own[name], theirs[name]) for name in own)


def test_a_loaded_model_is_in_evaluation_mode_and_tied_as_before(weights: Path) -> None:
    loaded = load(weights)
    assert not loaded.training
    assert loaded.mlm_head.decoder.weight is loaded.text.embedding.weight
    assert loaded.text_temperature is loaded.temperature


def test_equal_weights_are_equal_files(model: X2VLM, tmp_path: Path) -> None:
    files = set()
    for number in range(8):  # an order of chance would be another one among so many
        save_weights(model, RECIPE, tmp_path / str(number))
        files.add((tmp_path / str(number) / "model.safetensors").read_bytes())
    assert len(files) == 1


def test_tied_tensors_are_stored_once(model: X2VLM, weights: Path) -> None:
    with safe_open(weights / "model.safetensors", "pt") as file:
        stored = set(file.keys())
    assert set(model.state_dict()) - stored == {"mlm_head.decoder.weight", "text_temperature"}


def test_a_run_directory_leads_to_its_weights(weights: Path) -> None:
    assert torch.equal(load(weights.parent).temperature, load(weights).temperature)
    assert torch.equal(X2VLM.from_pretrained(str(weights)).temperature, load(weights).temperature)


def test_the_tokenizer_is_the_saved_one(weights: Path) -> None:
    words = list(tiny.WORDS[::-1])
    (weights / "tokenizer/words.json").write_text(json.dumps(words))
    assert load(weights).tokenizer.encode([words[0]], 40) == [[0, 5, 2]]


def test_preprocessing_lies_beside_the_weights(weights: Path) -> None:
    spec = json.loads((weights / "preprocessing.json").read_text())
    assert (spec["size"], spec["channels"], spec["mean"]) == (16, 3, list(tiny.SPEC.mean))
    stored = yaml.safe_load((weights / "recipe.yaml").read_text())
    assert stored == yaml.safe_load(RECIPE) | {"plugins": ["plugins/tiny.py"]}


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent") == f"{tmp_path / 'absent'}: no such directory"


def test_a_directory_without_weights_is_refused_with_advice(tmp_path: Path) -> None:
    assert refused(tmp_path) == (
        f"{tmp_path}: no weights; expected model.safetensors in it or in its folder weights/ (an unfinished run has "
        "checkpoints only: x2kit train --resume --run-dir finishes it)"
    )


def test_weights_without_a_recipe_are_refused(weights: Path) -> None:
    (weights / "recipe.yaml").unlink()
    assert refused(weights) == f"{weights}/recipe.yaml: not found; a weights directory needs its recipe"


@pytest.mark.parametrize("text", ["", "[]", "nothing: here"])
def test_a_recipe_without_model_is_refused(weights: Path, text: str) -> None:
    (weights / "recipe.yaml").write_text(text)
    assert refused(weights) == f"{weights}/recipe.yaml: not a recipe: the key model is missing"


@pytest.mark.parametrize("content", [b"model: [", b"\xff\xfe", b"a: 2001-99-99", b"a: " + b"[" * 5000])
def test_a_recipe_of_invalid_yaml_is_refused(weights: Path, content: bytes) -> None:
    (weights / "recipe.yaml").write_bytes(content)
    assert refused(weights).startswith(f"{weights}/recipe.yaml: damaged, or not YAML: ")


@pytest.mark.parametrize("plugins", ["7", "stubs.py", "[null]", "{a: 1}"])
def test_plugins_of_a_recipe_that_are_no_names_are_refused(weights: Path, plugins: str) -> None:
    (weights / "recipe.yaml").write_text(f"model: {{}}\nplugins: {plugins}\n")
    message = f"{weights}/recipe.yaml: plugins: expected a list of files and modules, found "
    assert refused(weights).startswith(message)


def test_every_fault_of_a_recipe_is_named_by_its_key(weights: Path) -> None:
    (weights / "recipe.yaml").write_text("model: {vision: BeitV2, heads: {embed_dim: 0}}")
    assert refused(weights).splitlines() == [
        f"{weights}/recipe.yaml: model.text: Field required",
        f"{weights}/recipe.yaml: model.fusion: Field required",
        f"{weights}/recipe.yaml: model.heads.embed_dim: Input should be greater than 0",
    ]


def test_truncated_weights_are_refused(weights: Path) -> None:
    file = weights / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    assert refused(weights).startswith(f"{file}: does not fit the model of its recipe: ")


def test_damaged_weights_are_refused(weights: Path) -> None:
    (weights / "model.safetensors").write_bytes(b"<html>not found</html>")
    assert refused(weights).startswith(f"{weights}/model.safetensors: does not fit the model of its recipe: ")


def test_a_recipe_of_another_width_is_refused(weights: Path) -> None:
    edit_recipe(weights, "vision: TinyVision", "vision: {class_path: TinyVision, init_args: {width: 12}}")
    message = refused(weights)
    assert message.startswith(f"{weights}/model.safetensors: does not fit the model of its recipe: ")
    assert "vision.norm.weight" in message
    assert "[8]" in message
    assert "[12]" in message


def test_weights_with_a_tensor_too_few_are_refused(tmp_path: Path) -> None:
    save_weights(
        build(), RECIPE.replace("embed_dim: 6", "embed_dim: 6, own_text_temperature: true"), tmp_path
    )
    message = refused(tmp_path)
    assert "text_temperature" in message


def test_weights_with_a_tensor_too_many_are_refused(tmp_path: Path) -> None:
    save_weights(build(own_text_temperature=True), RECIPE, tmp_path)
    assert "text_temperature" in refused(tmp_path)


def test_a_missing_plugin_is_named(weights: Path) -> None:
    edit_recipe(weights, "plugins/tiny.py", "/gone/tiny.py")
    message = refused(weights, PluginError)
    assert f"{weights}/recipe.yaml: plugins: there is no file /gone/tiny.py" in message
    assert "--plugin PATH/tiny.py" in message


def test_an_unregistered_encoder_is_named(weights: Path) -> None:
    edit_recipe(weights, "plugins: [plugins/tiny.py]\n", "")
    start = f'{weights}/recipe.yaml: model.vision: no vision component is called "TinyVision"'
    assert refused(weights).startswith(start)
