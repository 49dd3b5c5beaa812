"""The checks of vision encoders: a right one passes, and each mistake is found by the check made for it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from x2kit.plugin import ImageSpec, VisionEncoder, VisionEncoderConfig, VisionFacts, VisionFeatures
from x2kit.testing import checks

Mistake = Literal[
    "", "width", "columns first", "batch", "constant", "noise", "detached", "unused", "left behind", "float32",
    "assets", "strange names", "region rows", "seed", "bad facts",
]  # fmt: skip


class Blocks(VisionEncoderConfig):
    """A linear layer on 4 × 4 blocks of the image, with a mistake if one is asked for."""

    mistake: Mistake = Field("", description="what is wrong with it")

    def describe(self) -> VisionFacts:
        return VisionFacts(ImageSpec(12), 6, (3, 2) if self.mistake == "bad facts" else (3, 3))

    def build(self, assets: Path | None = None) -> VisionEncoder:
        return BlocksEncoder(self.mistake, assets)


class BlocksEncoder(VisionEncoder):
    def __init__(self, mistake: str, assets: Path | None) -> None:
        super().__init__()
        self.image_spec, self.width, self.grid = ImageSpec(12), 6, (3, 3)
        self.mistake = mistake
        self.project = nn.Conv2d(3, 6, 4, 4)
        if mistake == "unused":
            self.unused = nn.Linear(2, 2)
        if mistake == "left behind":
            self.scale = torch.ones(1)
        if mistake == "assets" and assets is not None:
            self.width = 7
        if mistake == "seed":
            nn.init.normal_(
                self.project.weight, generator=torch.Generator().manual_seed(torch.seed() % 2**32)
            )

    def forward(self, images: Tensor) -> VisionFeatures:
        patches = self.project(images)
        if self.mistake == "columns first":
            patches = patches.transpose(2, 3)
        if self.mistake == "noise":
            patches = patches + torch.randn_like(patches)
        if self.mistake == "batch":
            patches = patches - patches.mean(0)
        if self.mistake == "constant":
            patches = patches * 0 + 1
        if self.mistake == "detached":
            patches = patches.detach()
        if self.mistake == "float32":
            patches = patches + torch.zeros(1, dtype=torch.float32)
            patches = patches.float()
        patches = patches.flatten(2).transpose(1, 2)
        if self.mistake == "width":
            patches = torch.cat([patches, patches], 2)
        return VisionFeatures(patches.mean(1), patches, self.grid)

    def pool_regions(self, features: VisionFeatures, rows: Tensor, mask: Tensor) -> Tensor:
        if self.mistake == "region rows":
            rows = torch.arange(len(rows))
        return super().pool_regions(features, rows, mask)

    def no_decay(self) -> set[str]:
        return {"no such parameter"} if self.mistake == "strange names" else set()


# The settings of this test import torch, which the settings of a plugin must not.
LAWS = [check for check in checks("vision") if check.__name__ != "the_module_imports_no_torch"]


@pytest.mark.parametrize("check", LAWS)
def test_a_right_encoder_passes(check: object) -> None:
    check(Blocks())


@pytest.mark.parametrize(
    ("mistake", "name", "said"),
    [
        ("width", "shapes_are_as_declared", r"summary is \[4, 12\], expected \[B, D\] = \[4, 6\]"),
        ("bad facts", "facts_are_true", r"describe\(\) says grid \(3, 2\), the encoder has \(3, 3\)"),
        ("columns first", "patches_are_row_major", "patches are row by row"),
        ("batch", "images_do_not_mix", "an image alone has another summary than in a batch"),
        ("constant", "images_matter", "two images have the same summary"),
        ("noise", "evaluation_is_deterministic", "two runs in eval mode differ"),
        ("detached", "gradients_reach_every_parameter", "the outputs have no graph"),
        ("unused", "gradients_reach_every_parameter", "no gradient reaches unused.weight"),
        ("left behind", "every_tensor_moves_with_it", "scale stays behind; use register_buffer"),
        ("float32", "it_follows_its_dtype", "moved to float64 it returns torch.float32"),
        ("assets", "saved_and_loaded_it_is_the_same", "width is 7 after loading, it was 6"),
        ("strange names", "declared_names_exist", r"no_decay\(\) names what is no parameter"),
        ("region rows", "regions_are_pooled_row_by_row", "pooled alone differs"),
        ("seed", "the_seed_decides_the_weights", "weights differ with the same seed"),
    ],
)
def test_each_mistake_is_named(mistake: Mistake, name: str, said: str) -> None:
    check = next(check for check in LAWS if check.__name__ == name)
    with pytest.raises(AssertionError, match=f"Blocks: {name}: .*{said}"):
        check(Blocks(mistake=mistake))


class Raising(Blocks):
    """An encoder that cannot be built."""

    def build(self, assets: Path | None = None) -> VisionEncoder:
        raise KeyError("weight of the stem")


def test_what_the_encoder_raises_is_told_with_its_line() -> None:
    line = Raising.build.__code__.co_firstlineno + 1
    with pytest.raises(
        AssertionError,
        match=rf"Raising: images_matter: it raised KeyError: 'weight of the stem' \(.*test_vision\.py, line {line}\)",
    ):
        next(check for check in LAWS if check.__name__ == "images_matter")(Raising())
