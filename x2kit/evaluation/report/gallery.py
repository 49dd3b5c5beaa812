"""Draw retrieval examples: captions with retrieved images, images with retrieved captions. Imports torch."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from PIL import Image
from torch import Tensor

from x2kit.data.media.images import decode
from x2kit.data.media.videos import first_frame
from x2kit.evaluation.report.markup import Markup, join, tag
from x2kit.evaluation.report.probe import LanguageProbe, PartOfSource, Probe
from x2kit.evaluation.report.visible import visible
from x2kit.plugin.facts import ImageSpec

TOP = 5
_SIDE = 192
"""Pixels of a thumbnail's longer side."""


class Thumbnails:
    """Thumbnails of records as data URLs, cached.

    Args:
        part: the records.
        spec: images of the encoder.
    """

    def __init__(self, part: PartOfSource, spec: ImageSpec) -> None:
        self._part, self._spec = part, spec
        self._cache: dict[int, str] = {}

    def __getitem__(self, position: int) -> str:
        """Return `data:image/png;base64,…` of the image at this position of the part."""
        if position not in self._cache:
            record = self._part[position]
            image = record.get("image")
            seen = first_frame(record["video"]) if image is None else image
            loaded = decode(seen, self._spec.channels, self._spec.value_range)
            one_image = visible(loaded, self._spec).copy()
            one_image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
            packed = io.BytesIO()
            one_image.save(packed, "PNG", optimize=True)
            encoded = base64.b64encode(packed.getvalue()).decode("ascii")
            self._cache[position] = f"data:image/png;base64,{encoded}"
        return self._cache[position]


class Hit(NamedTuple):
    """A retrieved candidate: position, rank (0 is first), scores, whether it is a positive."""

    position: int
    place: int
    similarity: float
    match: float
    true: bool


def draw_queries(probe: Probe, language: LanguageProbe, thumbnails: Thumbnails, each: int = 2) -> Markup:
    """Draw captions of one language with the five most similar images.

    Args:
        each: number of captions whose image is ranked first, and of captions that miss it; if there are fewer of one
            kind, more of the other are shown.
    """
    chosen = choose_queries(language.ranks.tolist(), language.images, each)
    answers = [(query, _found_images(language, query)) for query in chosen]
    pairs = [(position, query) for query, places in answers for position, _ in places]
    matches = iter(probe.match(language, pairs))
    drawn = []
    for query, places in answers:
        hits = [
            Hit(
                position,
                place,
                float(language.similarity[query, position]),
                next(matches),
                position == language.images[query],
            )
            for position, place in places
        ]
        drawn.append(_query(language, query, hits, thumbnails))
    right = int((language.ranks == 0).sum())
    summary = f"{right} of {len(language.ranks)} captions retrieve their image first, of {len(probe.images)}"
    return join(_language_heading(language, summary), tag("div", drawn, class_="queries"))


def choose_queries(ranks: Sequence[int], images: Sequence[int], each: int) -> list[int]:
    """Choose the first hits, then the first misses, at most one query of an image."""
    right: list[int] = []
    missed: list[int] = []
    seen: set[int] = set()
    for query, (rank, one_image) in enumerate(zip(ranks, images, strict=True)):
        if one_image not in seen:
            seen.add(one_image)
            (missed if rank else right).append(query)
    shown = max(each, 2 * each - len(missed)), max(each, 2 * each - len(right))
    return right[: shown[0]] + missed[: shown[1]]


def draw_texts(
    probe: Probe, languages: Sequence[LanguageProbe], thumbnails: Thumbnails, count: int = 3
) -> Markup:
    """Draw evenly spaced images, each with the five most similar captions of each language."""
    total = len(probe.images)
    drawn = []
    for position in dict.fromkeys(place * total // count for place in range(count)):
        lists = [
            tag("div", tag("h4", language.code), _texts(language, position), class_="list")
            for language in languages
        ]
        drawn.append(
            tag(
                "div",
                tag("img", src=thumbnails[position], alt=f"record {probe.entries[position].id}"),
                tag("div", lists, class_="lists"),
                class_="answers",
            )
        )
    return join(drawn)


def top_places(similarity: Tensor, true: Sequence[int], rank: int) -> list[tuple[int, int]]:
    """List (candidate, rank) of the five best candidates, then of the best positive if it is not among them.

    Args:
        similarity: [C], of one query.
        true: the positives.
        rank: of the best positive, ties counted as misses.
    """
    # Sort positives behind ties, as in the rank.
    order = sorted(
        range(len(similarity)), key=lambda candidate: (-float(similarity[candidate]), candidate in true)
    )
    places = [(candidate, place) for place, candidate in enumerate(order[:TOP])]
    if not any(candidate in true for candidate, _ in places):
        places.append((next(candidate for candidate in order if candidate in true), rank))
    return places


def _found_images(language: LanguageProbe, query: int) -> list[tuple[int, int]]:
    return top_places(language.similarity[query], [language.images[query]], int(language.ranks[query]))


def _query(language: LanguageProbe, query: int, hits: Iterable[Hit], thumbnails: Thumbnails) -> Markup:
    rank = int(language.ranks[query])
    verdict = (
        tag("span", "✓ right", class_="right") if rank == 0 else tag("span", "✗ missed", class_="missed")
    )
    return tag(
        "div",
        tag("div", language.written[query], class_="text", lang=language.code, dir="auto"),
        tag("div", verdict, f", true image at rank {rank + 1}" if rank else None, class_="verdict"),
        tag("div", [_hit(hit, thumbnails) for hit in hits], class_="strip"),
        class_="query",
    )


def _hit(hit: Hit, thumbnails: Thumbnails) -> Markup:
    place = f"{hit.place + 1}."
    return tag(
        "div",
        tag("img", src=thumbnails[hit.position], alt="true image" if hit.true else "another image"),
        tag("b", f"{place} true" if hit.true else place),
        f" {hit.similarity:.2f}",
        tag("br"),
        f"match {100 * hit.match:.0f}\u00a0%",
        class_="hit true" if hit.true else "hit",
    )


def _texts(language: LanguageProbe, position: int) -> Markup:
    """Draw the best captions of one image."""
    scores = language.similarity[:, position]
    true = [row for row, one_image in enumerate(language.images) if one_image == position]
    if not true:
        return tag("p", "This image has no caption in this language.", class_="note")
    best = max(float(scores[row]) for row in true)
    rank = int((scores >= best).sum()) - sum(float(scores[row]) >= best for row in true)
    items = []
    for row, place in top_places(scores, true, rank):
        mark = f"{place + 1}. ✓ " if row in true else f"{place + 1}. "
        items.append(
            tag(
                "li",
                tag("span", mark, tag("bdi", language.written[row], lang=language.code)),
                tag("span", f"{float(scores[row]):.2f}"),
                class_="true" if row in true else None,
            )
        )
    return tag("ol", items)


def _language_heading(language: LanguageProbe, summary: str) -> Markup:
    kind = "trained with images" if language.trained else "zero-shot: no image-text training data"
    return tag(
        "h3",
        language.code,
        tag("span", f"{kind}; {summary}", class_="kind"),
        class_="language",
    )
