"""Answer questions about images and videos: rank or write, classify, choose. Imports torch.

B questions, L question tokens, D width, A answers of a question or classes, T answer tokens, K options.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn import functional as F

from x2kit.data.pipeline.samples import field
from x2kit.errors import DataError, Reason
from x2kit.model.generation.answers import rank_answers, write_answers
from x2kit.model.generation.beam_search import Search
from x2kit.objectives.answers import chosen_answer_loss, written_answer_loss
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
from x2kit.tasks.vqa.answers import answer_weights, read_answers
from x2kit.tasks.vqa.metric import (
    AGREEING,
    exact_match,
    measure_answers,
    measure_choices,
    results_file,
    vqa_accuracy,
)

if TYPE_CHECKING:
    from x2kit.model.x2vlm import X2VLM
    from x2kit.tasks.vqa.config import VQA, AnswerClassification, MultipleChoice

METRICS = {"vqa": vqa_accuracy, "exact": exact_match}
Targets = Mapping[str, Tensor]


class QuestionTask(Task):
    """A question about an image or video, and its annotated answers."""

    config: VQA | AnswerClassification
    answers: tuple[str, ...]

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        """Read image or video, question and answers; in training the answers are required."""
        question, visual = reader.text(field(record, "question")), _visual(record, reader)
        given = field(record, "answers") if reader.training else record.get("answers", [])
        self._check_answers(given, reader)
        return TaskRow(
            [visual], [question], answer_weights(given) if reader.training else {}, truth=list(given)
        )

    def _check_answers(self, answers: Any, reader: Reader) -> None:
        if not isinstance(answers, list | dict):
            raise DataError(
                f"answers: expected a list of texts or {{answer: weight}}, found {answers!r}",
                reason=Reason.FIELD_TYPE,
            )
        if reader.training and not answers:
            raise DataError("answers: training needs at least one, found none", reason=Reason.FIELD_MISSING)
        if reader.training or not answers or self.config.metric == "exact":
            return
        if isinstance(answers, dict) or len(answers) <= AGREEING:
            raise DataError(
                f"answers: VQA accuracy compares with those of ten annotators, found {len(answers)}; "
                "set metric: exact to compare with one",
                reason=Reason.FIELD_TYPE,
            )

    def measure(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """Measure the answers, beside chance and the most frequent answer; see `measure_answers`."""
        return measure_answers(
            [each.value for each in predictions],
            [each.truth for each in predictions],
            self.answers,
            METRICS[self.config.metric],
        )

    def items(self, predictions: Sequence[Prediction]) -> dict[str, list[float | None]]:
        """Score each answer, as `measure` averages them; None for a question without annotated answers."""
        metric = METRICS[self.config.metric]
        return {"accuracy": [metric(each.value, each.truth) if each.truth else None for each in predictions]}

    def results(self, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
        """Format the answers for the VQA server."""
        return results_file([each.id for each in predictions], [each.value for each in predictions])


class VQATask(QuestionTask):
    """Questions answered by the decoder."""

    config: VQA

    def __init__(self, config: VQA) -> None:
        super().__init__(config)
        self.answers = () if config.answer_list is None else read_answers(config.answer_list)
        self._ranked: tuple[Tokenizer, Tensor, Tensor] | None = None

    def encode(self, rows: Sequence[TaskRow], tokenizer: Tokenizer, max_tokens: int) -> list[EncodedRow]:
        """Tokenise questions and answers."""
        answers = [answer for row in rows for answer in row.targets]
        ids = iter(self._tokenise(answers, tokenizer))
        return [
            one._replace(
                targets={"ids": [next(ids) for _ in row.targets], "weights": list(row.targets.values())}
            )
            for one, row in zip(super().encode(rows, tokenizer, max_tokens), rows, strict=True)
        ]

    def _tokenise(self, answers: Sequence[str], tokenizer: Tokenizer) -> list[list[int]]:
        """Tokenise answers, which end in the end token even if the tokenizer adds none (X-VLM)."""
        end = tokenizer.special.sep
        encoded = tokenizer.encode(list(answers), self.config.max_answer_tokens)
        return [[*(ids[:-1] if ids[-1] == end else ids), end] for ids in encoded]

    def collate(
        self, rows: Sequence[EncodedRow], texts: Sequence[Texts]
    ) -> tuple[Sequence[Texts], dict[str, Tensor]]:
        """Pad the answers of each question: ids [B, A, T], lengths [B, A], weights [B, A], 0 for padding."""
        answers = max((len(row.targets["ids"]) for row in rows), default=0)
        tokens = max((len(ids) for row in rows for ids in row.targets["ids"]), default=0)
        padded = torch.zeros(len(rows), answers, tokens, dtype=torch.int64)
        lengths = torch.zeros(len(rows), answers, dtype=torch.int64)
        weights = torch.zeros(len(rows), answers)
        for place, row in enumerate(rows):
            for number, ids in enumerate(row.targets["ids"]):
                padded[place, number, : len(ids)] = torch.tensor(ids)
                lengths[place, number] = len(ids)
                weights[place, number] = row.targets["weights"][number]
        return texts, {"ids": padded, "lengths": lengths, "weights": weights}

    def loss(self, model: X2VLM, fused: Sequence[FusedTexts], targets: Targets) -> dict[str, Tensor]:
        """Compute the cross-entropy of the tokens of each answer, times its weight, summed by question."""
        (asked,) = fused
        questions, places = targets["lengths"].nonzero(as_tuple=True)
        lengths = targets["lengths"][questions, places]
        ids = targets["ids"][questions, places][:, : int(lengths.max())]
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths[:, None]
        logits = model.decoder(ids, mask, asked.states[questions], asked.mask[questions])
        weights = targets["weights"][questions, places]
        return {"answer": written_answer_loss(logits, ids, mask, len(asked.states), weights)}

    def predict(self, model: X2VLM, fused: Sequence[FusedTexts], targets: Targets) -> list[str]:
        """Rank the answers of the list, or write answers without one."""
        return [texts[0].text for texts in self.rank(model, fused, targets, 1)]

    def rank(
        self,
        model: X2VLM,
        fused: Sequence[FusedTexts],
        targets: Targets,
        count: int,
        given: Sequence[str] = (),
    ) -> list[list[RankedText]]:
        """Rank the given answers or those of the list, or write answers without any."""
        (asked,) = fused
        answers = tuple(dict.fromkeys(given)) or self.answers
        if not answers:
            return self._write(model, asked, count)
        ids, mask = self._candidates(model) if answers is self.answers else self._padded(model, answers)
        top_k = len(answers) if given else min(max(self.config.top_k, count), len(answers))
        ranked = rank_answers(model.decoder, asked.states, asked.mask, ids, mask, top_k)
        return [
            [RankedText(answers[row], *scores) for row, *scores in zip(*of_question, strict=True)]
            for of_question in zip(*(each[:, :count].tolist() for each in ranked), strict=True)
        ]

    def _candidates(self, model: X2VLM) -> tuple[Tensor, Tensor]:
        """Tokenise the list as `_padded`, once for a tokenizer."""
        if self._ranked is None or self._ranked[0] is not model.tokenizer:
            self._ranked = model.tokenizer, *self._padded(model, self.answers)
        return self._ranked[1:]

    def _padded(self, model: X2VLM, answers: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Tokenise answers: ids [A, T] and mask [A, T], on the model's device."""
        encoded = self._tokenise(answers, model.tokenizer)
        lengths = torch.tensor([len(ids) for ids in encoded])
        mask = torch.arange(int(lengths.max())) < lengths[:, None]
        ids = torch.full(mask.shape, model.tokenizer.special.pad)
        ids[mask] = torch.tensor([token for answer in encoded for token in answer])
        return ids.to(model.device), mask.to(model.device)

    def _write(self, model: X2VLM, asked: FusedTexts, count: int) -> list[list[RankedText]]:
        search = Search(
            num_beams=max(self.config.num_beams, count),
            min_length=0,
            max_length=self.config.max_answer_tokens - 1,
            unique_ngrams=None,
        )
        special = model.tokenizer.special
        written = write_answers(model.decoder, asked.states, asked.mask, special, search)
        return [
            [
                RankedText(_answer(model.tokenizer, text.ids), math.exp(text.score), text.score)
                for text in texts[:count]
            ]
            for texts in written
        ]


