"""Write captions: rows, losses, generation, metrics. Imports torch.

B images, L text tokens, K predicted tokens, D width.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from x2kit.data.config import MaskingConfig
from x2kit.data.pipeline.samples import field
from x2kit.data.sources.fields import as_list
from x2kit.errors import DataError, Reason, ShapeError
from x2kit.model.generation.beam_search import Search
from x2kit.model.generation.left_to_right import reading_order, write_several_captions
from x2kit.objectives import caption_loss, next_token_loss
from x2kit.objectives.masked_language import IGNORED
from x2kit.plugin.encoders import Context, VisionFeatures
from x2kit.plugin.sources import Record
from x2kit.plugin.tasks import (
    EncodedRow,
    FusedTexts,
    Prediction,
    RankedText,
    Reader,
    Task,
    TaskRow,
    Texts,
)
from x2kit.plugin.tokenizers import Tokenizer
from x2kit.plugin.toolkit.gather import gather_rows
from x2kit.tasks.captioning import java_metrics
from x2kit.tasks.captioning.cider_stage import CiderStage, decode_references, encode_references
from x2kit.tasks.captioning.metric import Scores, bleu, cider, cider_d, rouge_l
from x2kit.tasks.captioning.samples import CaptionIds, causal_caption, masked_caption, prompt_ids
from x2kit.tasks.captioning.words import metric_words

if TYPE_CHECKING:
    from x2kit.model.inputs import ImageInput
    from x2kit.model.x2vlm import X2VLM
    from x2kit.tasks.captioning.config import Captioning

Targets = Mapping[str, Tensor]


class CaptioningTask(Task):
    """Captions of images or videos, written by the masked-language head."""

    config: Captioning

    def __init__(self, config: Captioning) -> None:
        super().__init__(config)
        self._measured: tuple[Sequence[Prediction], dict[str, Scores]] | None = None

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        """Read the image or video, and draw a caption to learn; for the CIDEr stage and for metrics read all."""
        visual = reader.video(record["video"]) if "video" in record else reader.image(field(record, "image"))
        if reader.training and self.config.objective == "likelihood":
            caption = reader.text(field(record, "caption"), raw=not self.config.clean)
            if not caption.strip():
                raise DataError(f"caption: nothing to learn in {caption!r}", reason=Reason.TEXT_EMPTY)
            return TaskRow([visual], [caption])
        known = reader.training or "caption" in record
        references = all_captions(record, reader, raw=not reader.training) if known else []
        return TaskRow(
            [visual], [""], truth={"image": image_id(record.get("image")), "references": references}
        )

    def encode(self, rows: Sequence[TaskRow], tokenizer: Tokenizer, max_tokens: int) -> list[EncodedRow]:
        """Tokenise captions to learn behind the prompt, and choose what is predicted; otherwise the prompt alone."""
        prompt = prompt_ids(self.config.prompt, tokenizer)
        encoded = []
        for row in rows:
            (caption,) = row.texts
            found = CaptionIds(prompt, [False] * len(prompt), [], [])
            if caption:
                found = self._learnt(prompt, caption, tokenizer, max_tokens, row.seed)
            targets: dict[str, Any] = {
                "inserted": found.inserted,
                "places": found.places,
                "labels": found.labels,
            }
            if self.config.objective == "cider" and row.truth:
                targets["references"] = encode_references(row.truth["references"])
            encoded.append(EncodedRow([found.ids], targets))
        return encoded

    def _learnt(
        self, prompt: list[int], caption: str, tokenizer: Tokenizer, max_tokens: int, seed: int
    ) -> CaptionIds:
        config = self.config
        if len(prompt) + 2 > max_tokens:
            raise ShapeError(
                f"the prompt has {len(prompt)} tokens and max_tokens of the stream is {max_tokens}; a caption needs "
                "two more"
            )
        if config.form == "causal":
            return causal_caption(prompt, caption, tokenizer, max_tokens)
        masking = MaskingConfig(
            mask_prob=config.mask_prob,
            max_masks=config.max_masks,
            skipgram_prob=config.skipgram_prob,
            skipgram_size=config.skipgram_size,
            whole_words=config.whole_words,
        )
        insert, rng = config.form == "insert", np.random.default_rng(seed)
        return masked_caption(prompt, caption, tokenizer, max_tokens, masking, insert, rng)

    def collate(
        self, rows: Sequence[EncodedRow], texts: Sequence[Texts]
    ) -> tuple[Sequence[Texts], dict[str, Tensor]]:
        """Read texts from left to right; pad places and labels to [B, K], and references to [B, bytes]."""
        ((ids, kept, _, lengths),) = texts
        inserted = torch.zeros_like(kept)
        predicted = max((len(row.targets["places"]) for row in rows), default=0)
        places = torch.zeros(len(rows), predicted, dtype=torch.int64)
        labels = torch.full((len(rows), predicted), IGNORED)
        for number, row in enumerate(rows):
            count = len(row.targets["places"])
            inserted[number, : len(row.targets["inserted"])] = torch.tensor(row.targets["inserted"])
            places[number, :count] = torch.tensor(row.targets["places"], dtype=torch.int64)
            labels[number, :count] = torch.tensor(row.targets["labels"], dtype=torch.int64)
        sees, positions = reading_order(inserted)
        targets = {"places": places, "labels": labels}
        if rows and "references" in rows[0].targets:
            targets["references"] = _pad_bytes([row.targets["references"] for row in rows])
        return [Texts(ids, sees & kept[:, None], positions, lengths)], targets

    def counts(self, loss: str, targets: Targets) -> Tensor | None:
        """Count the predicted tokens of each caption; the CIDEr stage averages over images."""
        return (targets["labels"] != IGNORED).sum(1) if self.config.objective == "likelihood" else None

    def loss(self, model: X2VLM, fused: Sequence[FusedTexts], targets: Targets) -> dict[str, Tensor]:
        """Compute the loss of the predicted tokens, or the self-critical loss."""
        (text,) = fused
        if self.config.objective == "cider":
            references = decode_references(targets["references"])
            return {"caption": self.cider_stage.loss(model, images_of(model, text.context), references)}
        logits = model.mlm_head(text.states, targets["places"])
        labels, smoothing = targets["labels"], self.config.label_smoothing
        if self.config.form == "causal":
            return {"caption": next_token_loss(logits, labels, smoothing)}
        unused = model.tokenizer.special.cls
        return {"caption": caption_loss(logits, labels.clamp_min(0), labels != IGNORED, unused, smoothing)}

    @cached_property
    def cider_stage(self) -> CiderStage:
        """The self-critical loss; counts document frequencies at first access."""
        return CiderStage(self.config)

    def predict(self, model: X2VLM, fused: Sequence[FusedTexts], targets: Targets) -> list[str]:
        """Write captions by beam search."""
        return [texts[0].text for texts in self.rank(model, fused, targets, 1)]

    def rank(
        self,
        model: X2VLM,
        fused: Sequence[FusedTexts],
        targets: Targets,
        count: int,
        given: Sequence[str] = (),
    ) -> list[list[RankedText]]:
        """Write captions behind the prompt of the settings, or the given one; likeliest first."""
        prompt = given[0] if given else self.config.prompt
        return self._write(model, images_of(model, fused[0].context), prompt, count)

    @torch.inference_mode()
    def write(self, model: X2VLM, images: ImageInput | Iterable[ImageInput]) -> list[str]:
        """Write a caption for each image, as `X2VLM.read` takes them; few enough for one pass."""
        pixels = model.read(images)
        if not len(pixels):
            return []
        return [
            texts[0].text for texts in self._write(model, model.encode_images(pixels), self.config.prompt, 1)
        ]

    def _write(
        self, model: X2VLM, features: VisionFeatures, prompt: str, count: int
    ) -> list[list[RankedText]]:
        config, tokenizer = self.config, model.tokenizer
        search = Search(
            max(config.num_beams, count),
            config.min_length,
            config.max_length,
            config.length_penalty,
            config.unique_ngrams,
            config.refill,
        )
        begin = prompt_ids(prompt, tokenizer)
        found = write_several_captions(model, features, begin, search, masked=config.form != "causal")
        ranked = []
        for texts in found:
            scores = [
                search.log_likelihood(text, len(begin), tokenizer.special.sep) for text in texts[:count]
            ]
            ranked.append(
                [
                    RankedText(tokenizer.decode(text.ids).strip(), math.exp(score), score)
                    for text, score in zip(texts, scores, strict=False)
                ]
            )
        return ranked

    def measure(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """Compute the metrics of the COCO evaluation, beside those of captions of other images.

        Returns:
            cider: CIDEr of the COCO evaluation, which is CIDEr-D with frequencies counted in the references.
            cider_plain: without clipping and length penalty.
            chance: cider of the same captions, each given to the next image.
            bleu_1, ..., bleu_4, rouge_l, and `java_metrics`.
            images, references, distinct, empty: counts of images with references, their references, different captions
                and captions without a word.
        """
        known = [each for each in predictions if each.truth["references"]]
        if not known:
            return {"cider": None, "images": 0, "captions": len(predictions)}
        captions, references = _words(known)
        means = self._means(predictions, captions, references)
        found = {f"bleu_{n}": scores.corpus for n, scores in enumerate(bleu(captions, references), 1)}
        if self.config.java_metrics:
            found |= java_metrics.measure(self.config.java_metrics, captions, references)
        return {
            "cider": means["cider"].corpus,
            "cider_plain": cider(captions, references).corpus,
            "chance": cider_d([*captions[1:], captions[0]], references).corpus,
            "rouge_l": means["rouge_l"].corpus,
            **found,
            "images": len(known),
            "references": sum(map(len, references)),
            "distinct": len(set(map(tuple, captions))),
            "empty": sum(not words for words in captions),
        }

    def items(self, predictions: Sequence[Prediction]) -> dict[str, list[float | None]]:
        """Score each caption by the metrics that are means over captions; None without references."""
        known = [each for each in predictions if each.truth["references"]]
        if not known:
            return {}
        means = self._means(predictions, *_words(known))
        rows = {name: iter(scores.rows) for name, scores in means.items()}
        return {
            name: [next(of_known) if each.truth["references"] else None for each in predictions]
            for name, of_known in rows.items()
        }

    def _means(
        self,
        predictions: Sequence[Prediction],
        captions: Sequence[Sequence[str]],
        references: Sequence[Sequence[Sequence[str]]],
    ) -> dict[str, Scores]:
        """Compute the metrics of single captions, once for `measure` and `items`."""
        if self._measured is None or self._measured[0] is not predictions:
            found = {"cider": cider_d(captions, references), "rouge_l": rouge_l(captions, references)}
            self._measured = predictions, found
        return self._measured[1]

    def results(self, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
        """Format captions for the COCO evaluation server: the number in the image's name, else the record's id."""
        return [
            {
                "image_id": each.id if each.truth["image"] is None else each.truth["image"],
                "caption": each.value,
            }
            for each in predictions
        ]


def all_captions(record: Record, reader: Reader, raw: bool) -> list[str]:
    """Read all captions of a record in the reader's languages. Raises DataError if there is none."""
    found = []
    for choice in as_list(field(record, "caption")):
        try:
            found.append(reader.text(choice, raw))
        except DataError as error:
            if error.reason != Reason.LANGUAGE_MISSING:
                raise
    if not found:
        raise DataError("no caption in a language that is read", reason=Reason.LANGUAGE_MISSING)
    return found


def image_id(image: object) -> int | None:
    """Return the number at the end of an image's file name, as in COCO_val2014_000000000042.jpg; None without one."""
    number = re.search(r"(\d+)\.\w+$", str(image)) if isinstance(image, str | PurePath) else None
    return int(number[1]) if number else None


def images_of(model: X2VLM, context: Context) -> VisionFeatures:
    """Return the features of each row's image."""
    assert context.lead is not None  # rows of tasks are fused with whole images
    patches = gather_rows(context.tokens, context.rows)
    return VisionFeatures(context.lead[:, 0], patches, model.vision.grid)


def _words(known: Sequence[Prediction]) -> tuple[list[list[str]], list[list[list[str]]]]:
    """Split captions and their references into words."""
    captions = [metric_words(each.value) for each in known]
    return captions, [[metric_words(text) for text in each.truth["references"]] for each in known]


def _pad_bytes(texts: Sequence[bytes]) -> Tensor:
    longest = max(map(len, texts))
    return torch.tensor([list(text.ljust(longest, b"\0")) for text in texts], dtype=torch.uint8)
