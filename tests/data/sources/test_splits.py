"""Braces in paths expand to several paths, as in bash and webdataset."""

from __future__ import annotations

import pytest

from x2kit.data.sources import splits
from x2kit.data.sources.splits import expand_braces


@pytest.mark.parametrize(
    ("pattern", "paths"),
    [
        ("a.tar", ["a.tar"]),
        ("s-{000..003}.tar", ["s-000.tar", "s-001.tar", "s-002.tar", "s-003.tar"]),
        ("s-{8..11}.tar", ["s-8.tar", "s-9.tar", "s-10.tar", "s-11.tar"]),
        ("s-{08..11}.tar", ["s-08.tar", "s-09.tar", "s-10.tar", "s-11.tar"]),
        ("s-{2..0}", ["s-2", "s-1", "s-0"]),
        ("s-{0..7..3}", ["s-0", "s-3", "s-6"]),
        ("{a,b}/{0..1}.tar", ["a/0.tar", "a/1.tar", "b/0.tar", "b/1.tar"]),
        ("{a,b-{0..1}}.tar", ["a.tar", "b-0.tar", "b-1.tar"]),
        ("{a,a}.tar", ["a.tar"]),
        ("a{,.gz}", ["a", "a.gz"]),
        ("{split}-{0..1}.tar", ["{split}-0.tar", "{split}-1.tar"]),
        ("a{b}c{}{1..x}", ["a{b}c{}{1..x}"]),
        ("half{open", ["half{open"]),
        ("s3://bucket/{a,b}-*.tar", ["s3://bucket/a-*.tar", "s3://bucket/b-*.tar"]),
    ],
)
def test_a_pattern_expands_to_its_paths_in_order(pattern: str, paths: list[str]) -> None:
    assert expand_braces(pattern) == paths


def test_too_many_paths_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splits, "MAX_PATHS", 10)
    assert len(expand_braces("{1..10}")) == 10
    with pytest.raises(ValueError, match="more than 10 paths"):
        expand_braces("{1..99999999999999}")
