"""Caption metrics of pycocoevalcap and of X-VLM's vendored classes (tasks_more/caption_metrics)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from x2kit.tasks.captioning.metric import DocumentFrequencies, Scores, bleu, cider, cider_d, rouge_l

from .conftest import REFERENCE
from .evidence import check, check_equal

FILE = "tasks_more/caption_metrics.json"
RECORDED: dict[str, Any] = json.loads((REFERENCE / FILE).read_text(encoding="utf-8"))
METRIC = 1e-6
SETS = {"all": slice(None), "first_three_only": slice(3)}


def words(sets: list[dict[str, Any]]) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Captions and references, split at blanks as recorded."""
    captions = [row["hypothesis"].split() for row in sets]
    return captions, [[text.split() for text in row["references"]] for row in sets]


def metrics(sets: list[dict[str, Any]]) -> dict[str, Scores]:
    given = words(sets)
    clipped = cider_d(*given)
    found = {f"Bleu_{n}": scores for n, scores in enumerate(bleu(*given), 1)}
    return found | {
        "ROUGE_L": rouge_l(*given),
        "CIDEr": clipped,  # pycocoevalcap's class has the clipping and the penalty of CIDEr-D
        "CIDEr-D": clipped,
        "CIDEr (vendored copy)": cider(*given),
    }


def chosen(name: str) -> list[dict[str, Any]]:
    if name == "without_the_empty_hypothesis":
        return [row for row in RECORDED["sets"] if row["hypothesis"]]
    return RECORDED["sets"][SETS[name]]


@pytest.mark.parametrize("name", [*SETS, "without_the_empty_hypothesis"])
def test_metrics(name: str) -> None:
    found = metrics(chosen(name))
    for metric, value in RECORDED[name]["corpus"].items():
        check(FILE, f"{name}.corpus.{metric}", found[metric].corpus, value, atol=METRIC)
    for metric, values in RECORDED[name]["per_image"].items():
        check(FILE, f"{name}.per_image.{metric}", found[metric].rows, values, atol=METRIC)


def test_document_frequencies() -> None:
    recorded = RECORDED["document_frequency_of_the_references"]
    frequencies = DocumentFrequencies.of(words(RECORDED["sets"])[1])
    check_equal(FILE, "document_count", frequencies.documents, recorded["document_count"])
    spelled = sorted([" ".join(n_gram), float(count)] for n_gram, count in frequencies.counts.items())
    check_equal(FILE, "n_grams", spelled, sorted(recorded["n_grams"]))


def test_cider_d_with_given_frequencies() -> None:
    recorded = RECORDED["cider_d_with_given_document_frequency"]
    counts = {tuple(n_gram.split()): count for n_gram, count in recorded["n_grams"]}
    found = cider_d(*words(RECORDED["sets"]), DocumentFrequencies(recorded["document_count"], counts))
    check(FILE, "given frequencies, corpus", found.corpus, recorded["corpus"], atol=METRIC)
    check(FILE, "given frequencies, per_image", found.rows, recorded["per_image"], atol=METRIC)
