"""The checks of rows: a right task passes, each mistake is named."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import pytest
from torch import Tensor

from tests.testing.wrong.tasks.network import TruthTask
from tests.testing.wrong.tasks.right import HEADS, RECORDS, RightTask, TruthHead
from x2kit.plugin import EncodedRow, Reader, Record, Task, TaskRow, Texts, Tokenizer
from x2kit.testing import Unchecked, checks


@pytest.mark.conformance(RightTask(), records=RECORDS, heads=HEADS, best=1.0)
def test_the_right_task_passes(conformance: Callable[[], None]) -> None:
    conformance()


@pytest.mark.conformance(TruthHead())
def test_the_right_head_passes(conformance: Callable[[], None]) -> None:
    conformance()


class Silent(RightTask):
    build = RightTask.__mro__[1].build  # type: ignore[assignment]


class Twice(RightTask):
    losses: ClassVar[tuple[str, ...]] = ("truth", "truth")


class Dotted(RightTask):
    losses: ClassVar[tuple[str, ...]] = ("truth.loss",)


class Kept(RightTask):
    """Keeps one task for all runs."""

    kept: ClassVar[list[Task]] = []

    def build(self) -> Task:
        if not self.kept:
            self.kept.append(super().build())
        return self.kept[0]


class NoTask(RightTask):
    def network(self) -> Any:
        return lambda config: config


def drawn(row: Callable[[TruthTask, Record, Reader], TaskRow]) -> RightTask:
    """A task that draws its rows by a function."""

    class Drawn(TruthTask):
        def draw(self, record: Record, reader: Reader) -> TaskRow:
            return row(self, record, reader)

    class Wrong(RightTask):
        def network(self) -> Any:
            return Drawn

    return Wrong()


def right(task: TruthTask, record: Record, reader: Reader) -> TaskRow:
    return TruthTask.draw(task, record, reader)


class Trusting(RightTask):
    """Expects every field."""

    def network(self) -> Any:
        return type("Trusting", (TruthTask,), {"require_fields": lambda task, record: None})


def by_chance(task: TruthTask, record: Record, reader: Reader) -> TaskRow:
    return right(task, record, reader)._replace(texts=[random.choice(["red", "green", "blue"] * 9)])


def unseen_chance(task: TruthTask, record: Record, reader: Reader) -> TaskRow:
    random.random()
    return right(task, record, reader)


def counting(task: TruthTask, record: Record, reader: Reader) -> TaskRow:
    task.drawn = getattr(task, "drawn", 0) + 1  # type: ignore[attr-defined]
    return right(task, record, reader)._replace(targets={"label": task.drawn % 2})  # type: ignore[attr-defined]


def changing(task: TruthTask, record: Record, reader: Reader) -> TaskRow:
    row = right(task, record, reader)
    record["premise"] = "green"
    return row


def fewer_images(task: TruthTask, record: Record, reader: Reader) -> TaskRow:
    row = right(task, record, reader)
    return row._replace(images=row.images * (2 if row.truth else 1))


def fewer_texts(task: TruthTask, record: Record, reader: Reader) -> TaskRow:
    row = right(task, record, reader)
    return row._replace(texts=row.texts * (2 if row.truth else 1))


def unread(task: TruthTask, record: Record, reader: Reader) -> TaskRow:
    return right(task, record, reader)._replace(images=["red.png"])


def no_json(task: TruthTask, record: Record, reader: Reader) -> TaskRow:
    return right(task, record, reader)._replace(truth={1, 2})


class OtherPlaces(RightTask):
    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        return ((0, 0), (1, 0))


def encoded(change: Callable[[list[EncodedRow]], list[EncodedRow]]) -> RightTask:
    """A task whose tokenised rows are changed."""

    class Encoded(TruthTask):
        def encode(self, rows: Sequence[TaskRow], tokenizer: Tokenizer, max_tokens: int) -> list[EncodedRow]:
            return change(super().encode(rows, tokenizer, max_tokens))

    class Wrong(RightTask):
        def network(self) -> Any:
            return Encoded

    return Wrong()


def collated(change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> RightTask:
    """A task whose targets are changed."""

    class Collated(TruthTask):
        def collate(
            self, rows: Sequence[EncodedRow], texts: Sequence[Texts]
        ) -> tuple[Sequence[Texts], dict[str, Tensor]]:
            read, targets = super().collate(rows, texts)
            return read, change(targets)

    class Wrong(RightTask):
        def network(self) -> Any:
            return Collated

    return Wrong()


MISTAKES = [
    (Silent(), "it_can_be_used", r"it has neither build\(\) nor run\(\)"),
    (Twice(), "it_can_be_used", "two losses have one name: truth, truth"),
    (Dotted(), "it_can_be_used", r"truth\.loss: a loss is logged as STREAM\.NAME"),
    (NoTask(), "it_can_be_used", r"build\(\) gives NoTask, expected a Task"),
    (Kept(), "it_can_be_used", r"build\(\) returns the same task twice"),
    (drawn(by_chance), "a_row_depends_on_its_record_and_generator", "has other texts when drawn again"),
    (drawn(unseen_chance), "a_row_depends_on_its_record_and_generator", "drawing changes the global random state"),
    (drawn(counting), "a_row_depends_on_its_record_and_generator", "has other targets when drawn again"),
    (drawn(changing), "a_row_depends_on_its_record_and_generator", "drawing changes the records 0, 1, 2, 3"),
    (Trusting(), "a_missing_field_is_a_data_error", "without its image record 0 raises KeyError: 'image'"),
    (drawn(fewer_images), "rows_have_equal_parts", "row 1 has 1 images, row 0 2, and pairs names 1"),
    (drawn(fewer_texts), "rows_have_equal_parts", "row 1 has 1 texts, row 0 2, and pairs names 1"),
    (OtherPlaces(), "rows_have_equal_parts", "row 0 has 1 texts, row 0 1, and pairs names 2"),
    (drawn(unread), "rows_have_equal_parts", r"row 0 has an image that is not from reader\.image\(\)"),
    (drawn(no_json), "rows_have_equal_parts", "truth of row 0 is no JSON value"),
    (encoded(lambda rows: rows[:3]), "rows_become_tensors", r"encode\(\) gives 3 rows of 4"),
    (
        encoded(lambda rows: [row._replace(texts=[[99]]) for row in rows]),
        "rows_become_tensors",
        "encoded row 0 has ids outside the vocabulary",
    ),
    (
        collated(lambda targets: {name: target[:1] for name, target in targets.items()}),
        "rows_become_tensors",
        r"target label is \[1\], expected \[B, \.\.\.\] = \[4, \.\.\.\]",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "name", "said"), MISTAKES)
def test_each_mistake_is_named(wrong: RightTask, name: str, said: str) -> None:
    law = {check.__name__: check for check in checks("task")}[name]
    with pytest.raises(AssertionError, match=f"{name}: .*({said})"):
        law(wrong, records=[{**record} for record in RECORDS], heads=HEADS)


def test_without_records_or_heads_the_options_are_named() -> None:
    law = {check.__name__: check for check in checks("task")}["rows_become_tensors"]
    with pytest.raises(Unchecked, match=r"needs at least 3 sample records .*, found 0; pytest: .*records="):
        law(RightTask(), heads=HEADS)
    with pytest.raises(Unchecked, match=r"model\.heads\.extra: missing: truth; give heads="):
        law(RightTask(), records=RECORDS)
