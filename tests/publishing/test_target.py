from __future__ import annotations

from pathlib import Path

import pytest

from x2kit.errors import X2KitError
from x2kit.publishing.target import Target, parse_target


def test_a_directory_is_loaded_by_its_name_from_its_parent() -> None:
    target = parse_target("build/card")
    assert (target.directory, target.address) == (Path("build/card"), "card")


@pytest.mark.parametrize(
    ("to", "revision", "expected"),
    [
        ("hf-hub:org/name", None, Target(None, "org/name")),
        ("hf-hub:org/name@v2", None, Target(None, "org/name", "v2")),
        ("hf-hub:org/name", "v2", Target(None, "org/name", "v2")),
        ("hf-hub:org/name@v2", "v2", Target(None, "org/name", "v2")),
        ("hf-hub:org/name@main", None, Target(None, "org/name")),
    ],
)
def test_a_repository_may_have_a_branch(to: str, revision: str | None, expected: Target) -> None:
    assert parse_target(to, revision) == expected


def test_the_address_names_the_branch() -> None:
    assert parse_target("hf-hub:org/name@v2").address == "hf-hub:org/name@v2"


@pytest.mark.parametrize(
    ("to", "revision", "message"),
    [
        ("hf-hub:name", None, "expected hf-hub:ORGANISATION/NAME"),
        ("hf-hub:org/name/more", None, "expected hf-hub:ORGANISATION/NAME"),
        ("hf-hub:../name", None, "expected hf-hub:ORGANISATION/NAME"),
        ("hf-hub:org/na--me", None, "'--' are not allowed"),
        ("hf-hub:org/name@a", "b", "name two revisions"),
        ("hf-hub:org/name", "../x", "name of a branch"),
        ("build/card", "v2", "build/card is a directory"),
    ],
)
def test_invalid_targets_are_refused(to: str, revision: str | None, message: str) -> None:
    with pytest.raises(X2KitError, match=message):
        parse_target(to, revision)
