"""Run the model on part of the evaluated records to get the report's examples. Imports torch.

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
from x2kit.tasks import Retrieval
from x2kit.tasks.grounding.config import RegionTask
from x2kit.tasks.grounding.metric import predict_regions
from x2kit.tasks.records import Entry, RecordReader, captions, texts_in
from x2kit.tasks.retrieval.ranking import ranks
from x2kit.tasks.scoring import ImageBank, TextBank, encode_image_bank, encode_text_bank, fuse_pairs

MOST_RECORDS = 500
"""Records used for examples: seconds on two cores for a small model."""


class PartOfSource:
    """Evenly spaced records of a source.

    Args:
        source: of any length.
        most: maximum number of records.
    """

    def __init__(self, source: Source, most: int = MOST_RECORDS) -> None:
        count = min(len(source), most)
        self.source = source
        self.positions = [place * len(source) // count for place in range(count)]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> Record:
        """Return record `index` of the part."""
        return self.source[self.positions[index]]

    def texts(self) -> Iterator[str]:
        """Yield the texts of the whole source."""
        return self.source.texts()

    def fingerprint(self) -> str:
        """Return the fingerprint of the whole source."""
        return self.source.fingerprint()


class LanguageProbe(NamedTuple):
    """Captions of one language with their similarities to all images.

    Attributes:
        code: of the language.
        trained: whether the language has image-text training data.
        written: T captions, uncleaned.
        images: T positions of the true images.
        bank: the captions, encoded.
        similarity: [T, M].
        ranks: [T] int64, of the true image, 0 is first; ties count as misses.
    """

    code: str
    trained: bool
    written: list[str]
    images: list[int]
    bank: TextBank
    similarity: Tensor
    ranks: Tensor


class Guess(NamedTuple):
    """A region with its true and predicted box, cxcywh in [0, 1]."""

    text: str
    truth: list[float]
    predicted: list[float]
    iou: float


@dataclass(frozen=True)
class Probe:
    """Encoded images of a part of the records, and queries on them.

    Attributes:
        model: in evaluation mode.
        part: the records.
        entries: M, one per record.
        images: M, encoded.
        only: whether a single language is measured (see `texts_in`).
        retrieval, grounding: settings of text lengths and of hits.
        batch_size: texts in a batch.
    """

    model: X2VLM
    part: PartOfSource
    entries: list[Entry]
    images: ImageBank
    only: bool
    retrieval: Retrieval
    grounding: RegionTask
    batch_size: int

    def captions(self, code: str, trained: bool) -> LanguageProbe | None:
        """Compare the captions of one language with all images; None without captions."""
        queries = captions(self.entries, code, self.only, self.retrieval.max_words)
        if not queries.texts:
            return None
        bank = encode_text_bank(self.model, queries.texts, self.retrieval.max_tokens, self.batch_size)
        similarity = bank.projected @ self.images.projected.T
        places = ranks(similarity, [[image] for image in queries.images])
        written = [text for entry in self.entries for text in texts_in(entry.caption, code, self.only)]
        return LanguageProbe(code, trained, written, queries.images, bank, similarity, places)

    def match(self, language: LanguageProbe, pairs: Sequence[tuple[int, int]]) -> list[float]:
        """Compute the matching probability of (image, caption) positions."""
        if not pairs:
            return []
        head = self.model.itm_logits
        logits = fuse_pairs(self.model, self.images, language.bank, torch.tensor(pairs), head)
        shares: list[float] = logits.softmax(1)[:, 1].tolist()
        return shares

    def boxes(self, code: str, positions: Sequence[int], most: int) -> dict[int, list[Guess]]:
        """Predict the boxes of the first `most` regions of some images, by position."""
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
        predictions = predict_regions(
            self.grounding,
            self.grounding.locator(self.model),
            self.model,
            self.images,
            shown,
            code,
            self.only,
            self.batch_size,
        )
        found: dict[int, list[Guess]] = {}
        for row, position in enumerate(predictions.regions.images):
            guess = Guess(
                written[row],
                predictions.regions.bbox[row],
                predictions.normalised[row].tolist(),
                float(predictions.iou[row]),
            )
            found.setdefault(position, []).append(guess)
        return found


def make_probe(
    model: X2VLM,
    source: Source,
    only: bool,
    retrieval: Retrieval,
    grounding: RegionTask,
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
    """Choose the languages of the examples: the first trained, then best, middle and worst zero-shot.

    Args:
        codes: all measured languages.
        trained: those with image-text training data.
        recall: measured R@1 by language; without it the first three zero-shot languages are chosen.
        most_trained: trained languages shown if there are zero-shot ones; otherwise up to four.
    """
    known = [code for code in codes if code in trained]
    unseen = [code for code in codes if code not in trained]
    if not unseen:
        return known[:4]
    if all(code in recall for code in unseen):
        unseen.sort(key=lambda code: -recall[code])
        unseen = [unseen[0], unseen[len(unseen) // 2], unseen[-1]]
    return [*known[:most_trained], *dict.fromkeys(unseen[:3])]
