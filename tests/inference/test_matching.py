"""Scores equal those of the plain form; rankings equal those of the scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from tests.model import plain
from tests.model.conftest import build
from x2kit.errors import DataError, HeadError, ShapeError, X2KitError
from x2kit.inference import Model, matching
from x2kit.model.x2vlm import X2VLM

from .conftest import TEXTS, picture

CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-6}


def test_similarity_is_every_image_with_every_text(user: Model, files: list[Path]) -> None:
    expected = plain.similarity(user.module, files, TEXTS)
    assert_allclose(user.similarity(files, TEXTS), expected, **CLOSE)
    assert_allclose(user.similarity(user.embed_images(files), user.embed_texts(TEXTS)), expected, **CLOSE)
    assert user.similarity(files[0], TEXTS[0]).shape == (1, 1)
    assert user.similarity([], TEXTS).shape == (0, 3)
    assert user.similarity(files, []).shape == (5, 0)


def test_similarity_refuses_what_it_cannot_read_and_keeps_gaps_of_embeddings(
    user: Model, files: list[Path]
) -> None:
    with pytest.raises(DataError, match=r"absent\.png: no image"):
        user.similarity([files[0], "absent.png"], TEXTS)
    with pytest.raises(DataError, match="nothing remains of the text"):
        user.similarity(files, "...")
    table = user.similarity(user.embed_images(["absent.png", files[0]]), TEXTS)
    assert np.isnan(table).any(1).tolist() == [True, False]


@pytest.mark.parametrize("at_once", [1, 2, 64])
def test_match_scores_pairs_in_blocks(
    user: Model, files: list[Path], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "IMAGES_AT_ONCE", at_once)
    images, texts = [files[i] for i in (3, 0, 3, 1)], [*TEXTS, TEXTS[0]]
    found = user.match(images, texts)
    expected = plain.match(user.module, images, texts)
    assert expected.std() > 1e-3
    assert_allclose([each.probability for each in found], expected, **CLOSE)
    cosines = plain.similarity(user.module, images, texts).diagonal()
    assert_allclose([each.similarity for each in found], cosines, **CLOSE)
    assert [(each.image, each.text) for each in found] == list(zip(map(str, images), texts, strict=True))


def test_one_image_or_one_text_is_repeated(user: Model, files: list[Path]) -> None:
    texts = user.match(files[0], TEXTS)
    assert_allclose([m.probability for m in texts], plain.match(user.module, [files[0]] * 3, TEXTS), **CLOSE)
    images = user.match(files, TEXTS[0])
    assert_allclose([m.probability for m in images], plain.match(user.module, files, [TEXTS[0]] * 5), **CLOSE)
    assert user.match([], []) == user.match([], "a dog") == []


def test_the_single_image_is_encoded_once(
    user: Model, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []
    encode = X2VLM.encode_images

    def counted(self: X2VLM, images: torch.Tensor) -> Any:
        passes.append(len(images))
        return encode(self, images)

    monkeypatch.setattr(X2VLM, "encode_images", counted)
    user.match(files[0], TEXTS)
    assert passes == [1]


def test_other_numbers_and_unreadable_images_are_refused(user: Model, files: list[Path]) -> None:
    with pytest.raises(ShapeError, match="found 5 images, 0 texts"):
        user.match(files, [])
    with pytest.raises(ShapeError, match="found 3 images, 2 texts"):
        user.match(files[:3], TEXTS[:2])
    with pytest.raises(DataError, match=r"^absent\.png: no image"):
        user.match([files[0], "absent.png"], TEXTS[:2])


def test_a_missing_head_is_named_before_anything_is_read() -> None:
    with pytest.raises(HeadError, match="matching head"):
        Model(build_without_itm(), "x").match("absent.png", "a dog")


def build_without_itm() -> X2VLM:
    model = build()
    del model.itm_head
    return model


def test_a_model_without_contrastive_head_matches(files: list[Path]) -> None:
    module = build(built=("itm", "bbox"))
    (found,) = Model(module, "x").match(files[0], TEXTS[0])
    assert found.similarity is None
    assert_allclose(found.probability, plain.match(module, files[:1], TEXTS[:1]), **CLOSE)


def test_a_video_is_matched(filming: Model) -> None:
    video = [picture(0), picture(1)]
    one, two = filming.match([video, picture(0)], TEXTS[:2])
    module = filming.module
    assert one.image == "images[0]"
    assert_allclose(two.probability, plain.match(module, [picture(0)], TEXTS[1:2]), **CLOSE)
    same = filming.match([[picture(0), picture(0)]], TEXTS[1])[0]
    assert same.probability != pytest.approx(two.probability, abs=1e-6)  # frame positions count


def test_images_are_ranked_for_each_text(user: Model, files: list[Path]) -> None:
    table = user.similarity(files, TEXTS)
    for column, ranking in enumerate(user.rank(files, TEXTS)):
        assert ranking.query == TEXTS[column]
        assert [item.index for item in ranking.items] == table[:, column].argsort()[::-1].tolist()
        assert [item.name for item in ranking.items] == [str(files[item.index]) for item in ranking.items]
        assert [item.similarity for item in ranking.items] == sorted(table[:, column].tolist(), reverse=True)
        assert {item.probability for item in ranking.items} == {None}


def test_texts_are_ranked_for_each_image(user: Model, files: list[Path]) -> None:
    table = user.similarity(files, TEXTS)
    for row, ranking in enumerate(user.rank(files, TEXTS, by="image", count=2)):
        assert ranking.query == str(files[row])
        assert [item.name for item in ranking.items] == [TEXTS[i] for i in table[row].argsort()[::-1][:2]]


@pytest.mark.parametrize("by", ["text", "image"])
def test_the_matching_head_orders_the_first_which_come_before_the_rest(
    user: Model, files: list[Path], by: Any
) -> None:
    plain_order = user.rank(files, TEXTS, by=by)
    for ranking, before in zip(user.rank(files, TEXTS, rerank=2, by=by), plain_order, strict=True):
        first, rest = ranking.items[:2], ranking.items[2:]
        pairs = [(i.name, ranking.query) if by == "text" else (ranking.query, i.name) for i in first]
        scores = [user.match(image, text)[0].probability for image, text in pairs]
        assert_allclose([item.probability for item in first], scores, **CLOSE)
        assert scores == sorted(scores, reverse=True)
        assert {item.index for item in first} == {item.index for item in before.items[:2]}
        assert [(i.index, i.probability) for i in rest] == [(i.index, None) for i in before.items[2:]]


def test_unreadable_candidates_are_errors_and_unreadable_queries_refused(
    user: Model, files: list[Path]
) -> None:
    (ranking,) = user.rank([files[0], "absent.png", files[1]], TEXTS[0], rerank=5)
    assert sorted(item.index for item in ranking.items) == [0, 2]
    assert [error.name for error in ranking.errors] == ["absent.png"]
    with pytest.raises(DataError, match="nothing remains"):
        user.rank(files, ["a dog", "..."])


def test_embeddings_are_ranked_but_not_reranked(user: Model, files: list[Path]) -> None:
    images = user.embed_images(files)
    assert user.rank(images, TEXTS) == user.rank(files, TEXTS)
    with pytest.raises(X2KitError, match="pass them instead of their embeddings"):
        user.rank(images, TEXTS, rerank=2)


def test_nothing_to_rank_gives_empty_rankings(user: Model, files: list[Path]) -> None:
    assert user.rank(files, []) == []
    assert [ranking.items for ranking in user.rank([], TEXTS, rerank=3)] == [[], [], []]
