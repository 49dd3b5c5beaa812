"""A vision encoder at another image size: its tables, positions and features are the recorded ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor
from x2kit_timm import BeitV2

from x2kit.plugin.toolkit.positions import (
    EXTRA_ROWS,
    progression_ratio,
    resize_positions,
    resize_relative_positions,
    source_coordinates,
    window_side,
)

from .conftest import REFERENCE, record, vision_of
from .evidence import check, check_equal

TABLES, ABSOLUTE = "relpos/tables.safetensors", "relpos/absolute_pos_embed.safetensors"
SHARED, WHOLE_MODEL = (
    "relpos/shared_table_checkpoint.safetensors",
    "relpos/model_resolution_change.safetensors",
)

TABLE = 1e-5
TOKENS = 2e-5
FEATURES = 1e-5
COORDINATES = 1e-9
"""Of numbers in double precision, which the recording has in full."""

RECORDED: dict[str, Any] = json.loads((REFERENCE / "relpos/tables.json").read_text())
PATCH = 4
"""Side of a patch where only the number of patches matters."""


def cases(with_key: str | None = None) -> list[Any]:
    """Recorded changes of window; those that have a key, or a tensor of this name."""
    with safe_open(REFERENCE / TABLES, "pt") as file:
        tensors = set(file.keys())
    return [
        pytest.param(case, id=case["name"])
        for case in RECORDED["cases"]
        if with_key is None or with_key in case or f"{case['name']}.{with_key}" in tensors
    ]


def small(window: int, heads: int, depth: int = 1) -> BeitV2:
    """The smallest BEiT with such a window; 4 numbers a head."""
    return BeitV2(
        image_size=window * PATCH, patch_size=PATCH, width=4 * heads, depth=depth, heads=heads, mlp_ratio=1
    )


@pytest.mark.parametrize("case", cases())
def test_tables_are_interpolated_as_recorded(case: dict[str, Any]) -> None:
    tensors, name = load_file(REFERENCE / TABLES), case["name"]
    before = tensors[f"{name}.in"]
    check_equal("relpos/tables.json", "extra_rows", EXTRA_ROWS, RECORDED["extra_rows"])
    check_equal("relpos/tables.json", f"{name}.from_window", window_side(len(before)), case["from_window"])
    after = resize_relative_positions(before, case["to_window"])
    check(TABLES, f"{name}.out", after, tensors[f"{name}.out"], atol=TABLE)


@pytest.mark.parametrize("case", cases("source_coordinates"))
def test_old_rows_are_at_the_recorded_positions(case: dict[str, Any]) -> None:
    side, wanted = 2 * case["from_window"] - 1, 2 * case["to_window"] - 1
    file, name = "relpos/tables.json", case["name"]
    check(file, f"{name}.q", progression_ratio(side, wanted), case["q"], atol=COORDINATES)
    found = source_coordinates(side, wanted)
    check(file, f"{name}.source_coordinates", found, case["source_coordinates"], atol=COORDINATES)


@pytest.mark.parametrize("case", cases("relative_position_index"))
def test_the_index_of_a_window_is_the_recorded_one(case: dict[str, Any]) -> None:
    buffers = small(case["to_window"], case["heads"]).build().official_buffers()
    name = f"{case['name']}.relative_position_index"
    check(TABLES, name, buffers["blocks.0.attn.relative_position_index"], load_file(REFERENCE / TABLES)[name])


def test_a_shared_table_goes_to_every_block_at_the_new_window(tmp_path: Path) -> None:
    tensors = load_file(REFERENCE / SHARED)
    shared = {name.removeprefix("in."): value for name, value in tensors.items() if name.startswith("in.")}
    wanted = {name.removeprefix("out."): value for name, value in tensors.items() if name.startswith("out.")}
    (before,), (after, *_) = shared.values(), wanted.values()
    config = small(window_side(len(after)), after.shape[1], depth=len(wanted))
    write_published(
        tmp_path / "beit.safetensors", small(window_side(len(before)), after.shape[1], len(wanted)), shared
    )
    encoder = config.model_copy(update={"pretrained": str(tmp_path / "beit.safetensors")}).build()
    names, found = encoder.official_names(), encoder.state_dict()
    tables = {
        names[own][0]: value for own, value in found.items() if own.endswith("relative_position_bias_table")
    }
    check_equal(SHARED, "names of the tables", sorted(tables), sorted(wanted))
    for name, value in wanted.items():
        check(SHARED, f"out.{name}", tables[name], value, atol=TABLE)


def write_published(path: Path, config: BeitV2, shared: dict[str, Tensor]) -> None:
    """A file as BEiT publishes it: one table for all blocks, beside the tensors of each."""
    encoder = config.build()
    names = encoder.official_names()
    state = {
        names[own][0]: value.clone()
        for own, value in encoder.state_dict().items()
        if "relative_position" not in own
    }
    save_file(state | shared, path)


def absolute_cases() -> list[str]:
    with safe_open(REFERENCE / ABSOLUTE, "pt") as file:
        return sorted(name.removesuffix(".out") for name in file.keys() if name.endswith(".out"))  # noqa: SIM118


@pytest.mark.parametrize("name", absolute_cases())
def test_absolute_positions_are_resized_as_recorded(name: str) -> None:
    tensors = load_file(REFERENCE / ABSOLUTE)
    (before,), wanted = tensors[f"{name}.in"], tensors[f"{name}.out"]
    side = math.isqrt(wanted.shape[1] - 1)
    found = resize_positions(before, (side, side))
    check(ABSOLUTE, f"{name}.out", found[None], wanted, atol=TABLE)


def test_a_model_at_a_higher_resolution_gives_the_recorded_features() -> None:
    recording, tensors = record("xvlm"), load_file(REFERENCE / WHOLE_MODEL)
    with safe_open(REFERENCE / WHOLE_MODEL, "pt") as file:
        sizes = {name: int(value) for name, value in file.metadata().items()}
    model = recording.model
    config = vision_of(recording.config)
    check_equal(WHOLE_MODEL, "from_res", config.image_size, sizes["from_res"])
    check_equal(WHOLE_MODEL, "patch", config.patch_size, sizes["patch"])

    larger = config.at_image_size(sizes["to_res"]).build()
    prefix = "vision_encoder."
    own = {names[0]: name for name, names in larger.official_names().items()}
    tables = {
        own[name.removeprefix(f"in.{prefix}")]: value
        for name, value in tensors.items()
        if name.startswith(f"in.{prefix}")
    }
    fitted = larger.fit(model.vision.state_dict() | tables)
    larger.load_state_dict(fitted)
    model.vision = larger
    with torch.no_grad():
        features = model.encode_images(tensors["in.images"])
        projected = model.project_images(features.summary)

    for name, value in tensors.items():
        if name.startswith(f"out.{prefix}"):
            check(WHOLE_MODEL, name, fitted[own[name.removeprefix(f"out.{prefix}")]], value, atol=TABLE)
    tokens = torch.cat([features.summary[:, None], features.patches], 1)
    check(WHOLE_MODEL, "out.image_embeds", tokens, tensors["out.image_embeds"], atol=TOKENS)
    check(WHOLE_MODEL, "out.image_feat", projected, tensors["out.image_feat"], atol=FEATURES)
