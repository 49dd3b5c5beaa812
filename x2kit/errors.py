"""Errors that a person can act on.

Everything that a wrong recipe, a broken plugin, a bad file or an unsuitable machine can cause ends in one of
these. The command line prints their message and no traceback; anything else that escapes is a bug of x2kit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from x2kit.reasons import Reason as Reason


class X2KitError(Exception):
    """The base of all errors meant for the person who reads them."""


class ShapeError(X2KitError, ValueError):
    """Tensors whose shapes do not fit each other; the message names both."""


class HeadError(X2KitError, AttributeError):
    """A head was asked for that the model was built without; the message names it."""


class PluginError(X2KitError):
    """A plugin could not be used; the message names plugin, distribution and reason."""


class DataError(X2KitError):
    """A source or a record could not be read; the message names file, record and reason.

    Args:
        message: where, what was found, what is allowed.
        reason: what kind of fault it is, by which broken records are counted; without it they count as
            `Reason.OTHER`.
        record: id of the record, where the record itself cannot be given.
    """

    def __init__(self, message: str, *, reason: Reason = Reason.OTHER, record: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.record = record


class WeightsError(X2KitError):
    """Weights do not fit the model, or a weights directory is not one."""


class CheckpointError(X2KitError):
    """A checkpoint is missing, damaged or of another run."""


class StorageError(X2KitError, OSError):
    """A disk that is full or refuses to be written; the message names the file, and the room needed and free."""


class SettingError(X2KitError, ValueError):
    """A component setting that cannot be, found when the recipe is resolved.

    Args:
        setting: the field of the component, for example "width".
        message: what was found, what is allowed and what to do.
    """

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(f"{setting}: {message}")
        self.setting = setting
        self.message = message


class MissingFileError(SettingError):
    """A file or folder of data that a setting names is not there; everything else about the recipe can be checked."""


class WidthError(SettingError):
    """A setting that does not fit the width of another encoder; that encoder is blamed when the recipe is resolved.

    Args:
        setting: as of SettingError.
        message: as of SettingError.
        encoder: "text" or "vision", the encoder whose width it is.
    """

    def __init__(self, setting: str, message: str, encoder: Literal["text", "vision"]) -> None:
        super().__init__(setting, message)
        self.encoder = encoder


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a recipe: the key, where it was written, and what to do about it."""

    key: str
    place: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.key, self.message) if part)


class RecipeError(X2KitError):
    """A recipe that cannot be used; holds every fault found, not only the first."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)
