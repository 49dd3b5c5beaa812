"""Measure retrieval by language: similarity of all pairs, then the matching head on the best. Imports torch.

M images, T texts, P pairs. Each text belongs to one image; an image may have several. An image without a text in a
language is not a candidate in that language; the result has the counts, and `common_subset` measures all languages on
the same records.

Re-ranking: the candidates of a query are the `top_k` answers of highest similarity. A pair that is a candidate in one
direction or both is scored once. Candidates rank above the rest, ordered by

    combined   similarity / temperature + itm_weight * log p(match)
    matching   the logit of "matched" (official code)

and the rest keeps its order by similarity; in "matching" all of the rest get the score -100, as in the official code,
so that they rank below the candidates and tie with each other (ties count as misses).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from x2kit.distributed.ranks import Ranks
from x2kit.errors import DataError
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.tasks import TaskContext
from x2kit.plugin.toolkit.item_values import RANKED, ItemValues, Ranking
from x2kit.tasks.records import Entry, Queries, captions, common_captions, encode_records, numbered
from x2kit.tasks.retrieval.positives import PositiveLists, count_shared, find_positives, highest_r1
from x2kit.tasks.retrieval.ranking import (
    RECALLS,
    Ranked,
    ScoreRows,
    chance,
    chance_recall,
    ranked,
    recalls,
)
from x2kit.tasks.retrieval.reranking import Candidates, RerankedRows, select_candidates
from x2kit.tasks.scoring import (
    ONE_RANK,
    ImageBank,
    Progress,
    TextBank,
    encode_text_bank,
    fuse_pairs,
    no_progress,
)

if TYPE_CHECKING:
    from x2kit.tasks.retrieval.config import Retrieval

REST = -100.0
"""Score of pairs that are not candidates, in the official code."""


class Scores(NamedTuple):
    """Scores of each direction: [queries, candidates], higher is better, comparable within a row."""

    image_to_text: ScoreRows
    text_to_image: ScoreRows


class Highest(NamedTuple):
    """Highest R@1 of each direction."""

    image_to_text: float
    text_to_image: float


def measure_retrieval(config: Retrieval, context: TaskContext) -> Mapping[str, Any]:
    """Measure recall in every language and both directions.

    Returns, for `evaluation.json`:
        languages.CODE: queries and candidates (numbers of texts and images), chance_r1, trained_with_images, mean_r1,
            mean_recall (mean of r1, r5 and r10), and for image_to_text and text_to_image r1, r5, r10, mean_recall,
            queries and candidates of that direction, by similarity; reranked holds the same directions after
            re-ranking. shared_captions counts texts that another image also has; highest_r1 is the R@1 that equal
            texts and equal images allow, also for each direction.
        languages.CODE.captions_per_image: smallest, mean and largest number; expected is the task's setting captions.
        positives: the task's setting.
        mean_recall: languages.CODE.mean_recall averaged over languages, after re-ranking unless it is off (r_mean of
            the official code); mean_recall_image_to_text and mean_recall_text_to_image of one direction.
        mean_all, mean_trained, mean_zero_shot: mean_r1 averaged over languages, None without one;
            mean_reranked_all etc. after re-ranking.
        languages.CODE.matching: positive_accuracy and negative_accuracy of the matching head on the re-ranked pairs:
            share of true pairs predicted as matching, and of other pairs predicted as not matching; None without
            such a pair.
        rerank: method, top_k, itm_weight.
    Raises: DataError for a broken record, or for a language in which no record has a caption.
    """
    images, entries = encode_records(context, config.frames or context.model.frames)
    languages = {
        language: _measure_language(config, context, images, entries, language, queries)
        for language, queries in queries_of(config, context.languages, entries).items()
    }
    return {
        "task": "retrieval",
        "languages": languages,
        "positives": config.positives,
        "rerank": {"method": config.rerank, "top_k": config.top_k, "itm_weight": config.itm_weight},
        **_mean_recalls(languages),
        **_means(languages, ""),
        **({} if config.rerank == "none" else _means(languages, "reranked")),
    }


def queries_of(config: Retrieval, languages: Sequence[str], entries: Sequence[Entry]) -> dict[str, Queries]:
    """Collect the captions of every language.

    Raises: DataError if a language has none, or under `common_subset` if no record has one in all languages.
    """

    def found(entries: Sequence[Entry]) -> dict[str, Queries]:
        only = len(languages) == 1
        return {language: captions(entries, language, only, config.max_words) for language in languages}

    queries = found(entries)
    without = [language for language in languages if not queries[language].texts]
    if without:
        others = ", ".join(language for language in languages if language not in without)
        raise DataError(
            f"no record has a caption in {', '.join(without)}; measure languages that have captions: "
            + (f"--evaluation.languages '[{others}]'" if others else "--evaluation.languages")
        )
    if config.common_subset:
        queries = found(common_captions(entries, languages))
        if not all(one.texts for one in queries.values()):
            raise DataError(
                f"common_subset: no record has a caption in all of {', '.join(languages)}; measure fewer languages "
                "(--evaluation.languages), or set common_subset: false"
            )
    return queries


def _measure_language(
    config: Retrieval,
    context: TaskContext,
    images: ImageBank,
    entries: Sequence[Entry],
    language: str,
    queries: Queries,
) -> dict[str, Any]:
    texts = encode_text_bank(
        context.model, queries.texts, config.max_tokens, context.batch_size, ranks=context.ranks
    )
    present = sorted(set(queries.images))
    column = {position: number for number, position in enumerate(present)}
    owners = [column[position] for position in queries.images]
    alike = [entries[position].pixels or position for position in present]
    answers = find_positives(config.positives, queries.texts, owners, alike)
    highest = Highest(
        highest_r1(answers.of_images, alike, queries.texts),
        highest_r1(answers.of_texts, queries.texts, alike),
    )

    with torch.autocast("cpu", enabled=False):  # of evaluation.precision on a CPU
        similarity = images.projected[present] @ texts.projected.T
    result: dict[str, Any] = {
        "queries": len(queries.texts),
        "candidates": len(present),
        "captions_per_image": _captions_per_image(config, language, owners),
        "trained_with_images": language in context.trained_with_images,
        "chance_r1": fmean(
            [chance(answers.of_images, len(queries.texts)), chance(answers.of_texts, len(present))]
        ),
        "highest_r1": fmean(highest),
        "shared_captions": count_shared(queries.texts, owners),
    }
    documents = _documents(entries, present, owners)
    keep = partial(_save_items, context, language, documents, answers)
    best = RANKED if context.wants_items else 0
    result |= _directions(
        Scores(similarity, similarity.T), answers, 0 if config.rerank != "none" else best, partial(keep, "")
    )
    for direction, share in highest._asdict().items():
        result[direction]["highest_r1"] = share
    if config.rerank != "none":
        candidates, logits = match_candidates(
            config,
            context.model,
            images,
            texts,
            torch.tensor(present),
            similarity,
            lambda done, total: context.progress(f"matching, {language}", done, total),
            context.ranks,
        )
        scores = order_candidates(config, similarity, candidates, logits, context.model.temperature)
        result["reranked"] = _directions(scores, answers, best, partial(keep, "reranked"))
        result["matching"] = matching_accuracy(logits, candidates.pairs, torch.tensor(owners))
    return result


def reranked(
    config: Retrieval,
    model: X2VLM,
    images: ImageBank,
    texts: TextBank,
    present: Tensor,
    similarity: Tensor,
    progress: Progress = no_progress,
    ranks: Ranks = ONE_RANK,
) -> Scores:
    """Score both directions after re-ranking the candidates with the matching head, each pair once.

    Arguments are those of `match_candidates`.
    """
    candidates, logits = match_candidates(config, model, images, texts, present, similarity, progress, ranks)
    return order_candidates(config, similarity, candidates, logits, model.temperature)


def match_candidates(
    config: Retrieval,
    model: X2VLM,
    images: ImageBank,
    texts: TextBank,
    present: Tensor,
    similarity: Tensor,
    progress: Progress = no_progress,
    ranks: Ranks = ONE_RANK,
) -> tuple[Candidates, Tensor]:
    """Select the candidates of all queries and compute the matching logits of each pair once.

    Args:
        config: number of candidates.
        model: in evaluation mode.
        images: encoded; `present` [M] int64 selects the rows of `similarity`.
        texts: T encoded texts.
        similarity: [M, T].
        progress: called with finished and total pairs of this rank.
        ranks: share the pairs.
    Returns: candidates of P pairs, and the matching logits [P, 2].
    """
    # CPUs differ in the last bit of a matrix product, and all ranks need the same pairs.
    candidates = ranks.from_rank_zero(
        select_candidates(similarity, config.top_k) if ranks.rank == 0 else None
    )
    image, text = candidates.pairs.T
    pairs = torch.stack([present[image], text], 1)
    return candidates, fuse_pairs(model, images, texts, pairs, model.itm_logits, progress, ranks)


def order_candidates(
    config: Retrieval, similarity: Tensor, candidates: Candidates, logits: Tensor, temperature: Tensor
) -> Scores:
    """Score both directions by similarity [M, T] and the matching logits [P, 2] of the candidates."""
    of_pairs = logits[:, 1] if config.rerank == "matching" else logits.log_softmax(1)[:, 1]
    temperature = temperature.detach().float().cpu()

    def direction(similarity: Tensor, columns: Tensor, places: Tensor) -> RerankedRows:
        matched = of_pairs[places]
        if config.rerank == "matching":
            return RerankedRows(similarity, columns, matched, REST)
        scores = similarity.gather(1, columns) / temperature + config.itm_weight * matched
        return RerankedRows(similarity, columns, scores, None, temperature)

    first, second = candidates.places
    return Scores(
        direction(similarity, candidates.of_images, first),
        direction(similarity.T, candidates.of_texts, second),
    )


def matching_accuracy(logits: Tensor, pairs: Tensor, owners: Tensor) -> dict[str, float | None]:
    """Compute the accuracy of the matching head on true pairs and on other pairs.

    Args:
        logits: [P, 2]; class 1 is "matched".
        pairs: [P, 2] int64, image and text.
        owners: [T] int64, the image of each text.
    """
    true, matched = owners[pairs[:, 1]] == pairs[:, 0], logits.argmax(1) == 1
    return {
        "positive_accuracy": matched[true].float().mean().item() if true.any() else None,
        "negative_accuracy": (~matched[~true]).float().mean().item() if (~true).any() else None,
    }


class Documents(NamedTuple):
    """Record ids of the images, and of each text the id of its own and that of its record."""

    images: list[str]
    texts: list[str]
    records: list[str]


def _documents(entries: Sequence[Entry], present: Sequence[int], owners: Sequence[int]) -> Documents:
    images = [entries[position].id for position in present]
    records = [images[owner] for owner in owners]
    return Documents(images, numbered(records), records)


def _directions(
    scores: Scores, answers: PositiveLists, best: int, keep: Callable[[str, Ranked], None]
) -> dict[str, Any]:
    """Measure both directions; `keep` is called with the name, ranks and `best` documents of each."""
    found: dict[str, Any] = {}
    for name, matrix, right in zip(Scores._fields, scores, answers, strict=True):
        of_queries = ranked(matrix, right, best)
        keep(name, of_queries)
        shares = recalls(of_queries.ranks)
        found[name] = {
            **shares,
            "mean_recall": fmean(shares.values()),
            "queries": matrix.shape[0],
            "candidates": matrix.shape[1],
        }
    for mean, value in (("mean_r1", "r1"), ("mean_recall", "mean_recall")):
        found[mean] = fmean(found[name][value] for name in Scores._fields)
    return found


def _save_items(
    context: TaskContext,
    language: str,
    documents: Documents,
    answers: PositiveLists,
    section: str,
    direction: str,
    of_queries: Ranked,
) -> None:
    """Save rank (from 1), hits and reciprocal rank of each query, and for the final order the best documents.

    Args:
        section: of the result, "" or "reranked".
        direction: of the queries.
        of_queries: their ranks, and the best documents unless a re-ranking follows.
    """
    if not context.wants_items:
        return
    images = direction == "image_to_text"
    queries, candidates = (
        (documents.images, documents.texts) if images else (documents.texts, documents.images)
    )
    right = answers.of_images if images else answers.of_texts
    places, best = of_queries.ranks + 1, of_queries.best
    context.save_items(
        ItemValues(
            language,
            ".".join(["languages", language, *([section] if section else []), direction]),
            queries,
            {
                **{f"r{k}": (places <= k).int().tolist() for k in RECALLS},
                "reciprocal_rank": (1 / places.double()).tolist(),
                "rank": places.tolist(),
            },
            part=".".join([*([section] if section else []), direction]),
            records=documents.images if images else documents.records,
            chance={f"r{k}": chance_recall(right, len(candidates), k) for k in RECALLS},
            candidates=len(candidates),
            ranking=None if best is None else Ranking(candidates, best.columns, best.scores, right),
        )
    )


def _captions_per_image(config: Retrieval, language: str, owners: Sequence[int]) -> dict[str, float | None]:
    """Count the captions of each image, given the image of each caption."""
    counts = Counter(owners).values()
    expected = config.captions.get(language) if isinstance(config.captions, dict) else config.captions
    return {"fewest": min(counts), "mean": fmean(counts), "most": max(counts), "expected": expected}


def _mean_recalls(languages: Mapping[str, Any]) -> dict[str, float]:
    """Average the recalls of the final ranking over languages: of both directions, and of each."""
    final = [found.get("reranked", found) for found in languages.values()]
    return {
        "mean_recall": fmean(found["mean_recall"] for found in final),
        **{
            f"mean_recall_{name}": fmean(found[name]["mean_recall"] for found in final)
            for name in Scores._fields
        },
    }


def _means(languages: Mapping[str, Any], section: str) -> dict[str, float | None]:
    """Average R@1, the mean of both directions, over groups of languages; None for an empty group."""
    values = {code: (found[section] if section else found)["mean_r1"] for code, found in languages.items()}
    return {
        f"mean_{section}_{name}" if section else f"mean_{name}": fmean(chosen) if chosen else None
        for name, chosen in (
            ("all", list(values.values())),
            ("trained", [v for code, v in values.items() if languages[code]["trained_with_images"]]),
            ("zero_shot", [v for code, v in values.items() if not languages[code]["trained_with_images"]]),
        )
    }
