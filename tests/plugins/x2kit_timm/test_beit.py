"""BEiT-v2 against the recorded values of the official implementation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from x2kit_timm import BeitV2

from x2kit.plugin import VisionEncoder
from x2kit.plugin.toolkit import resize_relative_positions

REFERENCE = Path(__file__).parents[2] / "reference"
PREFIX = "vision_encoder."


def official(name: str) -> tuple[BeitV2, dict[str, torch.Tensor]]:
    """Settings and vision tensors of a recorded model, the latter with official names."""
    vision = json.loads((REFERENCE / name / "config.json").read_text())["vision"]
    config = BeitV2(
        image_size=vision["image_res"],
        patch_size=vision["patch_size"],
        width=vision["embed_dim"],
        depth=vision["depth"],
        heads=vision["num_heads"],
        mlp_ratio=vision["mlp_ratio"],
        init_values=vision["init_values"],
        drop_path=vision["drop_path"],
    )
    tensors = load_file(REFERENCE / name / "model.safetensors")
    return config, {
        key.removeprefix(PREFIX): value for key, value in tensors.items() if key.startswith(PREFIX)
    }


def filled(config: BeitV2, tensors: dict[str, torch.Tensor]) -> VisionEncoder:
    encoder = config.build()
    encoder.load_state_dict({own: tensors[name] for own, (name,) in encoder.official_names().items()})
    return encoder


@pytest.mark.parametrize("name", ["xvlm", "cclm"])
def test_vision_tokens_are_the_official_ones(name: str) -> None:
    encoder = filled(*official(name))
    batch = load_file(REFERENCE / name / "image_batch.safetensors")
    out = encoder(batch["in.image"])
    tokens = torch.cat([out.summary[:, None], out.patches], 1)
    # 2e-5 is the recommended tolerance of token embeddings; a wrong norm epsilon moves them by 1e-4
    assert_close(tokens, batch["out.image_embeds"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("name", ["xvlm", "cclm"])
def test_region_summaries_are_the_official_ones(name: str) -> None:
    encoder = filled(*official(name))
    batch = load_file(REFERENCE / name / "region_batch.safetensors")
    rows, mask = batch["in.idx_to_group_img"], batch["in.image_atts"][:, 1:].bool()
    summary = encoder.pool_regions(encoder(batch["in.image"]), rows, mask)
    assert_close(summary, batch["out.image_embeds"][:, 0], rtol=0, atol=2e-5)


def test_official_keys_are_all_but_what_follows_from_the_grid() -> None:
    config, tensors = official("xvlm")
    unused = set(tensors) - {name for (name,) in config.build().official_names().values()}
    assert {name.rpartition(".")[2] for name in unused} == {"relative_position_index"}


def test_a_shared_table_is_copied_to_each_block(tmp_path: Path) -> None:
    config, tensors = official("xvlm")
    shared = torch.randn(52, 4, generator=torch.Generator().manual_seed(0))
    published = {name: value for name, value in tensors.items() if "relative_position" not in name}
    published["rel_pos_bias.relative_position_bias_table"] = shared
    published["head.weight"] = torch.zeros(3, 40)
    save_file(published, tmp_path / "beit.safetensors")
    encoder = config.model_copy(update={"pretrained": str(tmp_path / "beit.safetensors")}).build()
    for block in encoder.model.blocks:
        assert_close(block.attn.relative_position_bias_table, shared)
    assert encoder.fresh() == set()


def test_tables_follow_the_image_size(tmp_path: Path) -> None:
    config, tensors = official("xvlm")
    save_file(tensors, tmp_path / "beit.safetensors")
    larger = config.model_copy(update={"image_size": 96, "pretrained": str(tmp_path / "beit.safetensors")})
    encoder = larger.build()
    assert encoder.grid == (6, 6)
    assert encoder.model.blocks[0].attn.relative_position_bias_table.shape == (11 * 11 + 3, 4)


def test_an_encoder_fits_its_tables_and_leaves_the_rest() -> None:
    config = BeitV2(image_size=32, patch_size=8, width=16, depth=2, heads=2)
    state = config.build().state_dict()
    larger = config.at_image_size(48).build()
    fitted = larger.fit(state)
    larger.load_state_dict(fitted)
    for name, value in state.items():
        if name.endswith("relative_position_bias_table"):
            assert torch.equal(fitted[name], resize_relative_positions(value, 6))
        else:
            assert fitted[name] is value
