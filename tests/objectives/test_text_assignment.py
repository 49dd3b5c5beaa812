"""Text assignment: which images a text is shown with, and how often."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from x2kit.errors import ShapeError
from x2kit.objectives.text_assignment import assign_images, place_images, similar_image_weights


def test_negatives_are_weighted_by_similarity_and_exclude_the_own_image() -> None:
    images = F.normalize(torch.randn(4, 6), dim=-1)
    own = torch.tensor([2, 0, 0])
    weights = similar_image_weights(images, own)
    for row, image in enumerate(own.tolist()):
        wanted = ((images[image] @ images.T) / 0.07).softmax(0)
        wanted[image] = 0
        assert_close(weights[row], wanted)


def test_the_label_says_where_the_own_image_is() -> None:
    own, negatives = torch.tensor([0, 1, 2]), torch.tensor([[5, 6], [5, 6], [5, 6]])
    assert place_images(own, negatives, torch.tensor([0, 1, 2])).tolist() == [[0, 5], [5, 1], [5, 6]]


def test_a_third_of_the_texts_is_shown_without_its_image() -> None:
    own = torch.arange(5).repeat(6000)
    weights = similar_image_weights(F.normalize(torch.randn(5, 6), dim=-1), own)
    images, labels = assign_images(weights, own, torch.Generator().manual_seed(0))
    assert_close(torch.bincount(labels) / len(labels), torch.full((3,), 1 / 3), rtol=0, atol=0.01)
    assert (images[:, 0] != images[:, 1]).all()
    for label in range(3):
        shown = images[labels == label] == own[labels == label, None]
        assert torch.equal(shown.float().mean(0), torch.tensor([float(label == 0), float(label == 1)]))


def test_draws_follow_the_weights_without_replacement() -> None:
    own, weights = torch.zeros(40000, dtype=torch.int64), torch.tensor([[0.0, 0.6, 0.3, 0.1]])
    images, labels = assign_images(weights.expand(len(own), -1), own, torch.Generator().manual_seed(0))
    shown = torch.bincount(images[labels == 0, 1], minlength=4) / (labels == 0).sum()
    assert_close(shown, weights[0], rtol=0, atol=0.015)
    first, second = images[labels == 2].T
    assert_close(torch.bincount(first, minlength=4) / len(first), weights[0], rtol=0, atol=0.015)
    after = torch.bincount(second[first == 1], minlength=4) / (first == 1).sum()
    assert_close(after, torch.tensor([0.0, 0.0, 0.75, 0.25]), rtol=0, atol=0.015)


def test_two_images_are_too_few() -> None:
    with pytest.raises(ShapeError, match="at least 3 distinct images a step, found 2"):
        similar_image_weights(torch.eye(2), torch.tensor([0, 1]))
