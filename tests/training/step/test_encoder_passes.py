"""Images and the frames of videos in one call give the features of separate calls."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from x2kit_fusion import CrossBert

from tests.model import tiny
from x2kit.model import X2VLM, build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.training.step.encoder_passes import vision_pass


@pytest.fixture
def model() -> X2VLM:
    torch.manual_seed(0)
    heads = HeadsConfig(embed_dim=6, frames=3)
    fusion = CrossBert(layers=1, heads=2, dropout=0.0)
    return build_model(
        ModelConfig(vision=tiny.TinyVision(), text=tiny.TinyText(), fusion=fusion, heads=heads)
    ).eval()


@pytest.mark.parametrize("still", [0, 2])
@pytest.mark.parametrize("videos", [(), (3,), (3, 3), (2, 3, 3, 1)])
def test_one_pass_equals_separate_passes(
    model: X2VLM, still: int, videos: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    if not still and not videos:
        return
    images = torch.rand(still + sum(videos), 3, 16, 16)
    parts = [model.encode_images(images[:still])] if still else []
    start = still
    for frames in videos:
        parts.append(model.encode_video(images[None, start : start + frames]))
        start += frames
    calls: list[int] = []
    encode = model.encode_images

    def counted(all_images: Tensor) -> object:
        calls.append(len(all_images))
        return encode(all_images)

    monkeypatch.setattr(model, "encode_images", counted)
    found = vision_pass(model, images, videos)
    assert calls == [len(images)]
    torch.testing.assert_close(found.summary, torch.cat([part.summary for part in parts]))
    torch.testing.assert_close(found.patches, torch.cat([part.patches for part in parts]))
