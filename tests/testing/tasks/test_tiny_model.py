"""The model of the kit keeps what it asks of tasks: rows and padding do not show."""

from __future__ import annotations

import torch

from x2kit.model.config import HeadsConfig
from x2kit.model.x2vlm import X2VLM, image_context
from x2kit.plugin import VisionFeatures, causal_mask
from x2kit.testing.tasks.tiny_model import SPEC, Words, tiny_model

TEXTS = ["a red square", "a square that is green", "blue"]


def model() -> X2VLM:
    return tiny_model(HeadsConfig(decoder_layers=1), TEXTS, seed=0)


def images(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(count, 3, SPEC.size, SPEC.size, generator=generator)


def fused(tiny: X2VLM, texts: list[str], features: VisionFeatures, rows: torch.Tensor) -> torch.Tensor:
    ids, mask = tiny.tokenize(texts)
    return tiny.fuse(tiny.encode_texts(ids, mask), mask, image_context(features, rows))[:, 0]


def test_the_seed_is_that_of_the_weights_and_the_global_state_stays() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one, other = model(), model()
    assert torch.equal(torch.get_rng_state(), before)
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_words_are_decoded_and_unknown_ones_are_left_out() -> None:
    words = Words(TEXTS)
    (ids,) = words.encode(["a red car"], 10)
    assert words.decode(ids) == "a red"
    assert words.encode(["a red square"], 4)[0] == [1, *ids[1:3], 2]


def test_a_row_is_fused_alone_as_in_a_batch_with_one_image_or_two() -> None:
    tiny = model()
    features = tiny.encode_images(images(3))
    for rows in (torch.tensor([0, 1, 2]), torch.tensor([[0, 1], [1, 2], [2, 0]])):
        together = fused(tiny, TEXTS, features, rows)
        for number, text in enumerate(TEXTS):
            alone = fused(tiny, [text], features, rows[number : number + 1])
            torch.testing.assert_close(together[number], alone[0], rtol=0, atol=1e-5)
    other = fused(tiny, TEXTS, features, torch.tensor([[1, 0], [1, 2], [2, 0]]))
    assert not torch.allclose(together[0], other[0], atol=1e-3)  # the order of images shows


def test_a_text_is_read_from_left_to_right_under_a_causal_mask() -> None:
    tiny = model()
    ids, _ = tiny.tokenize(TEXTS[1])
    places = torch.arange(ids.shape[1])[None]
    sees = causal_mask(ids.shape[1], ids.shape[1], ids.device)
    whole = tiny.text.read_partly(ids, sees, places)
    part = tiny.text.read_partly(ids[:, :3], sees[:, :3, :3], places[:, :3])
    torch.testing.assert_close(whole[:, :3], part, rtol=0, atol=1e-5)


def test_the_decoder_sees_the_tokens_before_and_the_question() -> None:
    tiny = model()
    ids, mask = tiny.tokenize(TEXTS[:1])
    context, kept = torch.randn(1, 4, 16), torch.tensor([[True, True, False, False]])
    logits = tiny.decoder(ids, mask, context, kept)
    assert logits.shape == (1, ids.shape[1], tiny.tokenizer.vocab_size)
    torch.testing.assert_close(tiny.decoder(ids[:, :2], mask[:, :2], context, kept), logits[:, :2])
    context[:, 2:] = 9
    torch.testing.assert_close(tiny.decoder(ids, mask, context, kept), logits)
