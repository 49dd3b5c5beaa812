"""TimmVision: many families of encoders through one component."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from timm.models import save_for_hf
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close
from x2kit_timm import TimmVision

from x2kit.plugin import SettingError, WeightsError

VIT: dict[str, Any] = {"embed_dim": 16, "depth": 2, "num_heads": 2}
SMALL: dict[str, dict[str, Any]] = {
    "Swin v2": {
        "architecture": "swinv2_tiny_window8_256",
        "image_size": 64,
        "arguments": {"embed_dim": 8, "depths": [1, 1], "num_heads": [1, 2], "window_size": 4},
    },
    "ConvNeXt": {
        "architecture": "convnext_tiny",
        "image_size": 64,
        "arguments": {"dims": [8, 8, 8, 16], "depths": [1, 1, 1, 1]},
    },
    "EVA-02": {"architecture": "eva02_base_patch14_224", "image_size": 42, "arguments": VIT},
    "DINOv2": {"architecture": "vit_small_patch14_reg4_dinov2", "image_size": 42, "arguments": VIT},
    "DINOv3": {"architecture": "vit_base_patch16_dinov3", "image_size": 48, "arguments": VIT},
    "SigLIP": {"architecture": "vit_base_patch16_siglip_224", "image_size": 48, "arguments": VIT},
    "CLIP": {"architecture": "vit_base_patch16_clip_224", "image_size": 48, "arguments": VIT},
}
GRIDS = dict.fromkeys(SMALL, (3, 3)) | {"Swin v2": (8, 8), "ConvNeXt": (2, 2)}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
STATISTICS = dict.fromkeys(SMALL, IMAGENET) | {"SigLIP": HALF}


def small(name: str, **settings: Any) -> TimmVision:
    return TimmVision(**{**SMALL[name], **settings})


def all_images(side: int) -> Tensor:
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def publish(name: str, directory: Path, **arguments: Any) -> timm.models.VisionTransformer:
    """A model with a classifier or its own pooling, in a folder as timm writes one for the hub."""
    settings = SMALL[name]
    sized = {} if name == "ConvNeXt" else {"img_size": settings["image_size"]}
    torch.manual_seed(0)
    model = timm.create_model(
        settings["architecture"], **{**settings["arguments"], **sized, **arguments}
    ).eval()
    for parameter in model.parameters():  # so that a norm that is left out is seen
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 1, 0.3)
    save_file(model.state_dict(), directory / "model.safetensors")
    about = {
        "architecture": settings["architecture"],
        "model_args": settings["arguments"],
        "pretrained_cfg": {
            "input_size": [3, settings["image_size"], settings["image_size"]],
            "mean": [0.1, 0.2, 0.3],
            "std": [0.4, 0.5, 0.6],
            "interpolation": "bilinear",
        },
    }
    (directory / "config.json").write_text(json.dumps(about))
    return model


@pytest.mark.conformance(
    *(small(name) for name in SMALL),
    small("DINOv2", summary="cls"),
    small("CLIP", summary="cls", drop_path=0.1),
    small("DINOv2", channels=1, value_range=(0, 4095)),
    small("Swin v2", channels=8, value_range=(0, 10000), mean=(0.2,) * 8, std=(0.1,) * 8),
    small("ConvNeXt", channels=4),
)
def test_a_family_keeps_the_contract(conformance: Callable[[], None]) -> None:
    conformance()


@pytest.mark.parametrize("name", SMALL)
def test_what_is_known_of_a_model_is_what_timm_says(name: str) -> None:
    facts = small(name).describe()
    assert (facts.width, facts.grid, facts.image.size) == (16, GRIDS[name], SMALL[name]["image_size"])
    if name not in ("EVA-02", "CLIP"):  # which have the statistics of CLIP's images
        assert (facts.image.mean, facts.image.std) == STATISTICS[name]


@pytest.mark.parametrize("name", SMALL)
def test_pretrained_patches_pooled_are_timms_own_features(name: str, tmp_path: Path) -> None:
    """By the model's own pooling where it is the mean of patches or the class token; EVA-02's norm is behind it."""
    model = publish(name, tmp_path)
    encoder = TimmVision(pretrained=str(tmp_path)).build().eval()
    images = all_images(encoder.image_spec.size)
    found, expected = encoder(images), model.forward_features(images)
    if name == "Swin v2":
        expected = expected.flatten(1, 2)
    elif name == "ConvNeXt":
        norm = model.head.norm
        expected = F.layer_norm(expected.flatten(2).transpose(1, 2), (16,), norm.weight, norm.bias, norm.eps)
    elif name == "EVA-02":
        expected = model.fc_norm(expected)
    assert_close(found.patches, expected[:, getattr(model, "num_prefix_tokens", 0) :])
    assert_close(found.summary, found.patches.mean(1))
    assert encoder.fresh() == set()
    assert (encoder.image_spec.std, encoder.image_spec.interpolation) == ((0.4, 0.5, 0.6), "bilinear")


@pytest.mark.parametrize("name", ["CLIP", "DINOv2"])
def test_the_class_token_may_be_the_summary(name: str, tmp_path: Path) -> None:
    model = publish(name, tmp_path)
    encoder = TimmVision(pretrained=str(tmp_path), summary="cls").build().eval()
    images = all_images(encoder.image_spec.size)
    assert_close(encoder(images).summary, model.forward_features(images)[:, 0])


def test_registers_are_no_patches() -> None:
    encoder = small("DINOv2").build().eval()
    assert encoder.model.num_prefix_tokens == 5  # a class token and four registers
    assert encoder(all_images(42)).patches.shape == (2, 9, 16)


def test_pooling_by_attention_is_not_built_and_not_missed(tmp_path: Path) -> None:
    assert publish("SigLIP", tmp_path).attn_pool is not None
    encoder = TimmVision(pretrained=str(tmp_path)).build()
    assert not any("attn_pool" in name for name, _ in encoder.named_parameters())


@pytest.mark.parametrize("trained_with", ["avg", "token"])
def test_a_norm_behind_the_pooling_and_one_of_all_tokens_are_one(trained_with: str, tmp_path: Path) -> None:
    model = publish("EVA-02", tmp_path, global_pool=trained_with)
    encoder = TimmVision(pretrained=str(tmp_path)).build().eval()
    norm = model.fc_norm if trained_with == "avg" else model.norm
    images = all_images(42)
    expected = model.forward_features(images)
    expected = norm(expected) if trained_with == "avg" else expected
    assert_close(encoder(images).patches, expected[:, 1:])


@pytest.mark.parametrize("name", ["DINOv2", "SigLIP", "EVA-02", "DINOv3", "Swin v2", "ConvNeXt"])
def test_weights_are_read_for_another_image_size(name: str, tmp_path: Path) -> None:
    publish(name, tmp_path)
    config = TimmVision(pretrained=str(tmp_path))
    larger = config.at_image_size(2 * config.describe().image.size)
    encoder = larger.build()
    assert encoder.grid == tuple(2 * side for side in config.describe().grid)
    state = config.build().state_dict()
    encoder.load_state_dict(encoder.fit(state))  # weights of a run at the smaller size
    assert encoder.eval()(all_images(encoder.image_spec.size)).patches.isfinite().all()


def test_a_saved_encoder_needs_its_pretrained_folder_no_more(tmp_path: Path) -> None:
    publish("DINOv2", tmp_path)
    config = TimmVision(pretrained=str(tmp_path))
    encoder = config.build().eval()
    encoder.save_assets(tmp_path / "assets")
    for name in ("model.safetensors", "config.json"):
        (tmp_path / name).unlink()
    again = config.build(tmp_path / "assets").eval()
    again.load_state_dict(encoder.state_dict())
    assert again.image_spec == encoder.image_spec
    assert_close(again(all_images(42)).patches, encoder(all_images(42)).patches)


def test_damaged_assets_are_refused(tmp_path: Path) -> None:
    config = small("CLIP")
    config.build().save_assets(tmp_path)
    (tmp_path / "timm.json").write_text("{}")
    with pytest.raises(WeightsError, match=r"timm\.json: cannot be read as a timm model"):
        config.build(tmp_path)


def test_weights_that_lack_a_tensor_are_refused_by_name(tmp_path: Path) -> None:
    publish("DINOv2", tmp_path)
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    del tensors["blocks.1.attn.qkv.weight"]
    save_file(tensors, file)
    with pytest.raises(WeightsError, match=r"missing: blocks\.1\.attn\.qkv\.weight"):
        TimmVision(pretrained=str(tmp_path)).build()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "architecture: required: the name of a model of timm"),
        (
            {"architecture": "vit_bse_patch14_dinov2"},
            'architecture: timm has no model "vit_bse_patch14_dinov2"; nearest: "vit_base_patch14_dinov2"',
        ),
        (
            {**SMALL["DINOv2"], "image_size": 44},
            "image_size: 44 pixels are not a multiple of 14, .*; use 42 or 56",
        ),
        (
            {**SMALL["ConvNeXt"], "image_size": 20},
            "image_size: 20 pixels are not a multiple of 32, .*; use 32",
        ),
        (
            {**SMALL["SigLIP"], "summary": "cls"},
            'summary: "cls", but vit_base_patch16_siglip_224 has no class token',
        ),
        ({**SMALL["ConvNeXt"], "arguments": {"width": 8}}, "arguments: timm cannot build convnext_tiny with"),
        ({**SMALL["CLIP"], "pretrained": "./nowhere"}, "pretrained: nowhere does not exist"),
    ],
)
def test_impossible_settings_are_refused_before_a_weight_is_made(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        TimmVision(**settings).describe()


@pytest.mark.parametrize(
    ("name", "side", "grid", "width"),
    [
        ("vit_base_patch14_dinov2", 518, 37, 768),
        ("vit_large_patch16_dinov3", 256, 16, 1024),
        ("vit_base_patch16_siglip_256", 256, 16, 768),
        ("eva02_base_patch14_448", 448, 32, 768),
        ("swinv2_base_window8_256", 256, 8, 1024),
        ("convnextv2_base", 224, 7, 1024),
        ("hiera_base_224", 224, 7, 768),
    ],
)
def test_models_of_full_size_are_known_without_their_memory(
    name: str, side: int, grid: int, width: int
) -> None:
    facts = TimmVision(architecture=name).describe()
    assert (facts.image.size, facts.grid, facts.width) == (side, (grid, grid), width)


def test_images_of_other_channels_have_the_mean_of_the_statistics_unless_others_are_given() -> None:
    image = small("DINOv2", channels=1, value_range=(0, 4095)).describe().image
    assert (image.channels, image.value_range) == (1, (0, 4095))
    assert image.mean == pytest.approx((sum(IMAGENET[0]) / 3,))
    image = small("DINOv2", channels=2, mean=(0.1, 0.2)).describe().image
    assert (image.mean, image.std) == ((0.1, 0.2), pytest.approx((sum(IMAGENET[1]) / 3,) * 2))


@pytest.mark.parametrize("name", SMALL)
def test_a_folder_that_timm_wrote_is_read_at_any_size(name: str, tmp_path: Path) -> None:
    """timm writes its arguments with the number of classes and the image size of the model that it saves."""
    side = SMALL[name]["image_size"]
    model = publish(name, tmp_path)
    save_for_hf(model, str(tmp_path), safe_serialization=True, data_config={"input_size": (3, side, side)})
    for size in (None, 2 * side):
        encoder = TimmVision(pretrained=str(tmp_path), image_size=size).build().eval()
        assert encoder.image_spec.size == (size or side)
        assert encoder(all_images(encoder.image_spec.size)).patches.shape[2] == 16


@pytest.mark.parametrize("name", ["DINOv2", "ConvNeXt", "Swin v2"])
def test_published_weights_of_colour_read_a_grey_image_as_they_read_its_colours(
    name: str, tmp_path: Path
) -> None:
    publish(name, tmp_path)
    colour = TimmVision(pretrained=str(tmp_path)).build().eval()
    grey = TimmVision(pretrained=str(tmp_path), channels=1, value_range=(0, 65535)).build().eval()
    one = all_images(colour.image_spec.size)[:, :1]
    assert_close(grey(one).patches, colour(one.expand(-1, 3, -1, -1)).patches)
    assert grey.image_spec.mean == pytest.approx((0.2,))


def test_published_weights_of_colour_are_repeated_for_more_bands(tmp_path: Path) -> None:
    publish("DINOv2", tmp_path)
    bands = TimmVision(pretrained=str(tmp_path), channels=6, value_range=(0, 10000)).build().eval()
    colour = TimmVision(pretrained=str(tmp_path)).build().eval()
    one = all_images(42)
    assert_close(bands(one.repeat(1, 2, 1, 1)).patches, colour(one).patches)


def test_a_saved_encoder_of_bands_needs_its_pretrained_folder_no_more(tmp_path: Path) -> None:
    (tmp_path / "published").mkdir()
    publish("DINOv2", tmp_path / "published")
    config = TimmVision(pretrained=str(tmp_path / "published"), channels=8, value_range=(0, 10000))
    encoder = config.build()
    encoder.save_assets(tmp_path / "assets")
    again = TimmVision(architecture=SMALL["DINOv2"]["architecture"]).build(tmp_path / "assets")
    assert again.image_spec == encoder.image_spec
    again.load_state_dict(encoder.state_dict())


def test_weights_of_another_model_are_not_gone_on_from() -> None:
    one, other = (
        TimmVision(architecture="vit_base_patch14_dinov2"),
        TimmVision(architecture="vit_base_patch16_siglip_224"),
    )
    assert one.reads_weights_of(TimmVision(architecture="vit_base_patch14_dinov2"))
    assert not one.reads_weights_of(other)
