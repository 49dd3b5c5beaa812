"""Define the error classes of x2kit and the reasons of broken records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Self


class Reason(StrEnum):
    """Closed list of reasons for skipping a record; counts and summaries use the value.

    Attributes:
        explanation: one sentence.
    """

    explanation: str

    def __new__(cls, value: str, explanation: str = "") -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.explanation = explanation
        return member

    NOT_UTF8 = "not UTF-8", "The bytes of a line, or the characters of a text, are not valid UTF-8."
    NOT_JSON = "not JSON", "A line of the file is not a JSON object; often it is truncated."
    FIELD_MISSING = "field missing", "The record lacks a field that its source or stream requires."
    FIELD_TYPE = "field of a wrong type", "A field has the wrong type."
    TEXT_EMPTY = "empty text", "The text is empty or too short after cleaning."
    LANGUAGE_MISSING = "language missing", "The record has no text in any language of the stream."
    FILE_MISSING = "file missing", "The image, frame or video file does not exist at the record's path."
    FILE_UNREADABLE = "file not readable", "The file exists, but cannot be opened or read."
    FILE_CHANGED = "file changed", "The image file has changed since its features were cached."
    REMOTE_UNREADABLE = "remote file not readable", "A remote file could not be read after all retries."
    ADDRESS_REFUSED = (
        "address refused",
        "The record names a scheme or host that the recipe does not allow, or a path outside its folder.",
    )
    SHARD_TRUNCATED = "shard truncated", "The shard ends inside this record, or its index is damaged."
    BASE64 = "not base64", "The image field is not valid base64; often it is truncated."
    IMAGE_UNREADABLE = "image not readable", "The bytes cannot be decoded as an image, or are truncated."
    IMAGE_EMPTY = "image empty", "The image file has no bytes, or the image has no pixels."
    IMAGE_TOO_LARGE = "image too large", "The image has more pixels than the limit that protects memory."
    IMAGE_TOO_DEEP = "image too deep", "The image has more than the 8 bits per value that the encoder takes."
    IMAGE_TOO_SHALLOW = (
        "image too shallow",
        "The image has 8 bits per value; the encoder takes a larger range.",
    )
    IMAGE_CHANNELS = (
        "image of other channels",
        "The number of channels differs from the encoder's, or the array does not have an image's axes.",
    )
    IMAGE_NOT_FINITE = "image not finite", "The image contains NaN or Inf."
    VIDEO_UNREADABLE = "video not readable", "The bytes cannot be decoded as a video, or are truncated."
    VIDEO_EMPTY = "video empty", "The video has no frame."
    BYTES_TOO_MANY = (
        "too many bytes",
        "The record decompresses to more bytes than `data.limits.max_record_bytes`.",
    )
    BOX_TYPE = "box not four numbers", "A box is not four numbers: x, y, width, height."
    BOX_EMPTY = "box without area", "A box has no area, or a coordinate that is NaN or Inf."
    BOX_OUTSIDE = "box outside its image", "A box lies outside its image, completely or in part."
    BOXES_TOO_MANY = "too many boxes", "The record has more boxes than the stream's `max_boxes`."
    DUPLICATE_ID = (
        "duplicate id",
        "An earlier record of the source has the same id; `x2kit data check` finds it.",
    )
    OTHER = "other", "The source, often a plugin's, gives no reason of this list; see the message."


class X2KitError(Exception):
    """Base class of all errors with a message for the user."""


class ShapeError(X2KitError, ValueError):
    """Two tensors have incompatible shapes; the message names both."""


class HeadError(X2KitError, AttributeError):
    """The model was built without the requested head; the message names it."""


class PluginError(X2KitError):
    """A plugin cannot be used; the message names plugin, distribution and reason."""


class DataError(X2KitError):
    """A source or record cannot be read; the message names file, record and reason.

    Args:
        message: place, value found, allowed values.
        reason: broken records are counted by it.
        record: id of the record, if the caller does not know it.
    """

    def __init__(self, message: str, *, reason: Reason = Reason.OTHER, record: str | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.record = record


class WeightsError(X2KitError):
    """Weights do not match the model, or a directory holds no weights."""


class CheckpointError(X2KitError):
    """A checkpoint is missing, damaged or from another run."""


class StorageError(X2KitError, OSError):
    """A disk is full or refuses a write; the message names the file and the bytes needed and free."""


class SettingError(X2KitError, ValueError):
    """A component has an invalid setting, found when the recipe is resolved.

    Args:
        setting: the field of the component, for example "width".
        message: value found, allowed values and what to do.
    """

    def __init__(self, setting: str, message: str) -> None:
        super().__init__(f"{setting}: {message}")
        self.setting = setting
        self.message = message


class MissingFileError(SettingError):
    """A setting names a missing data file or folder; the rest of the recipe is still checked."""


class WidthError(SettingError):
    """A setting does not match another encoder's width; the error is reported at that encoder.

    Args:
        setting: see SettingError.
        message: see SettingError.
        encoder: "text" or "vision", the encoder with that width.
    """

    def __init__(self, setting: str, message: str, encoder: Literal["text", "vision"]) -> None:
        super().__init__(setting, message)
        self.encoder = encoder


@dataclass(frozen=True)
class Fault:
    """One fault of a recipe: its key, file and line, and message."""

    key: str
    place: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.place, self.key, self.message) if part)


class RecipeError(X2KitError):
    """A recipe is invalid; holds every fault, not only the first."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(str(fault) for fault in faults))
        self.faults = tuple(faults)
