"""OpenClipVision: the towers of open_clip's models through one component."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.testing import assert_close
from x2kit_openclip import OpenClipVision

from x2kit.plugin import SettingError, WeightsError

VIT: dict[str, Any] = {"width": 16, "layers": 2, "head_width": 8, "patch_size": 8}
CLIP_TOWER: dict[str, Any] = {"tower": "ViT-B-16", "image_size": 32, "vision": VIT}
SIGLIP_TOWER: dict[str, Any] = {
    "tower": "ViT-B-16-SigLIP2",
    "image_size": 48,
    "vision": {"timm_model_name": "test_vit"},
}


def all_images(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def publish(directory: Path, model: nn.Module, prefix: str, vision: dict[str, Any]) -> None:
    """A folder as open_clip writes one for the hub."""
    state = {f"{prefix}{name}": value for name, value in model.state_dict().items()}
    state["logit_scale"] = torch.tensor(1.0)
    save_file(state, directory / "open_clip_model.safetensors")
    about = {
        "model_cfg": {"embed_dim": 12, "vision_cfg": vision, "text_cfg": {}},
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic"},
    }
    (directory / "open_clip_config.json").write_text(json.dumps(about))


@pytest.mark.conformance(
    OpenClipVision(**CLIP_TOWER), OpenClipVision(**CLIP_TOWER, summary="cls"), OpenClipVision(**SIGLIP_TOWER)
)
def test_a_tower_keeps_the_contract(conformance: Callable[[], None]) -> None:
    conformance()


def test_the_class_token_projected_is_clips_own_feature(tmp_path: Path) -> None:
    vision = {**VIT, "image_size": 32}
    text = {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1}
    model = CLIP(embed_dim=12, vision_cfg=vision, text_cfg=text).eval()
    publish(tmp_path, model.visual, "visual.", vision)
    encoder = OpenClipVision(pretrained=str(tmp_path), summary="cls").build().eval()
    images = all_images(32)
    assert_close(encoder(images).summary @ model.visual.proj, model.encode_image(images))
    assert encoder.grid == (4, 4)
    assert encoder.fresh() == set()


@pytest.fixture
def siglip(tmp_path: Path) -> tuple[Path, nn.Module]:
    """A tower of timm with pooling by attention, as SigLIP's are."""
    torch.manual_seed(0)
    trunk = timm.create_model("test_vit", img_size=48, num_classes=0, global_pool="map").eval()
    vision = {"image_size": 48, "timm_model_name": "test_vit", "timm_pool": "map", "timm_proj": "none"}
    publish(tmp_path, trunk, "visual.trunk.", vision)
    return tmp_path, trunk


def test_a_tower_of_timm_gives_timms_patches(siglip: tuple[Path, nn.Module]) -> None:
    directory, trunk = siglip
    encoder = OpenClipVision(pretrained=str(directory)).build().eval()
    images = all_images(48)
    assert_close(encoder(images).patches, trunk.forward_features(images)[:, trunk.num_prefix_tokens :])
    assert encoder.image_spec.mean == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("settings", [CLIP_TOWER, SIGLIP_TOWER], ids=["CLIP", "SigLIP"])
def test_positions_follow_the_image_size(settings: dict[str, Any]) -> None:
    config = OpenClipVision(**settings)
    larger = config.at_image_size(2 * settings["image_size"])
    encoder = larger.build().eval()
    encoder.load_state_dict(encoder.fit(config.build().state_dict()))
    assert encoder.grid == tuple(2 * side for side in config.describe().grid)


def test_a_saved_tower_needs_its_pretrained_folder_no_more(siglip: tuple[Path, nn.Module]) -> None:
    directory, _ = siglip
    config = OpenClipVision(pretrained=str(directory))
    encoder = config.build().eval()
    encoder.save_assets(directory / "assets")
    (directory / "open_clip_model.safetensors").unlink()
    again = config.build(directory / "assets").eval()
    again.load_state_dict(encoder.state_dict())
    assert again.image_spec == encoder.image_spec
    assert_close(again(all_images(48)).patches, encoder(all_images(48)).patches)


def test_weights_of_another_kind_of_tower_are_refused(siglip: tuple[Path, nn.Module]) -> None:
    with pytest.raises(WeightsError, match="does not fit VisionTransformer"):
        OpenClipVision(**CLIP_TOWER, pretrained=str(siglip[0])).build()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "tower: required: the name of a model of open_clip"),
        ({"tower": "ViT-B-16-SigLIP3"}, 'tower: open_clip has no model "ViT-B-16-SigLIP3"; nearest: "ViT-'),
        ({"tower": "RN50"}, "tower: its features are pooled by attention"),
        (
            {"tower": "convnext_base"},
            "tower: its convnext_base has no patch tokens .*TimmVision",
        ),
        ({**CLIP_TOWER, "image_size": 36}, "image_size: 36 pixels are not a multiple of 8; use 32 or 40"),
        ({**SIGLIP_TOWER, "tower": "ViT-B-16", "vision": {"widht": 8}}, 'no key "widht"; nearest: "width"'),
        (
            {"tower": "ViT-B-16-SigLIP2", "summary": "cls"},
            'summary: "cls", but ViT-B-16-SigLIP2 has no class token',
        ),
    ],
)
def test_impossible_settings_are_refused_before_a_weight_is_made(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        OpenClipVision(**settings).describe()


@pytest.mark.parametrize(
    ("name", "side", "grid", "width"),
    [
        ("ViT-B-16-SigLIP2-256", 256, 16, 768),
        ("ViT-L-14", 224, 16, 1024),
        ("EVA02-B-16", 224, 14, 768),
        ("ViT-SO400M-16-SigLIP2-384", 384, 24, 1152),
    ],
)
def test_towers_of_full_size_are_known_without_their_memory(
    name: str, side: int, grid: int, width: int
) -> None:
    facts = OpenClipVision(tower=name).describe()
    assert (facts.image.size, facts.grid, facts.width) == (side, (grid, grid), width)


def test_weights_of_another_tower_are_not_gone_on_from() -> None:
    one, other = OpenClipVision(tower="ViT-B-16"), OpenClipVision(tower="ViT-B-16-SigLIP2")
    assert one.reads_weights_of(OpenClipVision(tower="ViT-B-16"))
    assert not one.reads_weights_of(other)
