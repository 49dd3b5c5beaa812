"""Fusion layers that begin as a text encoder's."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close
from x2kit_fusion import CrossBert
from x2kit_fusion.cross_bert import CrossBertEncoder

from x2kit.plugin import SettingError, WeightsError

WIDTH, CONTEXT, LAYERS = 8, 6, 5
SIZES: dict[str, Any] = {"heads": 2, "mlp_ratio": 2.0}
NORMS = ("attention.output.LayerNorm", "output.LayerNorm")
SHAPES = {
    **{f"attention.self.{part}": (WIDTH, WIDTH) for part in ("query", "key", "value")},
    "attention.output.dense": (WIDTH, WIDTH),
    "intermediate.dense": (2 * WIDTH, WIDTH),
    "output.dense": (WIDTH, 2 * WIDTH),
}


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A published BERT of five layers; layer norms have their old names."""
    directory = tmp_path / "bert"
    directory.mkdir()
    config = {
        "hidden_size": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 2,
        "intermediate_size": 2 * WIDTH,
    }
    (directory / "config.json").write_text(json.dumps(config))
    tensors: dict[str, Tensor] = {"bert.embeddings.word_embeddings.weight": torch.randn(20, WIDTH)}
    for number in range(LAYERS):
        layer = f"bert.encoder.layer.{number}"
        for part, shape in SHAPES.items():
            tensors[f"{layer}.{part}.weight"] = torch.randn(shape)
            tensors[f"{layer}.{part}.bias"] = torch.randn(shape[0])
        for part in NORMS:
            tensors[f"{layer}.{part}.gamma"] = torch.randn(WIDTH)
            tensors[f"{layer}.{part}.beta"] = torch.randn(WIDTH)
    save_file(tensors, directory / "model.safetensors")
    return directory


def built(**settings: Any) -> CrossBertEncoder:
    encoder = CrossBert(**SIZES, **settings).build(WIDTH, CONTEXT)
    assert isinstance(encoder, CrossBertEncoder)
    return encoder


def assert_layer(encoder: CrossBertEncoder, number: int, bert: Path, origin: int) -> None:
    tensors, layer = load_file(bert / "model.safetensors"), encoder.layers[number]
    begin = f"bert.encoder.layer.{origin}"
    own = layer.self_attention
    parts = [tensors[f"{begin}.attention.self.{name}.weight"] for name in ("query", "key", "value")]
    assert_close(own.query.weight, parts[0])
    assert_close(own.key_value.weight, torch.cat(parts[1:]))
    assert_close(own.output.bias, tensors[f"{begin}.attention.output.dense.bias"])
    assert_close(own.norm.weight, tensors[f"{begin}.attention.output.LayerNorm.gamma"])
    assert_close(layer.intermediate.weight, tensors[f"{begin}.intermediate.dense.weight"])
    assert_close(layer.output.weight, tensors[f"{begin}.output.dense.weight"])
    assert_close(layer.norm.bias, tensors[f"{begin}.output.LayerNorm.beta"])


def test_the_last_layers_of_the_file_fill_all_but_the_cross_attention(bert: Path) -> None:
    encoder = built(pretrained=str(bert), layers=2)
    assert_layer(encoder, 0, bert, LAYERS - 2)
    assert_layer(encoder, 1, bert, LAYERS - 1)
    names = {name for name, _ in encoder.named_parameters()}
    assert encoder.fresh() == {name for name in names if ".cross_attention." in name}


def test_chosen_layers_come_in_the_order_that_is_written(bert: Path) -> None:
    encoder = built(pretrained=str(bert), layers=3, pretrained_layers=(3, 0, 4))
    for number, origin in enumerate((3, 0, 4)):
        assert_layer(encoder, number, bert, origin)


def test_from_scratch_everything_is_fresh() -> None:
    encoder = built(layers=1)
    assert encoder.fresh() == {name for name, _ in encoder.named_parameters()}


def test_saved_weights_need_the_directory_no_more(bert: Path, tmp_path: Path) -> None:
    config = CrossBert(**SIZES, layers=1, pretrained=str(bert))
    (bert / "config.json").unlink()
    assert len(config.build(WIDTH, CONTEXT, assets=tmp_path).state_dict())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": 6}, r"layers: 6, but .* has 5"),
        ({"layers": 1, "pretrained_layers": (5,)}, r"pretrained_layers: .* has layers 0 to 4, found 5"),
        ({"layers": 2, "pretrained_layers": (1, 1)}, "pretrained_layers: has a duplicate layer"),
        ({"layers": 3, "pretrained_layers": (1, 2)}, "pretrained_layers: has 2 layers, but layers is 3"),
        ({"heads": 4}, r"heads: 4, but .* has 2"),
        ({"mlp_ratio": 3.0}, r"mlp_ratio: 3.0, but .* has 2.0"),
    ],
)
def test_settings_that_the_file_cannot_give_are_refused(
    bert: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingError, match=message):
        CrossBert(**{**SIZES, "pretrained": str(bert), **settings}).describe(WIDTH, CONTEXT)


def test_another_width_is_refused(bert: Path) -> None:
    message = re.escape(f"pretrained: {bert} is 8 wide, but the text encoder's width is 16")
    with pytest.raises(SettingError, match=message):
        CrossBert(**SIZES, pretrained=str(bert), layers=1).describe(16, CONTEXT)


def test_layers_of_no_file_are_refused() -> None:
    with pytest.raises(SettingError, match="pretrained_layers: needs pretrained weights"):
        CrossBert(**SIZES, pretrained_layers=(0,)).describe(WIDTH, CONTEXT)


def test_a_file_that_lacks_a_tensor_is_refused_by_name(bert: Path) -> None:
    file = bert / "model.safetensors"
    tensors = load_file(file)
    del tensors["bert.encoder.layer.4.output.dense.weight"]
    save_file(tensors, file)
    with pytest.raises(WeightsError, match=r"missing: encoder\.layer\.4\.output\.dense\.weight"):
        built(pretrained=str(bert), layers=1)
