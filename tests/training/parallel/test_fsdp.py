"""FSDP: what is gathered at once, and which ranks share a copy."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from x2kit_fusion import CrossBert, DoubledCross

from tests.model import tiny
from x2kit.errors import X2KitError
from x2kit.model import X2VLM, build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.training.parallel import fsdp
from x2kit.training.parallel.fsdp import embedding_unit, make_mesh, replicated, units_of


@pytest.fixture(autouse=True)
def every_head_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fsdp, "LARGE_HEAD", 100)


def built(fusion: object, **heads: object) -> X2VLM:
    config = ModelConfig(
        vision=tiny.TinyVision(), text=tiny.TinyText(), fusion=fusion, heads=HeadsConfig(embed_dim=6, **heads)
    )
    return build_model(config)


def unit_names(model: X2VLM) -> list[str]:
    names = {module: name for name, module in model.named_modules()}
    return [names[unit] for unit in units_of(model)]


def test_layers_projections_of_contexts_and_large_heads_are_units() -> None:
    assert unit_names(built(CrossBert(layers=3, heads=2))) == [
        "fusion.layers.0.cross_attention.key_value",
        "fusion.layers.1.cross_attention.key_value",
        "fusion.layers.0",
        "fusion.layers.1",  # the last layer is called as often as the rows of a rank need
        "itm_head",
        "bbox_head",  # the masked-language head shares the word embedding
    ]


def test_a_projection_that_two_layers_share_is_one_unit() -> None:
    names = unit_names(built(DoubledCross(layers=2, heads=2)))
    assert [name for name in names if "key_value" in name] == [
        f"fusion.layers.{layer}.cross_attention.key_value" for layer in (0, 2)
    ]
    assert {"fusion.layers.0", "fusion.layers.1", "fusion.layers.2"} <= set(names)


def test_an_encoder_that_declares_nothing_has_its_layers_but_a_fusion_encoder_none() -> None:
    model = built(tiny.TinyFusion())
    model.text.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.GELU()) for _ in range(2))
    model.fusion.layers = nn.ModuleList(nn.Sequential(nn.Linear(8, 8), nn.GELU()) for _ in range(2))
    assert unit_names(model)[:2] == ["text.layers.0", "text.layers.1"]
    assert not [name for name in unit_names(model) if name.startswith("fusion")]


def test_layers_that_share_a_parameter_are_no_units() -> None:
    model = built(CrossBert(layers=4, heads=2))
    layers = model.fusion.layers
    layers[1].intermediate = layers[0].intermediate  # the same module
    layers[2].output.weight = layers[3].output.weight  # a tied matrix of a layer that is no unit
    assert [name for name in unit_names(model) if name.count(".") == 2] == []


def test_a_layer_around_a_shared_projection_is_no_unit() -> None:
    model = built(CrossBert(layers=4, heads=2))
    first, second, *_ = (layer.cross_attention.key_value for layer in model.fusion.layers)
    first.weight = second.weight
    of_fusion = [name for name in unit_names(model) if name.startswith("fusion")]
    assert of_fusion == ["fusion.layers.2.cross_attention.key_value", "fusion.layers.2"]


def test_the_word_embedding_is_a_unit_unless_the_masked_language_head_shares_it() -> None:
    assert embedding_unit(built(tiny.TinyFusion())) is None
    alone = built(tiny.TinyFusion(), tie_mlm=False)
    assert embedding_unit(alone) is alone.text.embedding
    assert "mlm_head" in unit_names(alone)


def test_vectors_and_scalars_stay_whole() -> None:
    model = built(CrossBert(layers=1, heads=2))
    assert {parameter.ndim for parameter in replicated(model)} == {0, 1}
    assert any(parameter is model.temperature for parameter in replicated(model))


def test_ranks_that_cannot_be_divided_are_refused() -> None:
    expected = r"training\.shard_ranks: 4, but 6 ranks .*; allowed with 6 ranks: 1, 2, 3, 6, or null for all"
    with pytest.raises(X2KitError, match=expected):
        make_mesh(torch.device("cpu"), 6, 4)
