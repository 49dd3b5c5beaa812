"""Retrieval with an index gives the numbers of the retrieval task's metric."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from tests.search.conftest import Index
from x2kit.errors import DataError
from x2kit.inference import Model
from x2kit.search import SearchHit, open_index
from x2kit.search.evaluating import DEPTH, evaluate_index, rank_of, read_captions
from x2kit.tasks.retrieval.ranking import ranks, recalls

CAPTIONS = ("a red dog", "the moon", "a green cat", "a tree and a boat")


@pytest.fixture
def captions(photos: Path) -> Path:
    files = sorted(photos.rglob("*.png"))
    rows = [
        {
            "image": str(file.relative_to(photos)),
            "caption": {"en": CAPTIONS[number % 4], "de": ["ein roter hund"]},
        }
        for number, file in enumerate(files)
    ]
    written = photos / "captions.jsonl"
    written.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return written


def test_recall_equals_that_of_the_whole_matrix(
    index: Index, photos: Path, place: Path, model: Model, captions: Path
) -> None:
    index()
    with open_index(place, model) as opened:
        result = evaluate_index(opened, read_captions(captions))
    files = sorted(photos.rglob("*.png"))
    texts = [CAPTIONS[number % 4] for number in range(8)]
    answers = [[other for other in range(8) if texts[other] == texts[number]] for number in range(8)]
    similarity = torch.from_numpy(model.similarity(files, texts)).T
    expected = recalls(ranks(similarity, answers))
    found = result["languages"]["en"]
    assert {key: found[key] for key in expected} == expected
    assert (found["queries"], found["chance_r1"], found["missing"]) == (8, 0.25, 0)
    assert (result["candidates"], result["search"]) == (8, "exact")
    german = result["languages"]["de"]
    assert (german["r1"], german["chance_r1"]) == (1.0, 1.0)  # one sentence: every image is a positive


def test_captions_without_their_image_are_misses(
    index: Index, photos: Path, place: Path, model: Model
) -> None:
    index()
    with open_index(place, model) as opened:
        result = evaluate_index(opened, {"": [("a dog", str(photos / "nothing.png"))]})
    assert result["languages"]["captions"]["missing"] == 1
    assert result["languages"]["captions"]["r10"] == 0


def test_ties_count_as_misses() -> None:
    hits = [SearchHit("a", 0.5), SearchHit("b", 0.5), SearchHit("c", 0.5), SearchHit("d", 0.1)]
    assert rank_of(hits, {"a"}) == 2
    assert rank_of(hits, {"a", "b"}) == 1
    assert rank_of(hits, {"d"}) == 3
    assert rank_of(hits, {"e"}) == DEPTH


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"caption": "a"}', "expected"),
        ('{"image": "a.png", "caption": 3}', "found 3"),
        ("[]", "a JSON list"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "c.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=message) as error:
        read_captions(tmp_path / "c.jsonl")
    assert "c.jsonl" in str(error.value)
