"""Task and head keep their contracts, and the score has known values."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from x2kit.plugin import DataError, Prediction

from x2kit_entailment import EntailmentHead, VisualEntailment

LABELS = ("contradiction", "neutral", "entailment")
SENTENCES = ("it is night", "a man looks at the sea", "there is a bright square in this image", "it is a day")
RECORDS = [
    {
        "id": str(number),
        "image": np.full((32, 24, 3), 60 * number, np.uint8),
        "caption": {"en": sentence},
        "label": LABELS[number % 3],
    }
    for number, sentence in enumerate(SENTENCES)
]
HEADS = {"built": [], "extra": {"entailment": EntailmentHead()}}


@pytest.mark.conformance(VisualEntailment(), records=RECORDS, heads=HEADS, best=1.0)
def test_the_task_keeps_the_contract(conformance):
    conformance()


@pytest.mark.conformance(EntailmentHead(), EntailmentHead(classes=2, dropout=0.0))
def test_its_head_keeps_the_contract(conformance):
    conformance()


def test_accuracy_stands_beside_chance_and_the_most_frequent_label():
    rows = [
        ("neutral", "neutral"),
        ("neutral", "entailment"),
        ("entailment", "entailment"),
        ("neutral", "neutral"),
    ]
    found = [Prediction(str(number), value, truth) for number, (value, truth) in enumerate(rows)]
    assert VisualEntailment().build().measure(found) == {
        "accuracy": 0.75,
        "chance": pytest.approx(1 / 3),
        "most_frequent": 0.5,
        "rows": 4,
    }


def test_another_label_is_a_broken_record():
    with pytest.raises(
        DataError, match="label: expected one of contradiction, neutral, entailment, found '-'"
    ):
        VisualEntailment().build().draw({**RECORDS[0], "label": "-"}, reader=None)


def test_a_head_with_another_number_of_classes_is_named():
    heads = SimpleNamespace(extra={"entailment": EntailmentHead(classes=2)})
    assert VisualEntailment().missing_heads(heads) == {"extra.entailment": "has 2 classes for 3 labels"}
