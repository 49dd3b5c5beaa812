"""Checks of reporters."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from x2kit.plugin.training import Reporter, RunFacts, RunStatus
from x2kit.testing.claims import claim
from x2kit.testing.subjects import ReporterSubject

STEPS = 4
RECIPE = {
    "description": "a run of the conformance kit: ärmel, 袖",
    "model": {"vision": {"class_path": "SomeVision", "init_args": {"width": 8, "pretrained": None}}},
    "data": {
        "streams": {"images": {"task": {"class_path": "SomeTask"}, "languages": ["en", "de"], "weight": 1.0}}
    },
    "training": {"steps": STEPS, "seed": 42},
}
ENDS: tuple[RunStatus, ...] = ("finished", "stopped", "failed")


def values(step: int) -> dict[str, float]:
    """Return metrics of a step, with numbers of all magnitudes and a loss that starts later."""
    found = {"loss": 4.5 / step, "lr": 1e-7 * step, "images.itc": 1e9, "samples_per_second": 12.5}
    return found | ({"images.itm_positive_accuracy": 1.0, "bad_records": 3} if step > 2 else {})


def it_opens_as_a_reporter(subject: ReporterSubject) -> None:
    """`check` accepts the settings, and `build` returns a new reporter each time."""
    subject.component.check()
    reporter = subject.component.build()
    claim(
        isinstance(reporter, Reporter),
        f"build() gives {type(reporter).__name__}, which lacks methods of Reporter",
    )
    claim(
        subject.component.build() is not reporter,
        "build() returns the same reporter twice; each run needs a new one",
    )


def it_takes_a_run_however_it_ends(subject: ReporterSubject) -> None:
    """A run may finish, stop or fail, also before its first step."""
    for status in ENDS:
        with _folder() as folder:
            _run(subject, folder, range(1, STEPS + 1), status)
    with _folder() as folder:
        _run(subject, folder, range(0), "failed")


def it_goes_on_with_a_run(subject: ReporterSubject) -> None:
    """A resumed run is another process and repeats some steps."""
    with _folder() as folder:
        _run(subject, folder, range(1, STEPS), "stopped")
        _run(subject, folder, range(STEPS - 1, STEPS + 1), "finished")
    with _folder() as folder:
        _run(subject, folder, range(STEPS - 1, STEPS + 1), "finished")  # the recipe had no reporter before


def it_changes_nothing_that_it_is_given(subject: ReporterSubject) -> None:
    """Values and recipe are not modified."""
    with _folder() as folder:
        reporter, run, logged = subject.component.build(), _facts(folder, 0), values(3)
        reporter.start(run, folder)
        reporter.log(3, logged)
        reporter.end("finished")
    claim(run.recipe == RECIPE, "it modifies the recipe")
    claim(logged == values(3), "it modifies the values")


def it_leaves_random_numbers_alone(subject: ReporterSubject) -> None:
    """The random states of torch and Python are not changed."""
    torch.manual_seed(0)
    random.seed(0)
    before = torch.get_rng_state(), random.getstate()
    with _folder() as folder:
        _run(subject, folder, range(1, 3), "finished")
    claim(torch.equal(before[0], torch.get_rng_state()), "it changes the state of torch's random numbers")
    claim(before[1] == random.getstate(), "it changes the state of Python's random numbers")


@contextmanager
def _folder() -> Iterator[Path]:
    with TemporaryDirectory() as place:
        folder = Path(place) / "run" / "reporters" / "mine"
        folder.mkdir(parents=True)
        yield folder


def _facts(folder: Path, step: int) -> RunFacts:
    recipe: Mapping[str, object] = {name: _copy(value) for name, value in RECIPE.items()}
    return RunFacts(folder.parents[1], recipe, step, STEPS)


def _copy(value: object) -> object:
    return {name: _copy(inner) for name, inner in value.items()} if isinstance(value, dict) else value


def _run(subject: ReporterSubject, folder: Path, steps: range, status: RunStatus) -> None:
    reporter = subject.component.build()
    reporter.start(_facts(folder, max(steps.start - 1, 0)), folder)
    for step in steps:
        reporter.log(step, values(step))
    reporter.end(status)


LAWS = (
    it_opens_as_a_reporter,
    it_takes_a_run_however_it_ends,
    it_goes_on_with_a_run,
    it_changes_nothing_that_it_is_given,
    it_leaves_random_numbers_alone,
)
