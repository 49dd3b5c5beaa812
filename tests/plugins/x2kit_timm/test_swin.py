"""Swin: names of released checkpoints, pretrained weights, other image sizes."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.testing import assert_close
from x2kit_timm import Swin
from x2kit_timm.swin import TABLE

from x2kit.plugin import SettingError
from x2kit.plugin.toolkit import resize_relative_positions

SETTINGS = {"image_size": 64, "width": 8, "depths": (2, 1), "heads": (1, 2), "window": 4}


def test_pretrained_features_are_timms_own(tmp_path: Path) -> None:
    model = timm.models.SwinTransformer(
        img_size=64, embed_dim=8, depths=(2, 1), num_heads=(1, 2), window_size=4, num_classes=3
    ).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    encoder = Swin(**SETTINGS, pretrained=str(tmp_path)).build().eval()
    found = encoder(images)
    assert_close(found.patches, model.forward_features(images).reshape(2, 64, 16))
    assert_close(found.summary, found.patches.mean(1))
    assert encoder.fresh() == set()


def test_official_names_merge_patches_at_the_end_of_a_stage() -> None:
    keys = {own: name for own, (name,) in Swin(**SETTINGS).build().official_names().items()}
    assert keys["model.layers.1.downsample.norm.weight"] == "layers.0.downsample.norm.weight"
    assert keys["model.layers.1.blocks.0.attn.qkv.weight"] == "layers.1.blocks.0.attn.qkv.weight"


def test_weights_with_official_names_are_read(tmp_path: Path) -> None:
    encoder = Swin(**SETTINGS).build()
    official = {encoder.official_names()[name][0]: value for name, value in encoder.state_dict().items()}
    save_file(official, tmp_path / "official.safetensors")
    again = Swin(**SETTINGS, pretrained=str(tmp_path)).build()
    for name, value in encoder.state_dict().items():
        assert_close(again.state_dict()[name], value)


def test_tables_follow_the_window_of_a_larger_image() -> None:
    config = Swin(**SETTINGS)
    larger = config.at_image_size(128)
    assert (larger.image_size, larger.window) == (128, 8)
    encoder = larger.build()
    state = config.build().state_dict()
    fitted = encoder.fit(state)
    encoder.load_state_dict(fitted)
    for name, value in state.items():
        if name.endswith(TABLE):
            # Swin has no class token: all rows of its tables are about two patches
            assert_close(fitted[name], resize_relative_positions(value, 8, extra_rows=0), rtol=0, atol=0)
        else:
            assert fitted[name] is value


def test_a_stage_that_is_smaller_than_the_window_keeps_its_own() -> None:
    """timm gives a stage of 4 × 4 tokens the window 4, whatever the setting."""
    settings = {**SETTINGS, "image_size": 32, "window": 8}
    encoder = Swin(**settings).build()
    rows = {name: len(value) for name, value in encoder.state_dict().items() if name.endswith(TABLE)}
    assert set(rows.values()) == {(2 * 8 - 1) ** 2, (2 * 4 - 1) ** 2}
    fitted = encoder.fit(Swin(**SETTINGS).build().state_dict())
    assert {name: len(value) for name, value in fitted.items() if name.endswith(TABLE)} == rows


@pytest.mark.parametrize(("image_size", "window"), [(224, 7), (384, 12), (480, 15)])
def test_the_window_grows_as_in_x_vlm(image_size: int, window: int) -> None:
    larger = Swin().at_image_size(image_size)
    assert (larger.window, larger.describe().grid) == (window, (window, window))


def test_an_image_that_the_last_stage_does_not_tile_is_refused() -> None:
    with pytest.raises(SettingError, match="image_size: 400 pixels are not a multiple of 32"):
        Swin().at_image_size(400).describe()


def test_published_weights_of_another_window_are_fitted_alike(tmp_path: Path) -> None:
    before = Swin(**SETTINGS).build()
    official = {before.official_names()[name][0]: value for name, value in before.state_dict().items()}
    save_file(official, tmp_path / "official.safetensors")
    larger = Swin(**SETTINGS).at_image_size(128)
    read = larger.model_copy(update={"pretrained": str(tmp_path)}).build()
    fitted = larger.build().fit(before.state_dict())
    for name, value in read.state_dict().items():
        assert torch.equal(value, fitted[name]), name
