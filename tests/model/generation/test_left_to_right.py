"""Reading captions from left to right: masks and positions, kept keys and values, sampling."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close
from x2kit_fusion import CrossBert
from x2kit_transformers import Bert

from tests.model.tiny import TinyTokenizer, TinyVision
from x2kit.errors import ShapeError
from x2kit.model import X2VLM, build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.model.generation.beam_search import Search
from x2kit.model.generation.left_to_right import (
    CaptionReader,
    caption_states,
    draw_captions,
    reading_order,
    write_captions,
)
from x2kit.model.x2vlm import image_context
from x2kit.plugin import Tokenizer, VisionFeatures

PROMPT = [0, 5]


class BertOfWords(Bert):
    """BERT on the words of the tests."""

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        return TinyTokenizer()


@pytest.fixture(scope="module")
def model() -> X2VLM:
    torch.manual_seed(0)
    config = ModelConfig(
        vision=TinyVision(width=16),
        text=BertOfWords(layers=2, width=16, heads=2, max_length=20),
        fusion=CrossBert(layers=2, heads=2, init_std=0.3),
        heads=HeadsConfig(built=("mlm",)),
    )
    model = build_model(config).eval()
    for parameter in model.text.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.fixture(scope="module")
def features(model: X2VLM) -> VisionFeatures:
    return model.encode_images(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(1)))


def from_the_start(model: X2VLM, features: VisionFeatures, ids: torch.Tensor, masked: bool) -> torch.Tensor:
    """Log-probabilities of the next token, all tokens read again."""
    if masked:
        ids = torch.nn.functional.pad(ids, (0, 1), value=model.tokenizer.special.mask)
    context = image_context(features, torch.arange(2).repeat_interleave(len(ids) // 2))
    states = caption_states(model, ids, torch.zeros_like(ids, dtype=torch.bool), context)
    return model.mlm_head(states, torch.full((len(ids), 1), ids.shape[1] - 1))[:, 0].log_softmax(-1)


@pytest.mark.parametrize("masked", [True, False])
def test_kept_keys_and_values_change_nothing(model: X2VLM, features: VisionFeatures, masked: bool) -> None:
    reader = CaptionReader(model, features, 3, masked)
    draw = torch.Generator().manual_seed(2)
    ids, origin = torch.tensor([PROMPT]).expand(6, -1), torch.arange(6)
    for _ in range(4):
        assert_close(reader(ids, origin), from_the_start(model, features, ids, masked), rtol=1e-5, atol=1e-5)
        # Beams move within their image, and the same beam may go on twice.
        origin = torch.randint(3, (6,), generator=draw) + torch.arange(6) // 3 * 3
        ids = torch.cat([ids[origin], torch.randint(5, 20, (6, 1), generator=draw)], 1)


def test_each_token_is_read_once(model: X2VLM, features: VisionFeatures) -> None:
    seen: list[int] = []
    hook = model.fusion.layers[0].intermediate.register_forward_hook(
        lambda module, args, out: seen.append(args[0].shape[1])
    )
    write_captions(model, features, PROMPT, Search(num_beams=2, min_length=3, max_length=4))
    hook.remove()
    assert seen == [3, 2, 2, 2]  # the prompt or the last token, and the mask


def test_greedy_samples_are_the_likeliest_tokens(model: X2VLM, features: VisionFeatures) -> None:
    search = Search(num_beams=1, min_length=0, max_length=6, unique_ngrams=None, refill=True)
    written = [text.ids for text in write_captions(model, features, PROMPT, search, masked=False)]
    drawn = draw_captions(model, features, PROMPT, 1, 6, None).tolist()
    assert [row[: len(text)] for row, text in zip(drawn, written, strict=True)] == written


def test_samples_follow_the_distribution(model: X2VLM, features: VisionFeatures) -> None:
    drawn = draw_captions(model, features, PROMPT, 4000, 1, torch.Generator().manual_seed(0))
    counts = torch.stack([row.bincount(minlength=26) for row in drawn[:, 0].view(2, -1)]) / 4000
    expected = from_the_start(model, features, torch.tensor([PROMPT] * 2), masked=False).exp()
    assert_close(counts, expected, rtol=0, atol=0.03)


def test_the_end_token_follows_the_first_one(model: X2VLM, features: VisionFeatures) -> None:
    drawn = draw_captions(model, features, PROMPT, 40, 12, torch.Generator().manual_seed(3))
    ended = (drawn == model.tokenizer.special.sep).long()
    assert ended.any()
    assert (ended.cummax(1).values == ended).all()


def test_captions_that_may_exceed_the_text_encoder_are_refused(
    model: X2VLM, features: VisionFeatures
) -> None:
    with pytest.raises(ShapeError, match=r"prompt \(2 tokens\) and max_length \(19\) exceed the 20 tokens"):
        write_captions(model, features, PROMPT, Search(max_length=19))


def test_without_inserted_masks_each_token_sees_itself_and_those_before() -> None:
    sees, positions = reading_order(torch.zeros(2, 3, dtype=torch.bool))
    assert sees[1].int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]
    assert positions.tolist() == [[0, 1, 2]] * 2


def test_an_inserted_mask_has_its_tokens_position_and_is_seen_by_itself_only() -> None:
    sees, positions = reading_order(torch.tensor([[False, True, False, True, False]]))
    assert positions.tolist() == [[0, 1, 1, 2, 2]]
    assert sees[0].int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 0, 1, 0, 0],
        [1, 0, 1, 1, 0],
        [1, 0, 1, 0, 1],
    ]
