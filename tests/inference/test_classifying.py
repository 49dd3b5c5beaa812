"""Classes without training: softmax over the similarity to texts of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from x2kit.errors import DataError, X2KitError
from x2kit.inference import Model

LABELS = ["dog", "cat", "moon"]


def test_probabilities_are_a_softmax_over_similarity_by_temperature(user: Model, files: list[Path]) -> None:
    table = torch.from_numpy(user.similarity(files, LABELS)) / user.temperature
    for row, found in enumerate(user.classify(files, LABELS)):
        assert found.image == str(files[row])
        expected = dict(zip(LABELS, table[row].softmax(0).tolist(), strict=True))
        assert {each.text: each.probability for each in found.labels} == pytest.approx(expected, abs=1e-5)
        scores = [each.probability for each in found.labels]
        assert scores == sorted(scores, reverse=True)


def test_embeddings_of_several_templates_are_averaged(user: Model, files: list[Path]) -> None:
    templates = ["a {}", "the red {}"]
    vectors = np.stack(
        [user.embed_texts([t.replace("{}", label) for t in templates]).vectors.mean(0) for label in LABELS]
    )
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    logits = torch.from_numpy(user.embed_images(files[0]).vectors @ vectors.T)[0] / user.temperature
    (found,) = user.classify(files[0], LABELS, templates)
    by_label = {each.text: each.probability for each in found.labels}
    assert_allclose([by_label[label] for label in LABELS], logits.softmax(0), rtol=0, atol=1e-5)


def test_templates_are_chosen_by_language(user: Model, files: list[Path]) -> None:
    templates = {"en": "a {}", "de": ["ein {}", "roter {}"]}
    assert user.classify(files, LABELS, templates, "de") == user.classify(files, LABELS, templates["de"])
    with pytest.raises(X2KitError, match="none for the language 'fr'; choose one of: en, de"):
        user.classify(files, LABELS, templates, "fr")
    with pytest.raises(X2KitError, match="none for the language None"):
        user.classify(files, LABELS, templates)


def test_embeddings_may_be_classified(user: Model, files: list[Path]) -> None:
    assert user.classify(user.embed_images(files), LABELS) == user.classify(files, LABELS)


@pytest.mark.parametrize(
    ("labels", "templates", "message"),
    [
        ([], "{}", "labels: expected at least one"),
        (LABELS, "a dog", "'a dog' has no {} for the label"),
        (LABELS, [], "templates: expected at least one"),
    ],
)
def test_faults_of_labels_and_templates_are_named(
    user: Model, files: list[Path], labels: list[str], templates: str, message: str
) -> None:
    with pytest.raises(X2KitError, match=message):
        user.classify(files, labels, templates)


def test_an_unreadable_image_is_refused_with_its_name(user: Model, files: list[Path]) -> None:
    with pytest.raises(DataError, match=r"absent\.png"):
        user.classify([files[0], "absent.png"], LABELS)
