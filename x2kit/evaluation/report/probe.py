"""What the model says about part of the measured records: the material of the gallery. Imports torch.

M images, T texts of one language, R regions.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.sources import Record, Source
from x2kit.tasks import Grounding, Retrieval
from x2kit.tasks.grounding.metric import predict_regions
from x2kit.tasks.records import Entry, RecordReader, captions, texts_in
from x2kit.tasks.retrieval.ranking import ranks
from x2kit.tasks.scoring import ImageBank, TextBank, encode_image_bank, encode_text_bank, fuse_pairs

MOST_RECORDS = 500
"""Enough for telling examples, and seconds on two cores for a small model."""


class PartOfSource:
    """Some records of a source, evenly spread over it.

    Args:
        source: of any length.
        most: records that are kept.
    """

    def __init__(self, source: Source, most: int = MOST_RECORDS) -> None:
        count = min(len(source), most)
        self.source = source
        self.positions = [place * len(source) // count for place in range(count)]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Record:
        """Record `index` of the part."""
        return self.source[self.positions[index]]

    def texts(self) -> Iterator[str]:
        """Texts of the whole source."""
        return self.source.texts()

    def fingerprint(self) -> str:
        """That of the whole source."""
        return self.source.fingerprint()


class LanguageProbe(NamedTuple):
    """One language: its captions and how they find their images.

    Attributes:
        code: of the language.
        trained: whether its texts stood beside images in training.
        written: T captions as the records have them.
        images: T positions of the right images.
        bank: the captions, encoded.
        similarity: [T, M].
        ranks: [T] int64, of the right image, 0 for the first place; ties count against it.
    """

    code: str
    trained: bool
    written: list[str]
    images: list[int]
    bank: TextBank
    similarity: Tensor
    ranks: Tensor


class Guess(NamedTuple):
    """A region, and where the model thinks that it is: boxes cxcywh in [0, 1]."""

    text: str
    truth: list[float]
    predicted: list[float]
    iou: float


@dataclass(frozen=True)
class Probe:
    """The encoded images, and questions about them.

    Attributes:
        model: in evaluation mode.
        part: the records that are shown.
        entries: M, what is known of each record.
        images: M, encoded.
        only: whether no other language is measured (see `texts_in`).
        retrieval, grounding: how texts are cut.
        batch_size: texts at a time.
    """

    model: X2VLM
    part: PartOfSource
    entries: list[Entry]
    images: ImageBank
    only: bool
    retrieval: Retrieval
    grounding: Grounding
    batch_size: int

    def captions(self, code: str, trained: bool) -> LanguageProbe | None:
        """The captions of one language against all images; None if there are none."""
        queries = captions(self.entries, code, self.only, self.retrieval.max_words)
        if not queries.texts:
            return None
        bank = encode_text_bank(self.model, queries.texts, self.retrieval.max_tokens, self.batch_size)
        similarity = bank.projected @ self.images.projected.T
        places = ranks(similarity, [[image] for image in queries.images])
        written = [text for entry in self.entries for text in texts_in(entry.caption, code, self.only)]
        return LanguageProbe(code, trained, written, queries.images, bank, similarity, places)

    def match(self, language: LanguageProbe, pairs: Sequence[tuple[int, int]]) -> list[float]:
        """Probability that image and caption belong together, for pairs of their positions."""
        if not pairs:
            return []
        head = self.model.itm_logits
        logits = fuse_pairs(self.model, self.images, language.bank, torch.tensor(pairs), head)
        shares: list[float] = logits.softmax(1)[:, 1].tolist()
        return shares

    def boxes(self, code: str, positions: Sequence[int], most: int) -> dict[int, list[Guess]]:
        """The first `most` regions of some images with the boxes that the model predicts for their texts."""
        shown = [
            entry._replace(regions=entry.regions[:most] if position in positions else [])
            for position, entry in enumerate(self.entries)
        ]
        written = [
            text
            for entry in shown
            for region in entry.regions
            for text in texts_in(region["caption"], code, self.only)
        ]
        if not written:
            return {}
        located = predict_regions(
            self.grounding, self.model, self.images, shown, code, self.only, self.batch_size
        )
        found: dict[int, list[Guess]] = {}
        for row, position in enumerate(located.regions.images):
            guess = Guess(
                written[row],
                located.regions.bbox[row],
                located.predicted[row].tolist(),
                float(located.iou[row]),
            )
            found.setdefault(position, []).append(guess)
        return found


def make_probe(
    model: X2VLM,
    source: Source,
    only: bool,
    retrieval: Retrieval,
    grounding: Grounding,
    batch_size: int,
) -> Probe:
    """Encode the images of part of a source. Raises DataError for the first broken record."""
    part = PartOfSource(source)
    records = RecordReader(part, model.image_spec, model.frames)
    contrastive = hasattr(model, "vision_proj")
    images = encode_image_bank(model, records.images(), len(part), batch_size, project=contrastive)
    return Probe(model, part, records.entries, images, only, retrieval, grounding, batch_size)


def languages_shown(
    codes: Sequence[str], trained: Sequence[str], recall: dict[str, float], most_trained: int = 1
) -> list[str]:
    """The languages whose examples are shown: the first trained one, then the best, middle and worst zero-shot.

    Args:
        codes: all measured languages.
        trained: those whose texts stood beside images in training.
        recall: measured R@1 by language; without it the first three zero-shot languages are taken.
        most_trained: trained languages that are shown where there are zero-shot ones; up to four otherwise.
    """
    known = [code for code in codes if code in trained]
    unseen = [code for code in codes if code not in trained]
    if not unseen:
        return known[:4]
    if all(code in recall for code in unseen):
        unseen.sort(key=lambda code: -recall[code])
        unseen = [unseen[0], unseen[len(unseen) // 2], unseen[-1]]
    return [*known[:most_trained], *dict.fromkeys(unseen[:3])]
