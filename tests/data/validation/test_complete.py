"""A record of an evaluation is read whole, and the first missing or invalid field is named."""

from __future__ import annotations

from typing import Any

import pytest

from tests.data.broken_records import encoded_image
from x2kit.data.validation.complete import images_of, require_complete
from x2kit.errors import DataError
from x2kit.plugin import ImageSpec

SPEC, IMAGE = ImageSpec(size=16), encoded_image(1)
SOUND: dict[str, Any] = {
    "images": [IMAGE, IMAGE],
    "caption": "Both show dogs.",
    "question": {"en": "What is it?"},
    "answers": ["dog", "dog"],
    "options": ["dog", "cat"],
    "label": 1,
    "premise": "A dog.",
    "detections": [{"bbox": [0, 0, 4, 4]}],
}


def test_a_sound_record_is_complete() -> None:
    require_complete(SOUND, SPEC)  # type: ignore[arg-type]
    require_complete({"image": IMAGE, "caption": "a dog"}, SPEC)
    assert list(images_of({"image": IMAGE})) == [IMAGE]
    assert list(images_of({"images": [IMAGE, b""]})) == [IMAGE, b""]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("images", [IMAGE], "images: expected a list of two images"),
        ("images", [IMAGE, b"none"], "not a readable image"),
        ("question", "?!", "nothing remains of the text"),
        ("question", 3, "question: expected text"),
        ("answers", [], "answers: none; leave the field out"),
        ("options", ["dog"], "options: expected a list of two or more"),
        ("label", 2, "label: the record has 2 options, numbered from 0; found 2"),
        ("label", 0.5, "label: expected text, a whole number, true or false"),
        ("premise", "", "premise: the text is empty"),
        ("detections", {}, "detections: expected a list"),
    ],
)
def test_the_first_invalid_field_is_named(field: str, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        require_complete({**SOUND, field: value}, SPEC)  # type: ignore[typeddict-item]


def test_a_record_without_an_image_is_incomplete() -> None:
    with pytest.raises(DataError, match="the record has no field 'image'; it has caption"):
        require_complete({"caption": "a dog"}, SPEC)
