"""Swin: names of released checkpoints, pretrained weights."""

from __future__ import annotations

from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch.testing import assert_close
from x2kit_timm import Swin

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
