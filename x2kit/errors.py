"""Why a record can be broken: one closed list, so that records broken alike are counted together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self


class Reason(StrEnum):
    """Why a record is left out; the value is what counts and summaries call it, `explanation` says more.

    Attributes:
        explanation: one sentence.
    """

    explanation: str

    def __new__(cls, words: str, explanation: str = "") -> Self:
        member = str.__new__(cls, words)
        member._value_ = words
        member.explanation = explanation
        return member

    NOT_UTF8 = "not UTF-8", "The bytes of a line, or the characters of a text, are no valid UTF-8."
    NOT_JSON = "not JSON", "The line of a file is no JSON object; often it was cut off."
    FIELD_MISSING = "field missing", "The record lacks a field that its source or its stream needs."
    FIELD_TYPE = "field of a wrong type", "A field is there, but holds something else than it must."
    TEXT_EMPTY = "empty text", "Nothing, or too few words, remain of a text once it is cleaned."
    LANGUAGE_MISSING = "language missing", "The record has no text in the languages that the stream draws."
    FILE_MISSING = (
        "file missing",
        "The file of an image, of a frame or of a video is not where the record says.",
    )
    FILE_UNREADABLE = "file not readable", "A file is there, but opening or reading it fails."
    REMOTE_UNREADABLE = (
        "remote file not readable",
        "A remote file could not be read, however often it was tried.",
    )
    ADDRESS_REFUSED = (
        "address refused",
        "The record names a scheme or a host that the recipe does not allow, or a path that leaves its folder.",
    )
    SHARD_TRUNCATED = (
        "shard truncated",
        "The shard ends in the middle of this record, or its index is damaged.",
    )
    BASE64 = "not base64", "The field of an image is not whole base64; often it was cut off."
    IMAGE_UNREADABLE = (
        "image not readable",
        "The bytes are no image that can be decoded, or end too early.",
    )
    IMAGE_EMPTY = "image empty", "The file of the image has no bytes, or the image has no pixels."
    IMAGE_TOO_LARGE = "image too large", "So many pixels that a small file would fill the memory."
    IMAGE_TOO_DEEP = "image too deep", "The pixels are deeper than the 8 bits that the encoder asks for."
    IMAGE_TOO_SHALLOW = (
        "image too shallow",
        "The pixels have 8 bits, and the encoder asks for numbers that are larger.",
    )
    IMAGE_CHANNELS = (
        "image of other channels",
        "The image has more or fewer channels than the encoder asks for, or its axes are no image's.",
    )
    IMAGE_NOT_FINITE = "image not finite", "A number in the image is infinite or no number at all."
    VIDEO_UNREADABLE = "video not readable", "The bytes are no video that can be decoded, or end too early."
    VIDEO_EMPTY = "video empty", "The video has no frame."
    BYTES_TOO_MANY = (
        "too many bytes",
        "The record unpacks to more bytes than `data.limits.max_record_bytes` allows.",
    )
    BOX_TYPE = "box not four numbers", "A box is something else than x, y, width and height."
    BOX_EMPTY = "box without area", "A box has no area, or a coordinate that is not finite."
    BOX_OUTSIDE = "box outside its image", "A box lies outside its image, wholly or in part."
    BOXES_TOO_MANY = "too many boxes", "The record has more boxes than the stream's `max_boxes`."
    DUPLICATE_ID = "duplicate id", "An earlier record of the source has this id; `x2kit data check` finds it."
    OTHER = "other", "The source, often one of a plugin, names no reason of this list; see the message."


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
