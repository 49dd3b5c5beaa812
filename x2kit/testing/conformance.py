"""The checks by kind, and one call that runs them all."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from x2kit.plugin.components import (
    ComponentConfig,
    FusionEncoderConfig,
    Kind,
    ObjectiveConfig,
    ReporterConfig,
    SourceConfig,
    TaskConfig,
    TextEncoderConfig,
    VisionEncoderConfig,
)
from x2kit.testing import encoder, fusion, objective, reporter, settings, source, text, tokenizer, vision
from x2kit.testing.subjects import SUBJECTS, Subject

KIT = Path(__file__).parent
"""Frames of the kit itself are never what went wrong."""


class Check:
    """One named law of a kind of component. Called with a component, it raises AssertionError if broken.

    Args:
        law: a function of a `Subject`; its name is the check's, its docstring says what is checked.

    Attributes:
        for_installed: only an installed plugin has to pass it, which every command imports.
    """

    def __init__(self, law: Callable[[Any], None]) -> None:
        self.for_installed = law in settings.FOR_INSTALLED
        self.__name__ = law.__name__
        self.__doc__ = law.__doc__
        self._law = law

    def __call__(self, component: ComponentConfig, **options: Any) -> None:
        """Run the check. Options are those of the kind's subject, for example `texts` for text encoders.

        Whatever the component itself raises is a check that it does not pass, too.
        """
        subject = SUBJECTS[component.kind](component, **options)
        try:
            self._law(subject)
        except AssertionError as error:
            raise AssertionError(f"{component.component_name()}: {self.__name__}: {error}") from error
        except Exception as error:
            raise AssertionError(
                f"{component.component_name()}: {self.__name__}: it raised {_told(error)}"
            ) from error

    def __repr__(self) -> str:
        return f"<check {self.__name__}>"


def _told(error: Exception) -> str:
    """The error's class and text, and the line of the component's own code that it came from, where there is one."""
    text = "".join(traceback.format_exception_only(error)).strip()
    frames = traceback.extract_tb(error.__traceback__)
    inside = [number for number, frame in enumerate(frames) if Path(frame.filename).parent == KIT]
    own = [frame for frame in frames[inside[-1] + 1 :] if not _is_library(frame.filename)]
    return f"{text} ({own[-1].filename}, line {own[-1].lineno})" if own else text


def _is_library(filename: str) -> bool:
    return filename.startswith("<frozen") or Path(torch.__file__).parent in Path(filename).parents


_LAWS: dict[Kind, Sequence[Callable[[Any], None]]] = {
    "vision": (*settings.LAWS, *vision.LAWS, *encoder.LAWS),
    "text": (*settings.LAWS, *tokenizer.LAWS, *text.LAWS, *encoder.LAWS),
    "fusion": (*settings.LAWS, *fusion.LAWS, *encoder.LAWS),
    "source": (*settings.LAWS, *source.LAWS),
    "task": settings.LAWS,
    "objective": (*settings.LAWS, *objective.LAWS),
    "reporter": (*settings.LAWS, *reporter.LAWS),
}


def checks(kind: Kind) -> list[Check]:
    """All checks of a kind of component, in order; their names are test names."""
    return [Check(law) for law in _LAWS[kind]]


def _run(component: ComponentConfig, **options: Any) -> None:
    for check in checks(component.kind):
        check(component, **options)


def check_vision(component: VisionEncoderConfig) -> None:
    """Run all checks of vision encoders. Raises AssertionError that names the first broken one."""
    _run(component)


def check_text(component: TextEncoderConfig, texts: Sequence[str] | None = None) -> None:
    """Run all checks of text encoders; a tokenizer that is trained is trained on these texts."""
    _run(component, **({} if texts is None else {"texts": texts}))


def check_fusion(component: FusionEncoderConfig, text_width: int = 16, context_width: int = 24) -> None:
    """Run all checks of fusion encoders, between texts and contexts of these widths."""
    _run(component, text_width=text_width, context_width=context_width)


def check_source(component: SourceConfig) -> None:
    """Run all checks of data sources; reads the first records."""
    _run(component)


def check_task(component: TaskConfig) -> None:
    """Run the checks of evaluation tasks that need no model: those of the settings."""
    _run(component)


def check_objective(component: ObjectiveConfig) -> None:
    """Run all checks of objectives, on features of a few rows."""
    _run(component)


def check_reporter(component: ReporterConfig) -> None:
    """Run all checks of reporters, on short runs that end in all ways; it reports where its settings say."""
    _run(component)


__all__ = [
    "Check",
    "Subject",
    "check_fusion",
    "check_objective",
    "check_reporter",
    "check_source",
    "check_task",
    "check_text",
    "check_vision",
    "checks",
]
