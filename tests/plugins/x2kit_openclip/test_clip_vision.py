"""The vision tower of open_clip: the contract, and weights as open_clip publishes them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from open_clip.model import CLIP
from safetensors.torch import save_file
from torch.testing import assert_close
from x2kit_openclip import ClipVision
from x2kit_openclip.encoder import POSITIONS

from x2kit.plugin import SettingError, WeightsError
from x2kit.plugin.toolkit.positions import resize_positions

SETTINGS = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "heads": 1}
VISION = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2}


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, CLIP]:
    """A directory as open_clip writes one for the hub, and the model in it."""
    text = {"context_length": 8, "vocab_size": 32, "width": 16, "heads": 2, "layers": 1}
    model = CLIP(embed_dim=12, vision_cfg=VISION, text_cfg=text, quick_gelu=True).eval()
    save_file(model.state_dict(), tmp_path / "open_clip_model.safetensors")
    all_images = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bicubic"}
    config = {
        "model_cfg": {"embed_dim": 12, "quick_gelu": True, "vision_cfg": VISION, "text_cfg": text},
        "preprocess_cfg": all_images,
    }
    (tmp_path / "open_clip_config.json").write_text(json.dumps(config))
    return tmp_path, model


@pytest.mark.conformance(
    ClipVision(image_size=32, patch_size=8, width=16, layers=2, heads=2),
    ClipVision(image_size=32, patch_size=8, width=16, layers=1, heads=2, quick_gelu=True),
)
def test_it_keeps_the_contract(conformance: Callable[[], None]) -> None:
    conformance()


def test_the_summary_projected_is_clips_own_feature(published: tuple[Path, CLIP]) -> None:
    directory, model = published
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    encoder = ClipVision(**SETTINGS, quick_gelu=True, pretrained=str(directory)).build().eval()
    summary = encoder(images).summary
    assert_close(summary @ model.visual.proj, model.encode_image(images))
    assert encoder.fresh() == set()


def test_statistics_are_the_published_ones_and_travel(published: tuple[Path, CLIP], tmp_path: Path) -> None:
    config = ClipVision(**SETTINGS, quick_gelu=True, pretrained=str(published[0]))
    encoder = config.build()
    assert encoder.image_spec.std == (0.25, 0.25, 0.25)
    encoder.save_assets(tmp_path / "assets")
    (published[0] / "open_clip_model.safetensors").unlink()
    assert config.build(tmp_path / "assets").image_spec == encoder.image_spec


def test_another_image_size_resizes_positions(published: tuple[Path, CLIP]) -> None:
    settings = {**SETTINGS, "image_size": 48, "quick_gelu": True}
    encoder = ClipVision(**settings, pretrained=str(published[0])).build()
    assert encoder.model.positional_embedding.shape == (37, 64)


def test_positions_are_fitted_to_another_image_size_and_the_rest_is_left() -> None:
    config = ClipVision(**SETTINGS)
    state = config.build().state_dict()
    encoder = config.at_image_size(48).build()
    fitted = encoder.fit(state)
    encoder.load_state_dict(fitted)
    assert_close(fitted[POSITIONS], resize_positions(state[POSITIONS], (6, 6)), rtol=0, atol=0)
    assert torch.equal(fitted[POSITIONS][0], state[POSITIONS][0])
    assert all(fitted[name] is value for name, value in state.items() if name != POSITIONS)
    others = {name: value for name, value in state.items() if name != POSITIONS}
    assert encoder.fit(others) == others  # a state without positions: nothing to do


def test_settings_that_the_published_model_contradicts_are_refused(published: tuple[Path, CLIP]) -> None:
    with pytest.raises(SettingError, match=r"quick_gelu: .* was trained with True"):
        ClipVision(**SETTINGS, pretrained=str(published[0])).describe()
    with pytest.raises(SettingError, match=r"layers: 3, but .* has 2"):
        ClipVision(**{**SETTINGS, "layers": 3}, quick_gelu=True, pretrained=str(published[0])).describe()


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(SettingError, match="image_size: 30 pixels are not a multiple of 8"):
        ClipVision(image_size=30, patch_size=8).describe()
    with pytest.raises(SettingError, match="heads: 7 heads do not divide the width 768"):
        ClipVision(heads=7).describe()


def test_a_file_without_a_vision_tower_is_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(WeightsError, match="it is no open_clip model"):
        ClipVision(**SETTINGS, pretrained=str(tmp_path)).build()
