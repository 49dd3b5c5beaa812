"""Collect the checks by kind, and run all checks of a component."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from x2kit.plugin.components import (
    ComponentConfig,
    FusionEncoderConfig,
    HeadConfig,
    IndexConfig,
    Kind,
    ObjectiveConfig,
    SourceConfig,
    TaskConfig,
    TextEncoderConfig,
    VisionEncoderConfig,
)
from x2kit.plugin.sources import Record
from x2kit.plugin.training import OptimizerConfig, ReporterConfig
from x2kit.testing import encoder, fusion, settings, source, text, tokenizer, vision
from x2kit.testing.claims import Unchecked
from x2kit.testing.indexes import conditions, processes, searching, writing
from x2kit.testing.indexes.subject import ROWS, IndexSubject
from x2kit.testing.subjects import (
    FusionSubject,
    ObjectiveSubject,
    ReporterSubject,
    SourceSubject,
    Subject,
    TextSubject,
    VisionSubject,
)
from x2kit.testing.tasks import head, learning, predictions, rows
from x2kit.testing.tasks.head import HeadSubject
from x2kit.testing.tasks.subject import TaskSubject
from x2kit.testing.training import objective, optimizer, reporter
from x2kit.testing.training.optimizer import OptimizerSubject

KIT = Path(__file__).parent
"""Frames of the kit are not reported as the location of an error."""


class Check:
    """One named check of a kind of component; called with a component, it raises AssertionError on failure.

    Args:
        law: a function of a `Subject`; the check has its name and its docstring.

    Attributes:
        for_installed: required only of installed plugins, which every command imports.
    """

    def __init__(self, law: Callable[[Any], None]) -> None:
        self.for_installed = law in settings.FOR_INSTALLED
        self.__name__ = law.__name__
        self.__doc__ = law.__doc__
        self._law = law

    def __call__(self, component: ComponentConfig, **options: Any) -> None:
        """Run the check, with options of the kind's subject, such as `texts` for text encoders.

        Any error that the component raises fails the check. Raises Unchecked, an AssertionError, if it needs options
        that are not given.
        """
        subject = _SUBJECTS[component.kind](component, **options)
        try:
            self._law(subject)
        except Unchecked as error:
            raise Unchecked(f"{component.component_name()}: {self.__name__}: {error}") from error
        except AssertionError as error:
            raise AssertionError(f"{component.component_name()}: {self.__name__}: {error}") from error
        except Exception as error:
            raise AssertionError(
                f"{component.component_name()}: {self.__name__}: it raised {_describe(error)}"
            ) from error

    def __repr__(self) -> str:
        return f"<check {self.__name__}>"


def _describe(error: Exception) -> str:
    """Format class and text of an error, and the line of the component's code that raised it, if any."""
    text = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    inside = [number for number, frame in enumerate(frames) if KIT in Path(frame.filename).parents]
    own = [frame for frame in frames[inside[-1] + 1 :] if not _is_library(frame.filename)]
    return f"{text} ({own[-1].filename}, line {own[-1].lineno})" if own else text


def _is_library(filename: str) -> bool:
    return filename.startswith("<frozen") or Path(torch.__file__).parent in Path(filename).parents


_SUBJECTS: dict[Kind, Callable[..., Subject]] = {
    "vision": VisionSubject,
    "text": TextSubject,
    "fusion": FusionSubject,
    "head": HeadSubject,
    "source": SourceSubject,
    "task": TaskSubject,
    "objective": ObjectiveSubject,
    "optimizer": OptimizerSubject,
    "reporter": ReporterSubject,
    "index": IndexSubject,
}
_LAWS: dict[Kind, Sequence[Callable[[Any], None]]] = {
    "vision": (*settings.LAWS, *vision.LAWS, *encoder.LAWS),
    "text": (*settings.LAWS, *tokenizer.LAWS, *text.LAWS, *encoder.LAWS),
    "fusion": (*settings.LAWS, *fusion.LAWS, *encoder.LAWS),
    "source": (*settings.LAWS, *source.LAWS),
    "head": (*settings.LAWS, *head.LAWS),
    "task": (*settings.LAWS, *rows.LAWS, *learning.LAWS, *predictions.LAWS),
    "objective": (*settings.LAWS, *objective.LAWS),
    "optimizer": (*settings.LAWS, *optimizer.LAWS),
    "reporter": (*settings.LAWS, *reporter.LAWS),
    "index": (*settings.LAWS, *writing.LAWS, *conditions.LAWS, *searching.LAWS, *processes.LAWS),
}


def checks(kind: Kind) -> list[Check]:
    """Return all checks of a kind of component, in order; their names are test names."""
    return [Check(law) for law in _LAWS[kind]]


def _run(component: ComponentConfig, **options: Any) -> None:
    for check in checks(component.kind):
        check(component, **options)


def check_vision(component: VisionEncoderConfig) -> None:
    """Run all checks of vision encoders. Raises AssertionError for the first that fails."""
    _run(component)


def check_text(component: TextEncoderConfig, texts: Sequence[str] | None = None) -> None:
    """Run all checks of text encoders; a trained tokenizer uses these texts."""
    _run(component, **({} if texts is None else {"texts": texts}))


def check_fusion(component: FusionEncoderConfig, text_width: int = 16, context_width: int = 24) -> None:
    """Run all checks of fusion encoders, for texts and contexts of these widths."""
    _run(component, text_width=text_width, context_width=context_width)


def check_source(component: SourceConfig) -> None:
    """Run all checks of data sources on the first records."""
    _run(component)


def check_head(component: HeadConfig) -> None:
    """Run all checks of heads on fused summaries of a few rows."""
    _run(component)


def check_task(
    component: TaskConfig, records: Sequence[Record] = (), heads: Mapping[str, Any] | None = None
) -> None:
    """Run all checks of tasks on sample records, with the model's heads; further options: `TaskSubject`."""
    _run(component, records=records, heads=heads)


def check_objective(component: ObjectiveConfig) -> None:
    """Run all checks of objectives on features of a few rows."""
    _run(component)


def check_optimizer(component: OptimizerConfig) -> None:
    """Run all checks of optimisers on six small parameters."""
    _run(component)


def check_reporter(component: ReporterConfig) -> None:
    """Run all checks of reporters on short runs, one for each way to end; they report to the configured service."""
    _run(component)


def check_index(component: IndexConfig, rows: int = ROWS) -> None:
    """Run all checks of indexes on tables in temporary folders; the largest has this many rows."""
    _run(component, rows=rows)


__all__ = [
    "Check",
    "Subject",
    "Unchecked",
    "check_fusion",
    "check_head",
    "check_index",
    "check_objective",
    "check_reporter",
    "check_source",
    "check_task",
    "check_text",
    "check_vision",
    "checks",
]
