"""Settings of the tasks that answer questions about images and videos. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from x2kit.errors import DataError
from x2kit.plugin.choice import FROM_HERE, HARMLESS, Location
from x2kit.plugin.components import TaskConfig

if TYPE_CHECKING:
    from x2kit.tasks.vqa.task import ChoiceTask, ClassificationTask, VQATask

MEANS = ("mean", "mean_trained", "mean_zero_shot")
"""Main numbers of a result: means of the accuracy over languages."""
Metric = Annotated[Literal["vqa", "exact"], HARMLESS]
METRIC_HELP = (
    "score of an answer: vqa, VQA accuracy over the answers of ten annotators, normalised; exact, equality with an "
    "annotated answer (xGQA, MSRVTT-QA, MSVD-QA)"
)


class VQA(TaskConfig):
    """Visual question answering by a decoder, which ranks a list of answers or writes them freely (X²-VLM, 4.3).

    Records have a question, an image or video, and answers.
    """

    losses: ClassVar[tuple[str, ...]] = ("answer",)
    produces: ClassVar[Literal["answer"]] = "answer"
    metrics: ClassVar[tuple[str, ...]] = MEANS
    pooled: ClassVar[bool] = False

    answer_list: Annotated[Location | tuple[str, ...] | None, HARMLESS] = Field(
        None,
        description="answers that are ranked: a JSON file with a list (answer_list.json) or an object of answers and "
        "class numbers, or the answers themselves; null writes answers freely, by beam search",
    )
    top_k: Annotated[int, HARMLESS] = Field(
        128,
        gt=0,
        description="ranking: number of answers, those with the likeliest first tokens, that are scored in full "
        "(official k_test)",
    )
    num_beams: Annotated[int, HARMLESS] = Field(
        3, gt=0, description="writing: beams of the search; 1 is greedy search"
    )
    max_answer_tokens: Annotated[int, FROM_HERE] = Field(
        20, gt=1, description="tokens kept of an answer, or written, special ones included"
    )
    metric: Metric = Field("vqa", description=METRIC_HELP)

    def missing_heads(self, heads: Any) -> Mapping[str, str]:
        """Require the decoder."""
        return {} if heads.decoder_layers else {"decoder_layers": "no decoder; set its number of layers"}

    def build(self) -> VQATask:
        """Build the task. Raises DataError for an unreadable answer list."""
        from x2kit.tasks.vqa.task import VQATask

        return VQATask(self)


class AnswerClassification(TaskConfig):
    """Answers to questions about images or videos, classified over a list (VQA v2, MSRVTT-QA, MSVD-QA).

    Records have a question, an image or video, and answers.
    """

    losses: ClassVar[tuple[str, ...]] = ("answer",)
    produces: ClassVar[Literal["answer"]] = "answer"
    metrics: ClassVar[tuple[str, ...]] = MEANS

    answer_list: Location | tuple[str, ...] = Field(
        description="the classes: a JSON file with a list of answers, or with an object of answers and class numbers "
        "(ans2label.json), or the answers themselves",
    )
    average: Literal["answered", "all"] = Field(
        "answered",
        description="questions that the loss averages over: answered, those with an answer of the list (official for "
        "videos); all, where the others contribute 0 (official for VQA v2)",
    )
    metric: Metric = Field("exact", description=METRIC_HELP)

    def missing_heads(self, heads: Any) -> Mapping[str, str]:
        """Require an answer head with a class for each answer, if the list can be read."""
        from x2kit.tasks.vqa.answers import read_answers

        try:
            count = len(read_answers(self.answer_list))
        except DataError:
            count = heads.answers
        faults = {}
        if heads.answers is None or heads.answers != count:
            faults["answers"] = (
                f"expected {count or 'the number of answers of the list'}, found {heads.answers}"
            )
        if heads.answer_images != 1:
            faults["answer_images"] = f"expected 1, found {heads.answer_images}"
        return faults

    def build(self) -> ClassificationTask:
        """Build the task. Raises DataError for an unreadable answer list."""
        from x2kit.tasks.vqa.task import ClassificationTask

        return ClassificationTask(self)


class MultipleChoice(TaskConfig):
    """One of several answer options of each question (NExT-QA), by the matching score of question and option.

    Records have a question, an image or video, options, and the position of the correct one as label.
    """

    losses: ClassVar[tuple[str, ...]] = ("choice",)
    metrics: ClassVar[tuple[str, ...]] = MEANS

    options: int = Field(5, gt=1, description="answer options of each question")

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """The text of each option with the image."""
        return tuple((option, 0) for option in range(self.options))

    def missing_heads(self, heads: Any) -> Mapping[str, str]:
        """Require the matching head."""
        return {} if "itm" in heads.built else {"built": "no matching head; add itm"}

    def build(self) -> ChoiceTask:
        """Build the task."""
        from x2kit.tasks.vqa.task import ChoiceTask

        return ChoiceTask(self)
