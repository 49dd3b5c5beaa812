"""The checks of sources and of settings: a right one passes, each mistake is found."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from pydantic import ConfigDict, Field

from x2kit.plugin import Record, Source, SourceConfig
from x2kit.testing import checks

Mistake = Literal["", "empty", "same ids", "no text", "no box", "changing", "text order", "fingerprint"]
counter = itertools.count()


class Colours(SourceConfig):
    """Three records, with a mistake if one is asked for."""

    mistake: Mistake = Field("", description="what is wrong with it")

    def check(self) -> None:
        """Nothing can be wrong."""

    def languages(self) -> tuple[str, ...] | None:
        return ("en",)

    def open(self) -> Source:
        return ColoursSource(self.mistake)


class ColoursSource:
    def __init__(self, mistake: str) -> None:
        self.mistake = mistake

    def __len__(self) -> int:
        return 0 if self.mistake == "empty" else 3

    def __getitem__(self, index: int) -> Record:
        name = "colour" if self.mistake == "same ids" else f"colour-{index}"
        caption = f"red {next(counter)}" if self.mistake == "changing" else f"red {index}"
        if self.mistake == "no text":
            return {"id": name}
        size = 0.0 if self.mistake == "no box" else 4.0
        return {
            "id": name,
            "caption": caption,
            "regions": [{"bbox": [0.0, 0.0, size, size], "caption": "red"}],
        }

    def texts(self) -> Iterator[str]:
        start = next(counter) if self.mistake == "text order" else 0
        return iter([f"red {start + index}" for index in range(3)])

    def fingerprint(self) -> str:
        return str(next(counter)) if self.mistake == "fingerprint" else "abc"


def laws(kind: Any) -> dict[str, Any]:
    return {check.__name__: check for check in checks(kind)}


# This module asks for the checks, which need torch; the settings of a plugin must not.
LAWS = [check for check in checks("source") if check.__name__ != "the_module_imports_no_torch"]


@pytest.mark.parametrize("check", LAWS)
def test_a_right_source_passes(check: Any) -> None:
    check(Colours())


@pytest.mark.parametrize(
    ("mistake", "name", "said"),
    [
        ("empty", "it_opens_as_a_source", "it has no records"),
        ("same ids", "records_have_what_they_need", "two records have the same id"),
        ("no text", "records_have_what_they_need", "has none of caption, regions, texts, question"),
        ("no box", "records_have_what_they_need", r"expected \[x, y, width, height\]"),
        ("changing", "a_position_is_always_the_same_record", "caption differs when read again"),
        ("text order", "texts_are_in_a_fixed_order", "when the source is reopened"),
        ("fingerprint", "the_fingerprint_is_stable", "changes though the data does not"),
    ],
)
def test_each_mistake_is_named(mistake: Mistake, name: str, said: str) -> None:
    with pytest.raises(AssertionError, match=f"Colours: {name}: .*{said}"):
        laws("source")[name](Colours(mistake=mistake))


class Careless(Colours):
    model_config = ConfigDict(frozen=False, extra="allow")
    silent: float = float("nan")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("settings_survive_a_recipe", "written to YAML and read back it is"),
        ("settings_are_strict_and_frozen", "it accepts unknown settings"),
        ("every_setting_is_described", "the class has no docstring"),
    ],
)
def test_careless_settings_are_named(name: str, said: str) -> None:
    with pytest.raises(AssertionError, match=f"Careless: {name}: {said}"):
        laws("source")[name](Careless())
