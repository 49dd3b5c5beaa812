"""Settings of the sources for tasks. Imports neither numpy nor Pillow."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from x2kit_emoji.config import DrawnConfig

if TYPE_CHECKING:
    from x2kit_emoji.tasks.clips import ClipSource
    from x2kit_emoji.tasks.questions import QuestionSource
    from x2kit_emoji.tasks.relations import CaptionSource, RelationSource
    from x2kit_emoji.tasks.statements import EntailmentSource, PairSource

QuestionKind = Literal["which", "how many", "is there", "where"]
ClipQuestionKind = Literal["which", "is there", "where"]

FEWEST_CONCEPTS = 100
"""Of fewer concepts, some form no pair in validation or in test."""

HELD_OUT_RECORDS = 480
"""Default number of records in validation and test: a multiple of every number of answers that are balanced."""


class TaskSourceConfig(DrawnConfig):
    """Settings of all sources for tasks; texts are names of concepts and of signs (see `x2kit_emoji.signs`)."""

    size: int | None = Field(
        None, gt=0, description="number of records; null for 100,000 in train, 480 in validation and test"
    )
    sides: tuple[float, float] = Field(
        (0.28, 0.44),
        description="minimum and maximum of an emoji's longer side, as shares of the image's side",
    )
    hide_emoji: bool = Field(
        False,
        description="show backgrounds only, with the same texts, answers and boxes: what a model learns without images",
    )

    @property
    def records(self) -> int:
        """Number of records."""
        return HELD_OUT_RECORDS if self.size is None and self.split != "train" else super().records

    @model_validator(mode="after")
    def _fit(self) -> TaskSourceConfig:
        if self.sides[0] > 0.5:
            raise ValueError(f"sides: four emoji fit if the minimum is at most 0.5, found {self.sides[0]}")
        if self.concepts < FEWEST_CONCEPTS:
            raise ValueError(
                f"concepts: {FEWEST_CONCEPTS} or more, so that each has others to be with in every split; "
                f"found {self.concepts}"
            )
        return self


class EmojiRelations(TaskSourceConfig):
    """Referring expressions with a relation: two equal emoji, one on either side of another one.

    `regions` has the two: "dog, left arrow, cat" is the dog left of the cat, "dog, right arrow, cat" the one right of
    it. Without the relation a text fits both, so a model that ignores it is right half of the time.
    """

    def open(self) -> RelationSource:
        """Open the scenes. Raises DataError for a missing package."""
        from x2kit_emoji.tasks.relations import RelationSource

        return RelationSource(self)


class EmojiQuestions(TaskSourceConfig):
    """Questions about scenes, with one answer in English; four consecutive records ask the same.

    | kind | question | answers | chance |
    | --- | --- | --- | --- |
    | which | "red question mark, left arrow, cat": what is left of the cat | a name | 1 / `concepts` |
    | how many | "abacus, cat" | none, one, two, three | 1/4 |
    | is there | "check mark, cat" | yes, no | 1/2 |
    | where | "compass, cat" | top left, top right, bottom left, bottom right | 1/4 |

    The four have every answer of the kind equally often, so the question alone does not give the answer.
    """

    kinds: tuple[QuestionKind, ...] = Field(
        ("which", "how many", "is there", "where"),
        min_length=1,
        description="kinds of question, in turn, four records each",
    )

    def open(self) -> QuestionSource:
        """Open the scenes. Raises DataError for a missing package."""
        from x2kit_emoji.tasks.questions import QuestionSource

        return QuestionSource(self)


class EmojiPairs(TaskSourceConfig):
    """Pairs of scenes with a sentence that is true or false, as in NLVR2; four consecutive records share a sentence.

    "left arrow, cat": there is a cat in the left image; "right arrow, cat": in the right one; "left-right arrow, cat":
    in both. Two of the four are true.
    """

    def open(self) -> PairSource:
        """Open the pairs. Raises DataError for a missing package."""
        from x2kit_emoji.tasks.statements import PairSource

        return PairSource(self)


class EmojiCaptions(TaskSourceConfig):
    """Scenes of two or three emoji with a sentence that names all, from left to right.

    "dog, left arrow, cat": a dog left of a cat.
    """

    def open(self) -> CaptionSource:
        """Open the scenes. Raises DataError for a missing package."""
        from x2kit_emoji.tasks.relations import CaptionSource

        return CaptionSource(self)


class EmojiEntailment(TaskSourceConfig):
    """Scenes with a hypothesis in `caption` and a class in `label`; three consecutive records share a hypothesis.

    "dog, left arrow, cat" is an entailment if the dog is left of the cat, a contradiction if it is right of it, and
    neutral if one of them is not in the scene.
    """

    def open(self) -> EntailmentSource:
        """Open the scenes. Raises DataError for a missing package."""
        from x2kit_emoji.tasks.statements import EntailmentSource

        return EntailmentSource(self)


class EmojiClips(TaskSourceConfig):
    """Clips of moving emoji with questions that no single frame answers; four consecutive records ask the same.

    | kind | question | answers | chance |
    | --- | --- | --- | --- |
    | which | "red question mark, left-right arrow": which one moves sideways | a name | 1 / `concepts` |
    | is there | "check mark, cat": whether it is seen in any frame; it is in one at most | yes, no | 1/2 |
    | where | "compass, cat": the axis on which the cat moves | sideways, up and down | 1/2 |

    Two emoji move, one sideways, the other up or down. No answer depends on the order of the frames, because a model
    that averages frames does not know it.
    """

    kinds: tuple[ClipQuestionKind, ...] = Field(
        ("which", "is there", "where"),
        min_length=1,
        description="kinds of question, in turn, four records each",
    )
    frames: int = Field(3, ge=2, le=16, description="frames of a clip")

    def open(self) -> ClipSource:
        """Open the clips. Raises DataError for a missing package."""
        from x2kit_emoji.tasks.clips import ClipSource

        return ClipSource(self)
