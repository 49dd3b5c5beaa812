"""The checks of reporters: a right one passes, each mistake is found."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import Field

from x2kit.plugin import Reporter, ReporterConfig, RunFacts, RunStatus
from x2kit.testing import checks


def check(component: ReporterConfig) -> None:
    """All checks but that of imports: this module has torch."""
    for one in checks("reporter"):
        if one.__name__ != "the_module_imports_no_torch":
            one(component)


class Lines:
    """One line for each step."""

    def start(self, run: RunFacts, folder: Path) -> None:
        self.file = folder / "lines.txt"

    def log(self, step: int, values: Mapping[str, float]) -> None:
        with self.file.open("a") as file:
            file.write(f"{step} {sorted(values)}\n")

    def end(self, status: RunStatus) -> None:
        pass


class Right(ReporterConfig):
    """Keeps the contract."""

    mark: str = Field("", description="nothing")

    def build(self) -> Reporter:
        return Lines()


def test_a_right_one_passes() -> None:
    check(Right())


class NoEnd(ReporterConfig):
    """Its reporter cannot end."""

    def build(self) -> Any:
        return object()


SHARED = Lines()


class Shared(ReporterConfig):
    """All runs have one reporter."""

    def build(self) -> Any:
        return SHARED


class NewFile(ReporterConfig):
    """Wants a new run."""

    class Made(Lines):
        def start(self, run: RunFacts, folder: Path) -> None:
            super().start(run, folder)
            self.file.touch(exist_ok=False)

    def build(self) -> Any:
        return self.Made()


class OnlyGrows(ReporterConfig):
    """Wants steps that only grow."""

    class Made(Lines):
        def log(self, step: int, values: Mapping[str, float]) -> None:
            seen = self.file.read_text().split("\n")[-2:-1] if self.file.exists() else []
            if seen and int(seen[0].split()[0]) >= step:
                raise ValueError("this step was logged")
            super().log(step, values)

    def build(self) -> Any:
        return self.Made()


class SameNames(ReporterConfig):
    """Wants the names of the first step for good."""

    class Made(Lines):
        names: Any = None

        def log(self, step: int, values: Mapping[str, float]) -> None:
            self.names = self.names or sorted(values)
            if sorted(values) != self.names:
                raise KeyError("another column")

    def build(self) -> Any:
        return self.Made()


class Writes(ReporterConfig):
    """Takes values out."""

    class Made(Lines):
        def log(self, step: int, values: Any) -> None:
            values.pop("loss")

    def build(self) -> Any:
        return self.Made()


class WritesRecipe(ReporterConfig):
    """Takes a section out."""

    class Made(Lines):
        def start(self, run: Any, folder: Path) -> None:
            super().start(run, folder)
            run.recipe["training"].clear()

    def build(self) -> Any:
        return self.Made()


class Seeds(ReporterConfig):
    """Seeds the random numbers of all."""

    class Made(Lines):
        def start(self, run: RunFacts, folder: Path) -> None:
            super().start(run, folder)
            torch.manual_seed(1)

    def build(self) -> Any:
        return self.Made()


class Draws(ReporterConfig):
    """Draws its name."""

    class Made(Lines):
        def end(self, status: RunStatus) -> None:
            random.random()

    def build(self) -> Any:
        return self.Made()


@pytest.mark.parametrize(
    ("component", "said"),
    [
        (NoEnd(), r"build\(\) gives object, which lacks methods of Reporter"),
        (Shared(), r"build\(\) returns the same reporter twice"),
        (NewFile(), "it_goes_on_with_a_run: it raised FileExistsError"),
        (OnlyGrows(), "it_goes_on_with_a_run: it raised ValueError: this step was logged"),
        (SameNames(), "it_takes_a_run_however_it_ends: it raised KeyError: 'another column'"),
        (Writes(), "it modifies the values"),
        (WritesRecipe(), "it modifies the recipe"),
        (Seeds(), "it changes the state of torch's random numbers"),
        (Draws(), "it changes the state of Python's random numbers"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_mistake_is_found(component: ReporterConfig, said: str) -> None:
    with pytest.raises(AssertionError, match=said):
        check(component)
