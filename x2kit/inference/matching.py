"""Match and rank images and texts: cosine similarity, and the matching head on pairs. Imports torch.

I images, T texts, P pairs, K candidates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
import torch
from torch import Tensor

from x2kit.data.transforms.text import clean
from x2kit.errors import DataError, ShapeError, X2KitError
from x2kit.inference.embedding import Vectors, batched
from x2kit.inference.inputs import Input, input_name
from x2kit.inference.results import Embeddings, Match, Ranked, Ranking
from x2kit.model.inputs import ImageInput, image_list, text_list
from x2kit.tasks.retrieval.ranking import rerank as rerank_scores
from x2kit.tasks.retrieval.ranking import top_candidates
from x2kit.tasks.scoring import ImageBank, TextBank, encode_image_bank, encode_text_bank, fuse_pairs

if TYPE_CHECKING:
    from x2kit.inference.model import Model

T = TypeVar("T")
Images: TypeAlias = ImageInput | Iterable[ImageInput] | Embeddings
Texts: TypeAlias = str | Iterable[str] | Embeddings
IMAGES_AT_ONCE = 64
"""Images whose patches are kept in memory for the matching head."""
TEXTS_AT_ONCE = 256
"""Texts in a batch."""
By: TypeAlias = Literal["text", "image"]


def similarity(model: Model, images: Images, texts: Texts) -> Vectors:
    """Compute the cosine similarity [I, T]; see `Model.similarity`."""
    shown, words = _embedded(model, images, texts)
    for given, embedded in ((images, shown), (texts, words)):
        if not isinstance(given, Embeddings):
            refuse_errors(embedded)
    table: Vectors = np.asarray(shown, np.float32) @ np.asarray(words, np.float32).T
    return table


def _embedded(model: Model, images: Images, texts: Texts) -> tuple[Embeddings, Embeddings]:
    if not isinstance(images, Embeddings):
        images = model.embed_images(images)
    return images, texts if isinstance(texts, Embeddings) else model.embed_texts(texts)


def match(model: Model, images: ImageInput | Iterable[ImageInput], texts: str | Iterable[str]) -> list[Match]:
    """Match image i with text i; see `Model.match`."""
    given, words = image_list(images), text_list(texts)
    pairs = _paired(len(given), len(words))
    pairs[:, 0] = _first_places(given)[pairs[:, 0]]
    scores = score_pairs(model, given, words, pairs)
    return [
        Match(
            input_name(given[image], image),
            words[text],
            float(scores.probabilities[row]),
            None if scores.similarities is None else float(scores.similarities[row]),
        )
        for row, (image, text) in enumerate(pairs.tolist())
    ]


def _paired(images: int, texts: int) -> Tensor:
    """Pair image i with text i, [P, 2]; one image or one text is repeated. Raises ShapeError for other numbers."""
    if images != texts and 1 not in (images, texts):
        raise ShapeError(
            f"expected as many texts as images, or one of either; found {images} images, {texts} texts"
        )
    count = 0 if 0 in (images, texts) else max(images, texts)
    rows = torch.arange(count)
    return torch.stack([rows if images > 1 else rows * 0, rows if texts > 1 else rows * 0], 1)


def _first_places(images: Sequence[ImageInput]) -> Tensor:
    """Return for each image the position of the first with the same path, which is encoded for both, [I]."""
    first: dict[str | Path | int, int] = {}
    keys = (image if isinstance(image, str | Path) else row for row, image in enumerate(images))
    return torch.tensor([first.setdefault(key, row) for row, key in enumerate(keys)], dtype=torch.int64)


class PairScores(NamedTuple):
    """Scores of P pairs.

    Attributes:
        probabilities: [P], of a match.
        similarities: [P], cosines; None for a model without contrastive head.
    """

    probabilities: Tensor
    similarities: Tensor | None


def score_pairs(
    model: Model, images: Sequence[ImageInput], texts: Sequence[str], pairs: Tensor
) -> PairScores:
    """Score pairs with the matching head; every image and every distinct text is encoded once.

    Args:
        images, texts: inputs.
        pairs: [P, 2] int64, positions of image and text.
    Raises: HeadError for a model without matching head; DataError for an unreadable image or an empty text.
    """
    model.require_part("itm")
    probabilities = torch.empty(len(pairs))
    similarities = torch.empty(len(pairs)) if model.has("itc") else None
    if not len(pairs):
        return PairScores(probabilities, similarities)
    bank, text_rows = _bank_of_texts(model, texts)
    needed = sorted(set(pairs[:, 0].tolist()))
    for block in batched(model.reader.read_numbered((row, images[row]) for row in needed), IMAGES_AT_ONCE):
        encoded, numbers = bank_of_images(model, block), torch.tensor([each.index for each in block])
        chosen = torch.isin(pairs[:, 0], numbers).nonzero()[:, 0]
        local = torch.stack([torch.searchsorted(numbers, pairs[chosen, 0]), text_rows[pairs[chosen, 1]]], 1)
        with model.computing(model.module):
            logits = fuse_pairs(model.module, encoded, bank, local, model.module.itm_logits)
        probabilities[chosen] = logits.softmax(1)[:, 1]
        if similarities is not None:
            similarities[chosen] = (encoded.projected[local[:, 0]] * bank.projected[local[:, 1]]).sum(1)
    return PairScores(probabilities, similarities)


def bank_of_images(model: Model, inputs: Sequence[Input]) -> ImageBank:
    """Encode decoded images for the fusion encoder. Raises DataError with the name of an unreadable one."""
    pixels = [each.require().tensor() for each in inputs]
    with model.computing(model.module):
        return encode_image_bank(model.module, pixels, len(pixels), IMAGES_AT_ONCE, project=model.has("itc"))


def _bank_of_texts(model: Model, texts: Sequence[str]) -> tuple[TextBank, Tensor]:
    """Encode distinct texts for the fusion encoder, and return the row of each text [T] in the bank."""
    rows: dict[str, int] = {}
    places = [rows.setdefault(clean(text), len(rows)) for text in texts]
    with model.tokenizing, model.computing(model.module):
        bank = encode_text_bank(
            model.module, list(rows), model.module.max_length, TEXTS_AT_ONCE, project=model.has("itc")
        )
    return bank, torch.tensor(places)


def rank(model: Model, images: Images, texts: Texts, rerank: int, by: By, count: int | None) -> list[Ranking]:
    """Rank images for each text, or texts for each image; see `Model.rank`."""
    if not rerank:
        return _rankings(*_by(by, *_embedded(model, images, texts)), count)
    if isinstance(images, Embeddings) or isinstance(texts, Embeddings):
        raise X2KitError("rerank reads the images and texts again; pass them instead of their embeddings")
    model.require_part("itm")
    shown, words = image_list(images), text_list(texts)

    def match_pairs(queries: Tensor, candidates: Tensor) -> Tensor:
        pairs = _by(by, candidates, queries)
        return score_pairs(model, shown, words, torch.stack(pairs[::-1], 1)).probabilities

    return _rankings(*_by(by, *_embedded(model, shown, words)), count, rerank, match_pairs)


def _by(by: By, images: T, texts: T) -> tuple[T, T]:
    """Return queries and candidates."""
    return (texts, images) if by == "text" else (images, texts)


def _rankings(
    queries: Embeddings,
    candidates: Embeddings,
    count: int | None,
    rerank: int = 0,
    match_pairs: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> list[Ranking]:
    """Rank readable candidates by similarity, the first `rerank` of them by their probability of a match."""
    refuse_errors(queries)
    readable = torch.from_numpy(~np.isnan(candidates.vectors).any(1)).nonzero()[:, 0]
    vectors = np.asarray(candidates, np.float32)[readable.numpy()]
    table = torch.from_numpy(np.asarray(queries, np.float32) @ vectors.T)
    probabilities = torch.full_like(table, torch.nan)
    scores = table
    if match_pairs and table.numel():
        top = top_candidates(table, rerank)
        rows = torch.arange(len(table)).repeat_interleave(top.shape[1])
        probabilities.scatter_(1, top, match_pairs(rows, readable[top].flatten()).view_as(top))
        scores = rerank_scores(table, ~probabilities.isnan(), probabilities)
    order = scores.sort(dim=1, descending=True, stable=True).indices[:, :count]
    return [
        Ranking(
            name,
            [
                _ranked(candidates, int(readable[place]), table[row, place], probabilities[row, place])
                for place in order[row].tolist()
            ],
            candidates.errors,
        )
        for row, name in enumerate(queries.names)
    ]


def _ranked(candidates: Embeddings, index: int, similarity: Tensor, probability: Tensor) -> Ranked:
    known = None if probability.isnan() else float(probability)
    return Ranked(index, candidates.names[index], float(similarity), known)


def refuse_errors(embedded: Embeddings) -> None:
    """Raise DataError for the first unreadable input."""
    for error in embedded.errors[:1]:
        raise DataError(f"{error.name}: {error.message}", record=error.name)
