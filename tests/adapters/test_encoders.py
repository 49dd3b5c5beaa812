"""Every first-party encoder in open_clip's form: the vectors of x2kit, also with parameters in half precision."""

from __future__ import annotations

from itertools import cycle

import numpy as np
import pytest
import torch
from PIL import Image

from tests.data.stubs import WORDS
from tests.plugins.debug_settings import FUSION, TEXT, VISION
from x2kit.adapters.open_clip import create_model_and_transforms, get_tokenizer
from x2kit.inference import Model
from x2kit.model import build_model
from x2kit.model.config import HeadsConfig, ModelConfig

PAIRS = [*zip(VISION, cycle(TEXT), strict=False)]
TEXTS = [" ".join(WORDS[:2]), WORDS[2], ""]


@pytest.mark.slow
@pytest.mark.parametrize(("vision", "text"), PAIRS)
@torch.no_grad()
def test_an_encoder_gives_its_vectors_in_any_precision(vision: str, text: str) -> None:
    heads = HeadsConfig(embed_dim=8)
    config = ModelConfig(
        vision=VISION[vision], text=TEXT[text], fusion=next(iter(FUSION.values())), heads=heads
    )
    torch.manual_seed(0)
    model = Model(build_model(config, texts=[*WORDS] * 3).eval(), "small")
    towers, _, preprocess = create_model_and_transforms(model)
    images = [Image.new("RGB", (40, 30), colour) for colour in ("red", "green")]
    pixels, ids = torch.stack([preprocess(image) for image in images]), get_tokenizer(model)(TEXTS)
    exact = towers.encode_image(pixels, normalize=True), towers.encode_text(ids, normalize=True)
    for features, own in zip(
        exact, (model.embed_images(images), model.embed_texts(TEXTS, allow_empty=True)), strict=True
    ):
        np.testing.assert_allclose(features.numpy(), own.vectors, atol=1e-6)
    for kind, tolerance in ((torch.float16, 0.005), (torch.bfloat16, 0.02)):
        cast = towers.to(kind)
        halves = cast.encode_image(pixels.to(kind), normalize=True), cast.encode_text(ids, normalize=True)
        for features, reference in zip(halves, exact, strict=True):
            torch.testing.assert_close(features, reference, atol=tolerance, rtol=0)


def test_every_text_encoder_is_among_them() -> None:
    assert {text for _, text in PAIRS} == set(TEXT)
