"""One pass over images and videos, and over texts, gives the results of separate calls."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from x2kit_fusion import CrossBert
from x2kit_transformers import HuggingFaceText

from tests.model import tiny
from tests.training.conftest import texts
from x2kit.model import X2VLM, build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.plugin import IdsOnly, SpecialIds, TextEncoderConfig
from x2kit.training.step.encoder_passes import encode_pieces, vision_pass


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


def text_model(packs: bool) -> X2VLM:
    torch.manual_seed(0)
    text: TextEncoderConfig = tiny.TinyText()
    if packs:
        text = HuggingFaceText(
            family="bert", layers=2, width=16, heads=2, max_length=24, dropout=0.0, summary="cls"
        )
    fusion = CrossBert(layers=1, heads=2, dropout=0.0)
    heads = HeadsConfig(embed_dim=6)
    model = build_model(
        ModelConfig(vision=tiny.TinyVision(), text=text, fusion=fusion, heads=heads),
        tokenizer=IdsOnly(60, SpecialIds(1, 0, 2, 3, 4)),
    )
    assert model.text.packs == packs
    return model.eval()


@pytest.mark.parametrize("equal_calls", [True, False])
@pytest.mark.parametrize("packs", [True, False])
def test_texts_of_all_lengths_equal_separate_calls(packs: bool, equal_calls: bool) -> None:
    model = text_model(packs)
    pieces = {
        ("images", "0"): texts([3, 16, 9, 2], 16, seed=0),
        ("regions", "0"): texts([4, 5, 3], 8, seed=1),
        ("none", "0"): texts([], 8, seed=1),
    }
    if packs:
        partly = texts([11, 4], 16, seed=2)
        sees = partly.mask[:, None] & torch.ones(16, 16, dtype=torch.bool).tril()
        pieces["captions", "0"] = partly._replace(mask=sees, positions=torch.arange(16).expand(2, 16))
    found = encode_pieces(model, pieces, equal_calls)
    assert found.keys() == pieces.keys()
    assert found.pop(("none", "0")).shape == (0, 8, model.text.width)
    for key, piece in [(key, pieces[key]) for key in found]:
        wanted = model.encode_texts(piece.ids, piece.mask, piece.positions)
        assert found[key].shape == wanted.shape
        kept = piece.mask if piece.positions is None else piece.mask.diagonal(dim1=1, dim2=2)
        assert_close(found[key][kept], wanted[kept], rtol=0, atol=1e-5)


def test_a_rank_whose_texts_are_all_long_calls_the_encoder_as_often_as_others() -> None:
    model = text_model(packs=False)
    calls: list[tuple[int, ...]] = []
    model.text.register_forward_pre_hook(lambda module, given: calls.append(tuple(given[0].shape)))
    for lengths in ([16, 15], [3, 2], [3, 16]):
        encode_pieces(model, {("images", "0"): texts(lengths, 16, seed=0)}, equal_calls=True)
    assert calls == [(1, 8), (2, 16), (2, 8), (1, 16), (1, 8), (1, 16)]
