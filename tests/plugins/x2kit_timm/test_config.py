"""Settings of timm's encoders, and the contract they keep."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from x2kit_timm import BeitV2, Swin, TimmVision, TimmViT, x2kit_register

from x2kit.plugin import Published, Registry, SettingError, VisionEncoderConfig

SMALL_VIT = {"image_size": 32, "patch_size": 8, "width": 16, "depth": 2, "heads": 2}


SMALL = (
    TimmViT(**SMALL_VIT),
    TimmViT(**SMALL_VIT, summary="cls", architecture="vit_small_patch14_reg4_dinov2"),
    TimmViT(**SMALL_VIT, stem="conv", class_token=False, position_scale=0.5),
    TimmViT(**SMALL_VIT, stem="conv", stem_norm="batch"),
    BeitV2(**SMALL_VIT),
    Swin(image_size=64, width=8, depths=(2, 1), heads=(1, 2), window=4),
)


@pytest.mark.conformance(*SMALL)
def test_it_keeps_the_contract(conformance: Callable[[], None]) -> None:
    conformance()


def test_every_registered_encoder_is_checked() -> None:
    registry = Registry("x2kit_timm", "x2kit")
    x2kit_register(registry)
    elsewhere = {TimmVision}  # family by family, in test_backbone.py
    assert {entry.component for entry in registry} == {type(component) for component in SMALL} | elsewhere


@pytest.mark.parametrize(
    ("component", "said"),
    [
        (TimmViT(image_size=30, patch_size=8), "image_size: 30 pixels are not a multiple of 8"),
        (BeitV2(heads=7), "heads: 7 heads do not divide the width 768"),
        (TimmViT(summary="cls", class_token=False), 'summary: "cls" needs class_token: true'),
        (TimmViT(stem="conv", image_size=48, patch_size=12), "patch_size: 12 is not a power of two"),
        (TimmViT(stem="conv", patch_size=16, width=12, heads=1), "width: 12 is not a multiple of 8"),
        (TimmViT(width=6, heads=1, position_scale=0.5), "width: 6 is not a multiple of 4"),
        (Swin(depths=(1, 1), heads=(1,)), "heads: 1 stages, but depths has 2"),
        (Swin(image_size=80), "image_size: 80 pixels are not a multiple of 32"),
        (BeitV2(pretrained="./nowhere"), "pretrained: nowhere does not exist"),
        (
            TimmViT(pretrained="no_such_vit"),
            'pretrained: "timm/no_such_vit" is not a path and not in the local cache',
        ),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_built(
    component: VisionEncoderConfig, said: str
) -> None:
    with pytest.raises(SettingError) as error:
        component.describe()
    assert said in str(error.value)


def test_pretrained_weights_exclude_what_would_replace_them(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(SettingError, match="stem: published weights have a patch stem"):
        TimmViT(stem="conv", pretrained=str(tmp_path)).describe()
    with pytest.raises(SettingError, match="position_scale: pretrained weights have their own"):
        TimmViT(position_scale=0.5, pretrained=str(tmp_path)).describe()


def test_the_licence_of_published_weights_is_that_of_timms_configuration(tmp_path: Path) -> None:
    folder = tmp_path / "vit_tiny"
    folder.mkdir()
    (folder / "config.json").write_text('{"pretrained_cfg": {"license": "apache-2.0"}}')
    assert BeitV2(pretrained=str(folder)).published() == Published("vit_tiny", False, None, "apache-2.0")
    assert BeitV2(pretrained="vit.nowhere").published() == Published("timm/vit.nowhere", True)
    assert BeitV2().published() is None
