"""Settings from names and shapes of intact and damaged checkpoints."""

from __future__ import annotations

import re

import pytest

from tests.interop import made
from x2kit.errors import WeightsError
from x2kit.interop.layout import recognise
from x2kit.interop.recognition import first_fusion_layer, model_of
from x2kit.model.config import ModelConfig
from x2kit.plugin.registry import Registry


def settings(shapes: made.Shapes, registry: Registry, heads: int | None = None) -> ModelConfig:
    return model_of(shapes, recognise(shapes, "a.th"), registry, "a.th", tied=True, heads=heads)


def refused(shapes: made.Shapes, registry: Registry, heads: int | None = None) -> str:
    with pytest.raises(WeightsError) as error:
        settings(shapes, registry, heads)
    return str(error.value)


@pytest.mark.parametrize("name", made.inventories())
def test_settings_equal_the_recorded_ones(name: str, registry: Registry) -> None:
    shapes, recorded = made.inventory(name).shapes, made.index()[name]["config"]
    found, layout = settings(shapes, registry), recognise(shapes, name)
    assert found.vision.describe().image.size == recorded["image_res"]
    assert found.heads.embed_dim == recorded["embed_dim"]
    if "text_fusion_start_at" in recorded:
        last = recorded["text_num_hidden_layers"] - recorded["text_fusion_start_at"]
        assert found.fusion.describe(*widths(found)).layers == last
        assert first_fusion_layer(shapes, layout) == recorded["text_fusion_start_at"]


@pytest.mark.parametrize("name", made.inventories())
def test_texts_of_x_vlm_alone_have_no_end_token(name: str, registry: Registry) -> None:
    found = settings(made.inventory(name).shapes, registry)
    assert found.text.ends_texts == (not name.startswith("xvlm1"))


def test_captions_of_x_vlm_have_an_end_token(registry: Registry) -> None:
    shapes = made.inventory("xvlm1_swin_pretrain_base_224").shapes
    heads = ("vision_proj.", "text_proj.", "itm_head.", "bbox_head.")
    captioning = {key: shape for key, shape in shapes.items() if not key.startswith(heads)}
    assert settings(captioning, registry).text.ends_texts


def widths(config: ModelConfig) -> tuple[int, int]:
    return config.text.describe().width, config.vision.describe().width


def deciding(shapes: made.Shapes) -> list[str]:
    """Names without a number above 0: settings are read off the first layers, and off what is there once."""
    return [name for name in shapes if not re.search(r"[1-9]", name)]


def test_any_shape_gives_settings_or_a_refusal(small: made.Inventory, registry: Registry) -> None:
    refusals: dict[str, str] = {}
    for name in deciding(small.shapes):
        for shape in ((), (3,), (0, 0), (1, 1, 1, 1, 1), None):
            shapes = {key: value for key, value in small.shapes.items() if key != name}
            if shape is not None:
                shapes[name] = shape
            try:
                settings(shapes, registry)
            except WeightsError as error:
                refusals[name] = str(error)
    assert all(message.startswith("a.th: ") for message in refusals.values())
    assert {"vision_proj.weight", "text_encoder.bert.embeddings.word_embeddings.weight"} <= set(refusals)


def test_a_component_that_fails_on_shapes_is_named_with_the_shapes(
    small: made.Inventory, registry: Registry
) -> None:
    word = next(name for name in small.shapes if name.endswith("word_embeddings.weight"))
    message = refused({**small.shapes, word: (3,)}, registry)
    assert "the text encoder's shapes" in message
    assert "embeddings.word_embeddings.weight [3]" in message


def test_missing_keys_of_each_component_are_listed(small: made.Inventory, registry: Registry) -> None:
    shapes = {name: shape for name, shape in small.shapes.items() if "intermediate.dense.weight" not in name}
    assert ": encoder.layer.0.intermediate.dense.weight" in refused(shapes, registry)


def test_names_that_are_no_layers_are_left_to_the_account(small: made.Inventory, registry: Registry) -> None:
    layout = recognise(small.shapes, "a.th")
    shapes = {**small.shapes, f"{layout.text}encoder.layer.last.weight": (2,)}
    assert settings(shapes, registry) == settings(small.shapes, registry)


def test_heads_are_64_wide_unless_they_are_given(registry: Registry) -> None:
    shapes = made.inventory(made.inventories()[0]).shapes
    word = next(shape for name, shape in shapes.items() if name.endswith("word_embeddings.weight"))
    assert settings(shapes, registry).text.heads == word[1] // 64  # type: ignore[attr-defined]
    found = settings(shapes, registry, heads=4)
    assert (found.text.heads, found.fusion.heads) == (4, 4)  # type: ignore[attr-defined]
    assert "heads: Input should be greater than" in refused(shapes, registry, heads=-1)


@pytest.mark.parametrize(
    "names", [["a.weight"], ["vision_encoder.a"], ["text_encoder.a"], ["model.vision_encoder.a"], []]
)
def test_another_models_state_is_refused_with_its_keys(names: list[str]) -> None:
    with pytest.raises(WeightsError, match=r"a\.th: not an official checkpoint") as error:
        recognise(names, "a.th")
    assert f"found: {names[0].split('.')[0] if names else 'nothing'}" in str(error.value)
