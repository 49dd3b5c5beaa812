"""Rows with one image and rows with two share the prepared images of a step, in separate calls."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close
from x2kit_fusion import DoubledCross

from tests.model import tiny
from x2kit.model import X2VLM, build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.model.x2vlm import image_context
from x2kit.training.step.fusion_pass import FusionPass


@pytest.fixture
def model() -> X2VLM:
    torch.manual_seed(0)
    fusion = DoubledCross(layers=1, heads=2, dropout=0.0, init_std=0.3)
    heads = HeadsConfig(embed_dim=6, context_positions=0.5)
    return build_model(
        ModelConfig(vision=tiny.TinyVision(), text=tiny.TinyText(), fusion=fusion, heads=heads)
    ).eval()


def test_a_pass_equals_separate_calls(model: X2VLM) -> None:
    features = model.encode_images(torch.rand(4, 3, 16, 16))
    text = model.encode_texts(*model.tokenize(["a red dog", "a cat", "the sun and the moon"]))
    mask = torch.ones(text.shape[:2], dtype=torch.bool)
    one = image_context(features, torch.tensor([0, 2, 2]))
    two = image_context(features, torch.tensor([[0, 3], [3, 2], [2, 2]]))
    region = one._replace(mask=torch.rand(3, features.patches.shape[1]) < 0.7)
    contexts = {"one": one, "two": two, "region": region, "none": None}
    step = FusionPass()
    for name, context in contexts.items():
        step.add((name, "loss"), text, mask, context, summary=name == "two")
    fused = step.run(model, features)
    for name, context in contexts.items():
        read = slice(0, 1) if name == "two" else slice(None)
        wanted = model.fuse(text, mask, context)
        assert_close(fused[name, "loss"][:, read], wanted[:, read], rtol=0, atol=1e-5)