def _answer(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    return tokenizer.decode([id_ for id_ in ids if id_ != tokenizer.special.sep]).strip()


class ClassificationTask(QuestionTask):
    """Questions answered by the answer head."""

    config: AnswerClassification

    def __init__(self, config: AnswerClassification) -> None:
        super().__init__(config)
        self.answers = read_answers(config.answer_list)
        self._classes = {answer: number for number, answer in enumerate(self.answers)}

    def collate(
        self, rows: Sequence[EncodedRow], texts: Sequence[Texts]
    ) -> tuple[Sequence[Texts], dict[str, Tensor]]:
        """Collect the weight of each class, [B, A]; answers outside the list have none."""
        weights = torch.zeros(len(rows), len(self.answers))
        for place, row in enumerate(rows):
            for answer, weight in row.targets.items():
                if answer in self._classes:
                    weights[place, self._classes[answer]] = weight
        return texts, {"weights": weights}

    def counts(self, loss: str, targets: Targets) -> Tensor | None:
        """Count the questions with an answer of the list, [B]."""
        return (targets["weights"].sum(1) > 0).long() if self.config.average == "answered" else None

    def loss(self, model: X2VLM, fused: Sequence[FusedTexts], targets: Targets) -> dict[str, Tensor]:
        """Compute the cross-entropy of each answer, times its weight, summed by question."""
        logits, weights = model.answer_logits([fused[0].states]), targets["weights"]
        if (counts := self.counts("answer", targets)) is not None:
            logits, weights = logits[counts > 0], weights[counts > 0]
        if not len(logits):
            return {"answer": logits.sum()}  # 0, where the official mean over no question is not a number
        questions, classes = weights.nonzero(as_tuple=True)
        return {"answer": chosen_answer_loss(logits, classes, questions, weights[questions, classes])}

    def predict(self, model: X2VLM, fused: Sequence[FusedTexts], targets: Targets) -> list[str]:
        """Return the likeliest answer of each question."""
        return [self.answers[row] for row in model.answer_logits([fused[0].states]).argmax(1).tolist()]

    def rank(
        self,
        model: X2VLM,
        fused: Sequence[FusedTexts],
        targets: Targets,
        count: int,
        given: Sequence[str] = (),
    ) -> list[list[RankedText]]:
        """Rank the classes, or the given ones; log-likelihoods are over all classes."""
        if unknown := [answer for answer in given if answer not in self._classes]:
            near = get_close_matches(unknown[0], self.answers)
            raise DataError(
                f"answers: {unknown[0]!r} is none of the {len(self.answers)} answers of this model"
                + (f"; nearest: {', '.join(near)}" if near else "")
            )
        answers = tuple(dict.fromkeys(given)) or self.answers
        rows = torch.tensor([self._classes[answer] for answer in answers], device=model.device)
        log_likelihood = model.answer_logits([fused[0].states]).log_softmax(-1)[:, rows]
        likely, order = log_likelihood.sort(dim=-1, descending=True, stable=True)
        return [
            [RankedText(answers[row], *scores) for row, *scores in zip(*of_question, strict=True)]
            for of_question in zip(
                *(each[:, :count].tolist() for each in (order, likely.softmax(-1), likely)), strict=True
            )
        ]


class ChoiceTask(Task):
    """Questions answered by one of their options."""

    config: MultipleChoice

    def draw(self, record: Record, reader: Reader) -> TaskRow:
        """Read image or video, and a text of the question and each option."""
        question, options = reader.text(field(record, "question")), field(record, "options")
        if len(options) != self.config.options:
            raise DataError(
                f"options: expected {self.config.options}, the task's options, found {len(options)}",
                reason=Reason.FIELD_TYPE,
            )
        label = field(record, "label") if reader.training else record.get("label")
        if label is not None and label not in range(len(options)):
            raise DataError(
                f"label: expected the position of an option, 0 to {len(options) - 1}, found {label!r}",
                reason=Reason.FIELD_TYPE,
            )
        texts = [f"{question} {reader.text(option)}" for option in options]
        return TaskRow(
            [_visual(record, reader)], texts, {"label": label} if reader.training else {}, truth=label
        )

    def _scores(self, model: X2VLM, fused: Sequence[FusedTexts]) -> Tensor:
        """Compute the log-odds [B, K] that an option matches."""
        logits = torch.stack([model.itm_logits(option.states) for option in fused], 1)  # [B, K, 2]
        return logits[..., 1] - logits[..., 0]

    def loss(self, model: X2VLM, fused: Sequence[FusedTexts], targets: Targets) -> dict[str, Tensor]:
        """Compute the cross-entropy over the options of each question."""
        return {"choice": F.cross_entropy(self._scores(model, fused), targets["label"])}

    def predict(self, model: X2VLM, fused: Sequence[FusedTexts], targets: Targets) -> list[int]:
        """Return the position of the option with the highest score."""
        return self._scores(model, fused).argmax(1).tolist()

    def measure(self, predictions: Sequence[Prediction]) -> dict[str, Any]:
        """Measure the share of right options, beside chance and the most frequent position."""
        values, truths = [each.value for each in predictions], [each.truth for each in predictions]
        return measure_choices(values, truths, self.config.options)

    def items(self, predictions: Sequence[Prediction]) -> dict[str, list[float | None]]:
        """Score each choice, 1 or 0; None for a question without a label."""
        right = [None if each.truth is None else float(each.value == each.truth) for each in predictions]
        return {"accuracy": right}

    def results(self, predictions: Sequence[Prediction]) -> list[dict[str, Any]]:
        """Format the choices as a list of question ids and positions."""
        return results_file([each.id for each in predictions], [each.value for each in predictions])


def _visual(record: Record, reader: Reader) -> Any:
    """Read the image, or the frames of the video, of a record."""
    if record.get("image") is not None:
        return reader.image(record["image"])
    if record.get("video") is not None:
        return reader.video(record["video"])
    raise DataError(
        "a question needs an image or a video; the record has neither", reason=Reason.FIELD_MISSING
    )
