"""Checks of data sources."""

from __future__ import annotations

from itertools import islice
from typing import Any

from x2kit.plugin.sources import Source
from x2kit.testing.claims import claim
from x2kit.testing.subjects import SourceSubject

TEXTS = ("caption", "regions", "texts", "question")
READ = 8
"""Number of records to check; sources may be large."""


def it_opens_as_a_source(subject: SourceSubject) -> None:
    """`check` accepts the settings, and `open` returns records by position."""
    subject.component.check()
    source = subject.component.open()
    claim(isinstance(source, Source), f"open() gives {type(source).__name__}, which lacks methods of Source")
    claim(len(source) > 0, "it has no records")
    codes = subject.component.languages()
    claim(codes is None or len(set(codes)) == len(codes), f"languages() repeats a code: {codes}")


def records_have_what_they_need(subject: SourceSubject) -> None:
    """Each record has a unique id and a text, and boxes are [x, y, width, height]."""
    ids = []
    for record in _records(subject):
        name = record.get("id")
        claim(isinstance(name, str) and bool(name), f"a record has the id {name!r}, expected a str")
        ids.append(name)
        found = [field for field in TEXTS if record.get(field)]
        claim(bool(found), f"record {name} has none of {', '.join(TEXTS)}")
        for region in record.get("regions") or []:
            claim(
                len(region["bbox"]) == 4 and region["bbox"][2] > 0 and region["bbox"][3] > 0,
                f"record {name} has the box {region['bbox']}, expected [x, y, width, height] in pixels",
            )
    claim(len(set(ids)) == len(ids), "two records have the same id")


def a_position_is_always_the_same_record(subject: SourceSubject) -> None:
    """A position gives the same record when read again, also from a reopened source."""
    one, other = _records(subject), list(reversed(_records(subject, reverse=True)))
    for before, after in zip(one, other, strict=True):
        for field in ("id", *TEXTS, "answers", "options", "label"):
            claim(
                before.get(field) == after.get(field),
                f"record {before.get('id')}: {field} differs when read again in another order",
            )
        claim(
            _pixels(before) == _pixels(after), f"record {before.get('id')}: the image differs when read again"
        )


def texts_are_in_a_fixed_order(subject: SourceSubject) -> None:
    """`texts` returns the texts in the same order each time."""
    one = list(islice(subject.component.open().texts(), 64))
    other = list(islice(subject.component.open().texts(), 64))
    claim(bool(one), "texts() gives nothing")
    claim(all(isinstance(text, str) for text in one), "texts() gives something that is no str")
    claim(one == other, "texts() returns other texts, or another order, when the source is reopened")


def the_fingerprint_is_stable(subject: SourceSubject) -> None:
    """`fingerprint` does not change without the data."""
    one, other = subject.component.open().fingerprint(), subject.component.open().fingerprint()
    claim(isinstance(one, str) and bool(one), f"the fingerprint is {one!r}, expected a str")
    claim(one == other, "the fingerprint changes though the data does not")


def _records(subject: SourceSubject, reverse: bool = False) -> list[dict[str, Any]]:
    source = subject.component.open()
    places = range(min(READ, len(source)))
    return [dict(source[place]) for place in (reversed(places) if reverse else places)]


def _pixels(record: dict[str, Any]) -> Any:
    image = record.get("image")
    if image is not None and hasattr(image, "tobytes"):
        return image.tobytes()
    return image


LAWS = (
    it_opens_as_a_source,
    records_have_what_they_need,
    a_position_is_always_the_same_record,
    texts_are_in_a_fixed_order,
    the_fingerprint_is_stable,
)
