"""The checks by kind, and one call that runs them all."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from x2kit.plugin.components import (
    ComponentConfig,
    FusionEncoderConfig,
    Kind,
    SourceConfig,
    TaskConfig,
    TextEncoderConfig,
    VisionEncoderConfig,
)
from x2kit.testing import encoder, fusion, settings, source, text, tokenizer, vision
from x2kit.testing.subjects import SUBJECTS, Subject


class Check:
    """One named law of a kind of component. Called with a component, it raises AssertionError if broken.

    Args:
        law: a function of a `Subject`; its name is the check's, its docstring says what is checked.
    """

    def __init__(self, law: Callable[[Any], None]) -> None:
        self.__name__ = law.__name__
        self.__doc__ = law.__doc__
        self._law = law

    def __call__(self, component: ComponentConfig, **options: Any) -> None:
        """Run the check. Options are those of the kind's subject, for example `texts` for text encoders."""
        try:
            self._law(SUBJECTS[component.kind](component, **options))
        except AssertionError as error:
            raise AssertionError(f"{component.component_name()}: {self.__name__}: {error}") from error

    def __repr__(self) -> str:
        return f"<check {self.__name__}>"


_LAWS: dict[Kind, Sequence[Callable[[Any], None]]] = {
    "vision": (*settings.LAWS, *vision.LAWS, *encoder.LAWS),
    "text": (*settings.LAWS, *tokenizer.LAWS, *text.LAWS, *encoder.LAWS),
    "fusion": (*settings.LAWS, *fusion.LAWS, *encoder.LAWS),
    "source": (*settings.LAWS, *source.LAWS),
    "task": settings.LAWS,
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


__all__ = [
    "Check",
    "Subject",
    "check_fusion",
    "check_source",
    "check_task",
    "check_text",
    "check_vision",
    "checks",
]
