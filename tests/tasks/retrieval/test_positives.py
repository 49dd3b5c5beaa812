from __future__ import annotations

from itertools import permutations

import pytest
import torch

from x2kit.tasks.retrieval.positives import Positives, count_shared, find_positives, highest_r1
from x2kit.tasks.retrieval.ranking import ranks, recalls

TEXTS = ["a dog", "a cat", "a dog", "a bird"]
OWNERS = [0, 1, 2, 2]
IMAGES = ["x", "y", "z"]


@pytest.mark.parametrize(
    ("positives", "of_images", "of_texts"),
    [
        ("row", [[0], [1], [2, 3]], [[0], [1], [2], [2]]),
        ("text", [[0, 2], [1], [0, 2, 3]], [[0, 2], [1], [0, 2], [2]]),
        ("image", [[0], [1], [2, 3]], [[0], [1], [2], [2]]),
    ],
)
def test_images_of_equal_texts_are_positives_under_text_only(
    positives: Positives, of_images: list[list[int]], of_texts: list[list[int]]
) -> None:
    assert find_positives(positives, TEXTS, OWNERS, IMAGES) == (of_images, of_texts)


def test_texts_of_equal_images_are_positives_under_image() -> None:
    found = find_positives("image", TEXTS, OWNERS, ["x", "y", "x"])
    assert found == ([[0, 2, 3], [1], [0, 2, 3]], [[0, 2], [1], [0, 2], [0, 2]])


def test_highest_r1_of_the_example() -> None:
    # 96 images, 29 of them with one caption: each of the 29 ties with a wrong one.
    texts = [f"text {max(0, number - 28)}" for number in range(96)]
    found = find_positives("row", texts, range(96), range(96))
    assert highest_r1(found.of_images, range(96), texts) == pytest.approx(67 / 96)
    assert highest_r1(found.of_texts, texts, range(96)) == pytest.approx(68 / 96)  # one of 29 equal queries
    assert count_shared(texts, range(96)) == 29
    alike = find_positives("text", texts, range(96), range(96))
    assert highest_r1(alike.of_images, range(96), texts) == 1
    assert highest_r1(alike.of_texts, texts, range(96)) == 1


@pytest.mark.parametrize("positives", ["row", "text", "image"])
@pytest.mark.parametrize("images", [["x", "y", "z"], ["x", "y", "x"]])
def test_highest_r1_is_the_best_over_all_orders(positives: Positives, images: list[str]) -> None:
    """The naive form: every order of the distinct candidates, chosen freely for each distinct query."""
    found = find_positives(positives, TEXTS, OWNERS, images)
    for answers, queries, candidates in (
        (found.of_images, images, TEXTS),
        (found.of_texts, TEXTS, images),
    ):
        values = sorted(set(candidates))
        best = 0.0
        for query in set(queries):
            rows = [row for row, value in enumerate(queries) if value == query]
            best += max(
                recalls(
                    ranks(
                        torch.tensor([[float(order.index(value)) for value in candidates]] * len(rows)),
                        [answers[row] for row in rows],
                    )
                )["r1"]
                * len(rows)
                for order in permutations(values)
            )
        assert highest_r1(answers, queries, candidates) == pytest.approx(best / len(queries))


def test_two_equal_texts_of_one_image_are_not_shared() -> None:
    assert count_shared(["a dog", "a dog", "a cat"], [0, 0, 1]) == 0
