"""A probe of the tiny model, and a result."""

from __future__ import annotations

from typing import Any

import pytest

from tests.evaluation.stubs import Listed, photo
from x2kit.evaluation.report.probe import Probe, make_probe
from x2kit.model import X2VLM
from x2kit.tasks import Grounding, Retrieval


@pytest.fixture(scope="session")
def probe(model: X2VLM) -> Probe:
    source = Listed([photo(index) for index in range(9)])
    return make_probe(model, source, only=False, retrieval=Retrieval(), grounding=Grounding(), batch_size=4)


def language_result(r1: float, trained: bool) -> dict[str, Any]:
    direction = {"r1": r1, "r5": r1, "r10": 1.0, "queries": 500, "candidates": 500}
    directions = {"image_to_text": direction, "text_to_image": direction, "mean_r1": r1}
    return {
        "queries": 500,
        "candidates": 500,
        "chance_r1": 0.002,
        "trained_with_images": trained,
        "reranked": directions,
        **directions,
    }


def boxes_result(found: float, trained: bool) -> dict[str, Any]:
    return {"iou50": found, "regions": 1514, "chance": 0.037, "trained_with_images": trained}


@pytest.fixture
def result() -> dict[str, Any]:
    """What `x2kit evaluate` writes, without what the report does not read."""
    trained = {"en": True, "de": False, "zh": False}
    recall = {"en": 0.97, "de": 0.8, "zh": 0.7}
    return {
        "split": "test",
        "checkpoint": {"path": "weights/model.safetensors", "sha256": "other", "steps": 20},
        "data": {"records": 500, "fingerprint": "listed"},
        "model": {"parameters": 2_100_000},
        "rerank": {"method": "combined", "top_k": 16, "itm_weight": 0.5},
        "languages": {code: language_result(recall[code], trained[code]) for code in trained},
        "mean_zero_shot": 0.75,
        "mean_trained": 0.97,
        "mean_reranked_zero_shot": 0.76,
        "mean_reranked_trained": 0.98,
        "grounding": {code: boxes_result(0.5, trained[code]) for code in trained},
        "grounding_iou": 0.5,
        "warnings": [],
        "seconds": 12.0,
    }
