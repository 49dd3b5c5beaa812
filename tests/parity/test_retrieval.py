"""Retrieval equals the official evaluation: features, similarity, matching scores, ranks, recall.

Runs x2kit's evaluation from images and token ids to recall.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from x2kit.model import X2VLM
from x2kit.tasks import Retrieval
from x2kit.tasks.retrieval.metric import REST, Scores, reranked
from x2kit.tasks.retrieval.ranking import candidate_mask, ranks, recalls, rerank, top_candidates
from x2kit.tasks.scoring import ImageBank, TextBank, encode_image_bank, encode_text_bank

from .conftest import REFERENCE, RecordedTokenizer, record
from .evidence import check, check_equal

TENSORS, RESULTS = "retrieval/retrieval.safetensors", "retrieval/retrieval.json"
UNIT = 1e-5
"""Features and similarity."""
LOGIT = 2e-5
RECALL = 1e-9
"""Of a percentage; both are one count divided by another."""

RECORDED: dict[str, Any] = json.loads((REFERENCE / RESULTS).read_text())


class Direction(NamedTuple):
    """Names of one direction in the product, in the recorded tensors, ranks and recalls; and its right answers."""

    field: str
    scores: str
    ranks: str
    recall: str
    answers: list[list[int]]


DIRECTIONS = (
    Direction("image_to_text", "score_i2t", "rank_of_best_positive_i2t", "txt", RECORDED["img2txt"]),
    Direction(
        "text_to_image", "score_t2i", "rank_of_positive_t2i", "img", [[row] for row in RECORDED["txt2img"]]
    ),
)


class RecordedTexts(RecordedTokenizer):
    """The texts of the recording, which are called by their numbers."""

    def __init__(self, text: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        super().__init__(text)
        lengths = tensors["in.text_atts"].sum(1).tolist()
        self.ids = [
            row[:length] for row, length in zip(tensors["in.text_ids"].tolist(), lengths, strict=True)
        ]

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        return [self.ids[int(text)][:max_length] for text in texts]


class Encoded(NamedTuple):
    """The recorded images and texts in the product, and what was recorded of them."""

    model: X2VLM
    all_images: ImageBank
    texts: TextBank
    tensors: dict[str, Tensor]

    @property
    def similarity(self) -> Tensor:
        return self.all_images.projected @ self.texts.projected.T

    def scores(self, top_k: int) -> Scores:
        """By the official way to rank."""
        config = Retrieval(top_k=top_k, rerank="matching")
        everything = torch.arange(len(self.all_images))
        found = reranked(config, self.model, self.all_images, self.texts, everything, self.similarity)
        return Scores(*(rows[:] for rows in found))


@pytest.fixture(params=DIRECTIONS, ids=lambda way: way.field)
def way(request: pytest.FixtureRequest) -> Direction:
    return request.param


@pytest.fixture(params=RECORDED["runs"])
def run(request: pytest.FixtureRequest) -> str:
    """One number of candidates."""
    return request.param


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    recording, tensors = record("xvlm"), load_file(REFERENCE / TENSORS)
    model, settings = recording.model.eval(), RECORDED["settings"]
    model.text.tokenizer = RecordedTexts(recording.config["text"], tensors)
    batch, images = settings["batch_size_test_text"], tensors["in.images"]
    numbers = [str(row) for row in range(len(tensors["in.text_ids"]))]
    return Encoded(
        model,
        encode_image_bank(model, images, len(images), batch),
        encode_text_bank(model, numbers, settings["max_tokens"], batch),
        tensors,
    )


def test_features_and_similarity(encoded: Encoded) -> None:
    found = {
        "image_feat": encoded.all_images.projected,
        "text_feat": encoded.texts.projected,
        "similarity": encoded.similarity,
    }
    for name, value in found.items():
        check(TENSORS, f"out.{name}", value, encoded.tensors[f"out.{name}"], atol=UNIT)


def test_other_pairs_have_the_recorded_score() -> None:
    check_equal(RESULTS, "settings.fill", REST, RECORDED["settings"]["fill"])


def test_matching_scores(encoded: Encoded, way: Direction, run: str) -> None:
    name = f"out.{run}.{way.scores}"
    found = getattr(encoded.scores(RECORDED["runs"][run]["k_test"]), way.field)
    check(TENSORS, name, found, encoded.tensors[name], atol=LOGIT)


def test_every_rank_with_ties_as_misses(encoded: Encoded, way: Direction, run: str) -> None:
    """A right answer that is no candidate ties with the rest, so that every wrong answer stands before it."""
    recorded = RECORDED["runs"][run]
    scores = getattr(encoded.scores(recorded["k_test"]), way.field)
    expected = [
        scores.shape[1] - len(right) if rank is None else rank
        for rank, right in zip(recorded[way.ranks], way.answers, strict=True)
    ]
    check(RESULTS, f"runs.{run}.{way.ranks}", ranks(scores, way.answers), expected)


def test_recalls(encoded: Encoded, way: Direction, run: str) -> None:
    """Those that no tie decides are the recorded ones; the others are never above them."""
    recorded = RECORDED["runs"][run]
    scores = getattr(encoded.scores(recorded["k_test"]), way.field)
    for k, share in recalls(ranks(scores, way.answers)).items():
        name = f"{way.recall}_{k}"
        official = recorded["metrics"][name]
        if name in recorded["metrics_free_of_ties"]:
            check(RESULTS, f"runs.{run}.metrics.{name}", 100 * share, official, atol=RECALL)
        assert 100 * share <= official + RECALL, name


def test_ranks_where_the_rest_keeps_its_order(encoded: Encoded, way: Direction, run: str) -> None:
    """As x2kit does it with its own scores: the same ranks among candidates, and behind them otherwise."""
    recorded, k = RECORDED["runs"][run], RECORDED["runs"][run]["k_test"]
    similarity = encoded.similarity if way.field == "image_to_text" else encoded.similarity.T
    candidates = candidate_mask(top_candidates(similarity, k), similarity.shape[1])
    logits = encoded.tensors[f"out.{run}.{way.scores}"]
    check_equal(TENSORS, f"out.{run}.{way.scores}: candidates", candidates.tolist(), (logits > REST).tolist())
    found = ranks(rerank(similarity, candidates, logits), way.answers).tolist()
    assert all(
        rank >= k if official is None else rank == official
        for rank, official in zip(found, recorded[way.ranks], strict=True)
    )


def test_no_recall_that_no_tie_decides_is_left_out(run: str) -> None:
    names = {f"{way.recall}_{k}" for way in DIRECTIONS for k in recalls(torch.zeros(1))}
    assert set(RECORDED["runs"][run]["metrics_free_of_ties"]) <= names
