"""Batched scoring equals the model's public methods, one pair at a time."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.evaluation.stubs import SPEC, Listed, photo
from tests.model import plain
from x2kit.model import X2VLM
from x2kit.plugin.encoders import Context
from x2kit.tasks import scoring
from x2kit.tasks.records import RecordReader, captions
from x2kit.tasks.scoring import ImageBank, TextBank, encode_image_bank, encode_text_bank, fuse_pairs

EXACT = {"rtol": 0, "atol": 1e-6}  # float32: only the order of sums may differ
SOURCE = Listed([photo(index, captions=1 + index % 3) for index in range(11)])


@pytest.fixture
def banks(model: X2VLM) -> tuple[ImageBank, TextBank, list[str]]:
    records = RecordReader(SOURCE, SPEC)
    images = encode_image_bank(model, records.images(), len(records), 4)
    texts = captions(records.entries, "en", False, 40).texts
    return images, encode_text_bank(model, texts, 40, 4), texts


def test_vectors_do_not_depend_on_the_batch(
    model: X2VLM, banks: tuple[ImageBank, TextBank, list[str]]
) -> None:
    images, texts, words = banks
    expected = plain.similarity(model, [record["image"] for record in SOURCE.records], words)
    torch.testing.assert_close(images.projected @ texts.projected.T, expected, **EXACT)


@pytest.mark.parametrize("limits", [(1, 1), (10, 20), (10, 160), (8192, 2048)])
def test_every_pair_gets_the_score_that_it_gets_alone(
    model: X2VLM,
    banks: tuple[ImageBank, TextBank, list[str]],
    limits: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "CONTEXT_TOKENS_AT_ONCE", limits[0])
    monkeypatch.setitem(scoring.TOKENS_AT_ONCE, "cpu", limits[1])
    images, texts, words = banks
    pairs = torch.cartesian_prod(torch.arange(len(images)), torch.arange(len(words)))
    pairs = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(3))[:90]]
    reported: list[tuple[int, int]] = []
    logits = fuse_pairs(
        model, images, texts, pairs, model.itm_logits, lambda *numbers: reported.append(numbers)
    )
    boxes = fuse_pairs(model, images, texts, pairs, model.predict_bbox)
    assert reported[-1] == (90, 90)
    assert logits[:, 1].std() > 0.05  # the head distinguishes pairs, else equality would prove nothing
    shown = [SOURCE.records[index]["image"] for index in pairs[:, 0]]
    sentences = [words[index] for index in pairs[:, 1]]
    torch.testing.assert_close(logits.softmax(1)[:, 1], plain.match(model, shown, sentences), **EXACT)
    torch.testing.assert_close(boxes, plain.locate(model, shown, sentences), **EXACT)


def test_a_pass_holds_few_tokens_and_each_image_once(
    model: X2VLM, banks: tuple[ImageBank, TextBank, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(scoring.TOKENS_AT_ONCE, "cpu", 40)
    passes: list[tuple[tuple[int, ...], Tensor, int]] = []
    fuse = X2VLM.fuse

    def counted(self: X2VLM, text: Tensor, mask: Tensor, context: Context, summary_rows: int = 0) -> Tensor:
        passes.append((tuple(text.shape[:2]), context.tokens, summary_rows))
        return fuse(self, text, mask, context, summary_rows)

    monkeypatch.setattr(X2VLM, "fuse", counted)
    images, texts, words = banks
    pairs = torch.cartesian_prod(torch.arange(len(images)), torch.arange(len(words)))
    fuse_pairs(model, images, texts, pairs, model.itm_logits)
    assert all(rows * length <= 40 for (rows, length), _, _ in passes)
    assert all(rows == summary_rows for (rows, _), _, summary_rows in passes)
    assert all(len(tokens.unique(dim=0)) == len(tokens) for _, tokens, _ in passes)
    assert sum(rows for (rows, _), _, _ in passes) == len(pairs)


def test_keys_and_values_are_computed_once_per_image_and_kept_for_one_block(
    model: X2VLM, banks: tuple[ImageBank, TextBank, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(scoring.TOKENS_AT_ONCE, "cpu", 40)  # several passes for each image
    monkeypatch.setattr(scoring, "CONTEXT_TOKENS_AT_ONCE", 15)  # three images of four patches and a summary
    prepared: list[Tensor] = []

    def counted(tokens: Tensor) -> tuple[Tensor, ...]:
        prepared.append(tokens)
        return (tokens,)

    monkeypatch.setattr(model.fusion, "prepare", counted)
    images, texts, words = banks
    pairs = torch.cartesian_prod(torch.arange(len(images)), torch.arange(len(words)))
    fuse_pairs(model, images, texts, pairs, model.itm_logits)
    assert [len(tokens) for tokens in prepared] == [3, 3, 3, 2]
    assert torch.equal(torch.cat(prepared)[:, 0], images.summary)


@pytest.mark.parametrize("rows", [[0] * 30, [0, 1] * 15, list(range(30)), [0] * 20 + [1] * 7 + [2, 3, 3]])
def test_passes_hold_texts_of_similar_length_and_lose_no_pair(rows: list[int]) -> None:
    lengths = torch.randint(1, 12, (30,), generator=torch.Generator().manual_seed(1))
    owners = torch.tensor(rows)
    passes = list(scoring._passes(owners, lengths, tokens_at_once := 80))
    enough = tokens_at_once * scoring.FULL_ENOUGH
    assert sorted(torch.cat(passes).tolist()) == list(range(30))
    for places in passes:
        own = lengths[places]
        assert len(own) * own.max() <= tokens_at_once
        shorter = own[own < own.max()]  # the longest joined them because they alone were too few
        assert not len(shorter) or len(shorter) * shorter.max() < enough


def test_texts_are_cut_to_the_limit_and_to_what_the_encoder_takes(model: X2VLM) -> None:
    long = " ".join(["dog"] * 30)
    assert encode_text_bank(model, [long], 6, 4).lengths.tolist() == [6]
    assert encode_text_bank(model, [long], 400, 4).lengths.tolist() == [model.max_length]
