"""Rows with one image and rows with two share the prepared images of a step, in separate calls."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from x2kit_fusion import CrossBert, DoubledCross, LightCross, PreNormCross

from tests.model import tiny
from x2kit.model import X2VLM, build_model, packing
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.model.x2vlm import image_context
from x2kit.plugin import Context, FusionEncoderConfig
from x2kit.training.step import fusion_pass
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


SETTINGS = {"heads": 2, "dropout": 0.0, "init_std": 0.3}
FUSION = {
    "CrossBert": CrossBert(layers=2, **SETTINGS),
    "LightCross": LightCross(layers=3, **SETTINGS),
    "PreNormCross": PreNormCross(layers=2, **SETTINGS),
    "DoubledCross": DoubledCross(layers=1, **SETTINGS),
    "packs none": tiny.TinyFusion(),
}
LENGTHS = [3, 9, 5, 1, 7]


@pytest.mark.parametrize("host_reads", [True, False], ids=["cpu", "accelerator"])
@pytest.mark.parametrize("config", FUSION.values(), ids=FUSION)
def test_packed_rows_equal_padded_ones(
    config: FusionEncoderConfig, host_reads: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every kind of row, with the gradients of texts, images and regions."""
    for module in (packing, fusion_pass):
        monkeypatch.setattr(module, "host_reads", lambda device: host_reads)
    torch.manual_seed(0)
    heads = HeadsConfig(embed_dim=6, context_positions=0.5)
    model = build_model(
        ModelConfig(vision=tiny.TinyVision(), text=tiny.TinyText(), fusion=config, heads=heads)
    ).eval()
    features = model.encode_images(torch.rand(4, 3, 16, 16))
    features = features._replace(patches=features.patches.detach().requires_grad_())
    text = torch.rand(5, 10, model.text.width, requires_grad=True)
    mask = torch.arange(10) < torch.tensor(LENGTHS)[:, None]
    rows = torch.tensor([0, 2, 2, 3, 2])
    whole = image_context(features, rows)
    patches = torch.rand(5, features.patches.shape[1]) < 0.6
    lead = torch.rand(5, 1, features.patches.shape[2], requires_grad=True)
    causal = mask[:, None] & torch.ones(10, 10, dtype=torch.bool).tril()
    added: dict[str, tuple[Tensor, Context | None, bool]] = {
        "whole": (mask, whole, False),
        "region": (mask, whole._replace(mask=patches, lead=lead), True),
        "boxes": (mask, whole, True),
        "alone": (mask, None, False),
        "texts": (mask, Context(text.flip(0), rows, mask.flip(0)[rows]), False),
        "few": (mask[:2], Context(text, rows[:2], mask[rows[:2]]), True),
    }
    if not isinstance(config, tiny.TinyFusion):
        added["partly"] = (causal, whole, False)
    if isinstance(config, DoubledCross):
        two = image_context(features, torch.stack([rows, rows.flip(0)], 1))
        added |= {"two": (mask, two, False), "two read": (mask, two, True)}
    step = FusionPass()
    for name, (of_rows, context, summary) in added.items():
        step.add((name, "loss"), text[: len(of_rows)], of_rows, context, summary, LENGTHS[: len(of_rows)])
    fused = step.run(model, features)
    leaves = [text, features.patches, lead]
    for name, (of_rows, context, summary) in added.items():
        count = len(of_rows)
        wanted = model.fuse(text[:count], of_rows, context)
        read = mask[:count] & (torch.arange(10) < 1 if summary else mask[:count])
        found = fused[name, "loss"]
        assert found.shape == wanted.shape
        assert_close(found[read], wanted[read], rtol=0, atol=1e-5)
        weights = torch.rand(wanted[read].shape, generator=torch.Generator().manual_seed(1))
        ours, plain = (
            torch.autograd.grad((of[read] * weights).sum(), leaves, allow_unused=True, retain_graph=True)
            for of in (found, wanted)
        )
        for one, other in zip(ours, plain, strict=True):
            if other is None:
                assert one is None or not one.any()
            else:
                assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rows", [0, 3])
def test_ranks_without_rows_call_the_encoder_as_often_as_others(model: X2VLM, rows: int) -> None:
    features = model.encode_images(torch.rand(2, 3, 16, 16))
    step = FusionPass()
    calls: list[object] = []
    model.fusion.register_forward_pre_hook(lambda module, given: calls.append(given))
    for stream, count in (("images", rows), ("regions", 0)):
        step.add(
            (stream, "itm"),
            torch.rand(count, 8, model.text.width),
            torch.arange(8).expand(count, -1) < 5,
            Context(features.patches, torch.zeros(count).long(), None, torch.rand(count, 1, 8)),
            summary=True,
        )
    fused = step.run(model, features)
    assert [*map(len, fused.values())] == [rows, 0]
    assert all(part.shape[1:] == (8, model.fusion.width) and part.requires_grad for part in fused.values())
    assert len(calls) == 1
