"""Vision transformers of timm: positions, stems, pretrained weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch.testing import assert_close
from x2kit_timm import TimmViT

from x2kit.plugin import SettingError, WeightsError
from x2kit.plugin.toolkit import sinusoid_2d

SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": 2, "num_heads": 2}
SETTINGS = {"image_size": 32, "patch_size": 8, "width": 16, "depth": 2, "heads": 2}


@pytest.fixture
def published(tmp_path: Path) -> tuple[Path, torch.nn.Module]:
    """A directory as timm writes one for the hub, and the model in it."""
    model = timm.create_model("vit_tiny_patch16_224", num_classes=5, **SIZES).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    half = [0.5, 0.5, 0.5]
    config = {"pretrained_cfg": {"mean": half, "std": half, "interpolation": "bilinear"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path, model


def test_pretrained_features_are_timms_own(published: tuple[Path, timm.models.VisionTransformer]) -> None:
    directory, model = published
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = model.forward_features(images)
    found = TimmViT(**SETTINGS, summary="cls", pretrained=str(directory)).build().eval()(images)
    assert_close(found.summary, expected[:, 0])
    assert_close(found.patches, expected[:, 1:])


def test_images_of_pretrained_weights_are_normalised_as_published(
    published: tuple[Path, torch.nn.Module], tmp_path: Path
) -> None:
    config = TimmViT(**SETTINGS, pretrained=str(published[0]))
    image = config.describe().image
    assert (image.mean, image.std, image.interpolation) == ((0.5,) * 3, (0.5,) * 3, "bilinear")
    encoder = config.build()
    encoder.save_assets(tmp_path / "assets")
    (tmp_path / "model.safetensors").unlink()  # saved weights must not need the pretrained ones
    assert config.build(tmp_path / "assets").image_spec == image


def test_nothing_is_fresh_after_pretrained_weights(published: tuple[Path, torch.nn.Module]) -> None:
    assert TimmViT(**SETTINGS, pretrained=str(published[0])).build().fresh() == set()
    from_scratch = TimmViT(**SETTINGS).build()
    assert from_scratch.fresh() == {name for name, _ in from_scratch.named_parameters()}


def test_weights_for_another_image_size_are_resized(published: tuple[Path, torch.nn.Module]) -> None:
    encoder = TimmViT(**{**SETTINGS, "image_size": 48}, pretrained=str(published[0])).build()
    assert encoder.model.pos_embed.shape == (1, 37, 16)
    assert encoder.grid == (6, 6)


def test_weights_of_another_size_are_refused_by_name(published: tuple[Path, torch.nn.Module]) -> None:
    with pytest.raises(WeightsError, match=r"missing: blocks\.2\.") as error:
        TimmViT(**{**SETTINGS, "depth": 3}, pretrained=str(published[0])).build()
    assert "model.safetensors" in str(error.value)


def test_a_norm_after_pooling_is_read_as_the_final_norm(tmp_path: Path) -> None:
    model = timm.create_model("vit_tiny_patch16_224", num_classes=0, global_pool="avg", **SIZES)
    torch.nn.init.constant_(model.fc_norm.weight, 2.0)
    torch.save({"model": model.state_dict()}, tmp_path / "weights.pth")
    encoder = TimmViT(**SETTINGS, pretrained=str(tmp_path / "weights.pth")).build()
    assert (encoder.model.norm.weight == 2).all()


def test_a_truncated_file_is_refused(published: tuple[Path, torch.nn.Module]) -> None:
    file = published[0] / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(WeightsError, match="damaged, or not a file of weights"):
        TimmViT(**SETTINGS, pretrained=str(published[0])).build()


def test_an_architecture_that_is_no_vit_is_refused() -> None:
    for name in ("resnet18", "no_such_model"):
        with pytest.raises(SettingError, match=f'architecture: timm cannot build "{name}"'):
            TimmViT(architecture=name, **SETTINGS).build()


def test_positions_tell_rows_from_columns() -> None:
    positions = sinusoid_2d((3, 4), 8).view(3, 4, 8)
    assert_close(positions[:, 0, :4], positions[:, 3, :4])  # the first half is the row's
    assert_close(positions[0, :, 4:], positions[2, :, 4:])
    assert len(positions.view(12, 8).unique(dim=0)) == 12


def test_the_position_embedding_starts_as_the_scaled_sinusoid() -> None:
    encoder = TimmViT(**SETTINGS, position_scale=0.5).build()
    assert_close(encoder.model.pos_embed[0, 1:], 0.5 * sinusoid_2d((4, 4), 16))
    assert encoder.no_decay() >= {"model.pos_embed"}
