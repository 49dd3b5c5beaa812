"""Training captions: causal, masked in place, and with inserted masks."""

from __future__ import annotations

import numpy as np
import pytest

from tests.model.tiny import TinyTokenizer
from x2kit.data.config import MaskingConfig
from x2kit.plugin import WithoutEnd
from x2kit.tasks.captioning.samples import causal_caption, masked_caption, prompt_ids

TOKENIZER = TinyTokenizer()
CLS, SEP, MASK = TOKENIZER.special.cls, TOKENIZER.special.sep, TOKENIZER.special.mask
PROMPT = prompt_ids("a sun ", TOKENIZER)
CAPTION = "the red dog and the green cat under the moon"
WORDS = TOKENIZER.encode([CAPTION], 40)[0][1:-1]
MASKING = MaskingConfig(mask_prob=0.6, max_masks=18)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_a_prompt_is_read_without_an_end() -> None:
    assert TOKENIZER.encode(["a sun"], 9)[0][:-1] == PROMPT
    assert prompt_ids("", TOKENIZER) == [CLS]


def test_causal_captions_predict_every_token_behind_the_prompt() -> None:
    found = causal_caption(PROMPT, CAPTION, TOKENIZER, 40)
    assert found.ids == [*PROMPT, *WORDS, SEP]
    assert found.labels == [*WORDS, SEP]
    assert [found.ids[place + 1] for place in found.places] == found.labels
    assert not any(found.inserted)


def test_without_a_prompt_the_first_word_is_predicted_from_the_start() -> None:
    found = causal_caption([CLS], CAPTION, TOKENIZER, 40)
    assert (found.places[0], found.labels[0]) == (0, WORDS[0])


def test_a_causal_caption_that_is_cut_keeps_its_end() -> None:
    found = causal_caption(PROMPT, CAPTION, TOKENIZER, 8)
    assert found.ids == [*PROMPT, *WORDS[:4], SEP]


@pytest.mark.parametrize("insert", [True, False])
@pytest.mark.parametrize("seed", range(5))
def test_masked_captions_predict_0_6_of_the_tokens_behind_the_prompt(insert: bool, seed: int) -> None:
    found = masked_caption(PROMPT, CAPTION, TOKENIZER, 40, MASKING, insert, rng(seed))
    assert len(found.labels) == round(0.6 * (1 + len(WORDS) + 1))
    assert min(found.places) >= len(PROMPT)
    assert found.ids[: len(PROMPT)] == PROMPT


def test_inserted_masks_stand_in_front_of_the_tokens_that_they_predict() -> None:
    found = masked_caption(PROMPT, CAPTION, TOKENIZER, 40, MASKING, True, rng())
    assert [found.ids[place] for place in found.places] == [MASK] * len(found.places)
    assert [found.ids[place + 1] for place in found.places] == found.labels
    assert [id_ for id_, new in zip(found.ids, found.inserted, strict=True) if not new] == [
        *PROMPT,
        *WORDS,
        SEP,
    ]
    assert [place for place, new in enumerate(found.inserted) if new] == found.places


def test_replacing_masks_hide_the_tokens_that_they_predict() -> None:
    found = masked_caption(PROMPT, CAPTION, TOKENIZER, 40, MASKING, False, rng())
    whole = [*PROMPT, *WORDS, SEP]
    assert [whole[place] for place in found.places] == found.labels
    assert all(found.ids[place] == whole[place] for place in range(len(whole)) if place not in found.places)
    assert any(found.ids[place] == MASK for place in found.places)
    assert not any(found.inserted)


def test_the_end_of_a_caption_can_be_chosen() -> None:
    found = [masked_caption(PROMPT, CAPTION, TOKENIZER, 40, MASKING, True, rng(seed)) for seed in range(20)]
    assert 0 < sum(SEP in caption.labels for caption in found) < 20


def test_the_number_of_choices_has_a_limit() -> None:
    masking = MaskingConfig(mask_prob=0.6, max_masks=3)
    assert len(masked_caption(PROMPT, CAPTION, TOKENIZER, 40, masking, True, rng()).labels) == 3


def test_a_masked_caption_that_is_cut_has_no_end() -> None:
    found = masked_caption(PROMPT, CAPTION, TOKENIZER, 8, MASKING, True, rng())
    assert [id_ for id_, new in zip(found.ids, found.inserted, strict=True) if not new] == [
        *PROMPT,
        *WORDS[:5],
    ]


def test_a_tokenizer_without_an_end_token_gives_the_same_captions() -> None:
    without = WithoutEnd(TOKENIZER)
    assert prompt_ids("a red", without) == prompt_ids("a red", TOKENIZER)
    for limit in (4, 5, 20):
        expected = causal_caption(prompt_ids("a", TOKENIZER), "red dog under", TOKENIZER, limit)
        assert causal_caption(prompt_ids("a", without), "red dog under", without, limit) == expected
