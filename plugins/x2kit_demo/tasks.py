"""Requests of the JSON API and their computation by a model. Texts and counts are limited by the request models."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

MAP_SIDE = 64
"""Longer side of the heat maps that are sent; the page interpolates them."""
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000)]
Texts = Annotated[list[Text], Field(min_length=1, max_length=100)]


class Request(BaseModel):
    """Base class of requests about one image.

    Attributes:
        image: id from `/api/images`, an example or a search result.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: ClassVar[str]
    image: str = Field(max_length=64)

    def compute(self, model: Any, picture: Any) -> Any:
        """Return the result as values of JSON. Raises X2KitError, with its message for the user."""
        raise NotImplementedError


class Match(Request):
    """Probability and similarity of each text."""

    name = "match"
    texts: Texts

    def compute(self, model: Any, picture: Any) -> Any:
        """Match the image with every text, most probable first."""
        found = [match.to_dict() for match in model.match(picture, self.texts)]
        return {"matches": sorted(found, key=lambda match: -match["probability"])}


class Locate(Request):
    """Boxes of each text."""

    name = "locate"
    texts: Texts
    candidates: int = Field(1, ge=1, le=10)

    def compute(self, model: Any, picture: Any) -> Any:
        """Locate all texts in one pass of the vision encoder."""
        found = model.locate_all(picture, self.texts, candidates=self.candidates)
        return {"locations": [location.to_dict() for location in found]}


class Explain(Request):
    """Heat maps of a text and its words."""

    name = "explain"
    text: Text

    def compute(self, model: Any, picture: Any) -> Any:
        """Compute the maps, reduced to `MAP_SIDE`."""
        found = model.explain(picture, self.text)
        return {
            "text": found.text,
            "method": found.method,
            "box": found.box.to_dict(),
            "heat": reduce_map(found.heat),
            "words": [{"word": each.word, "heat": reduce_map(each.heat)} for each in found.words],
        }


class Classify(Request):
    """Probabilities of labels."""

    name = "classify"
    labels: Annotated[list[Text], Field(min_length=2, max_length=1000)]
    template: Text = "{}"

    def compute(self, model: Any, picture: Any) -> Any:
        """Classify the image among the labels; `chance` is the probability of a guess."""
        (found,) = model.classify(picture, self.labels, templates=self.template)
        return {"labels": found.to_dict()["labels"], "chance": 1 / len(self.labels)}


class Answer(Request):
    """Answers to a question."""

    name = "answer"
    question: Text
    answers: Annotated[list[Text], Field(max_length=1000)] = []
    count: int = Field(5, ge=1, le=20)

    def compute(self, model: Any, picture: Any) -> Any:
        """Answer the question, among `answers` if there are any."""
        found = model.answer(picture, self.question, answers=self.answers or None, count=self.count)
        return {"candidates": found.to_dict()["candidates"]}


class Describe(Request):
    """Descriptions of the image."""

    name = "describe"
    prompt: Annotated[str, StringConstraints(strip_whitespace=True, max_length=1000)] = ""
    count: int = Field(1, ge=1, le=10)

    def compute(self, model: Any, picture: Any) -> Any:
        """Describe the image, beginning with `prompt`."""
        found = model.describe(picture, prompt=self.prompt or None, count=self.count)
        return {"candidates": found.to_dict()["candidates"]}


TASKS: dict[str, type[Request]] = {
    task.name: task for task in (Match, Locate, Explain, Classify, Answer, Describe)
}


TRIALS: tuple[Request, ...] = (
    Match(image="", texts=["a"]),
    Locate(image="", texts=["a"]),
    Explain(image="", text="a"),
    Classify(image="", labels=["a", "b"]),
    Answer(image="", question="a"),
    Describe(image=""),
)
"""A small request of each task, to see whether a model has what it needs."""


def find_missing(model: Any, picture: Any, missing: type[Exception]) -> dict[str, str]:
    """Try every task on an image and return why the others are not possible, by name.

    Args:
        model: the model.
        picture: any image.
        missing: error of a model without the part for a task.
    """
    return {trial.name: why for trial in TRIALS if (why := _try(trial, model, picture, missing))}


def _try(request: Request, model: Any, picture: Any, missing: type[Exception]) -> str:
    try:
        request.compute(model, picture)
    except missing as error:
        return str(error)
    return ""


def reduce_map(heat: NDArray[Any]) -> list[list[float]]:
    """Average a heat map [h, w] over blocks, to at most `MAP_SIDE` rows and columns of 3 decimals."""
    step = max(1, -(-max(heat.shape) // MAP_SIDE))
    rows, columns = (np.arange(0, side, step) for side in heat.shape)
    sums = np.add.reduceat(np.add.reduceat(heat.astype(np.float64), rows, 0), columns, 1)
    counts = np.outer(_lengths(rows, heat.shape[0]), _lengths(columns, heat.shape[1]))
    rounded: list[list[float]] = np.round(sums / counts, 3).tolist()
    return rounded


def _lengths(starts: Sequence[int] | NDArray[Any], end: int) -> NDArray[Any]:
    return np.diff([*starts, end])
