"""The lower bounds of pyproject.toml are those that constraints-oldest.txt pins, and constraints.txt is within them."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
NOT_OURS = {"pyarrow"}
"""Dependencies of dependencies that the oldest versions need pinned."""
TOOLS = {"dev", "docs"}
"""Extras for working on x2kit; their oldest versions are not tested."""


def project() -> dict[str, Any]:
    return dict(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"])


def requirements(table: dict[str, Any]) -> list[Requirement]:
    extras = {name: found for name, found in table["optional-dependencies"].items() if name not in TOOLS}
    return [Requirement(text) for texts in (table["dependencies"], *extras.values()) for text in texts]


def pinned(file: str) -> dict[str, Version]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    pairs = (line.partition("#")[0].strip().partition("==") for line in lines)
    return {canonicalize_name(name): Version(version) for name, _, version in pairs if version}


def bounds(requirement: Requirement) -> list[Version]:
    return [Version(one.version) for one in requirement.specifier if one.operator == ">="]


def test_each_lower_bound_is_the_oldest_pinned_version() -> None:
    oldest = pinned("constraints-oldest.txt")
    for requirement in requirements(project()):
        assert bounds(requirement) == [oldest[canonicalize_name(requirement.name)]], requirement


def test_the_oldest_versions_have_no_further_lines() -> None:
    named = {canonicalize_name(requirement.name) for requirement in requirements(project())}
    assert set(pinned("constraints-oldest.txt")) - named == NOT_OURS


def test_the_versions_of_ci_are_allowed() -> None:
    newest = pinned("constraints.txt")
    for requirement in requirements(project()):
        version = newest[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version, prereleases=True), f"{requirement}: {version}"


def test_the_classifiers_are_of_pythons_that_are_allowed() -> None:
    table = project()
    pythons = [name.rpartition(" ")[2] for name in table["classifiers"] if "Python :: 3." in name]
    assert pythons
    assert all(Requirement(f"x{table['requires-python']}").specifier.contains(one) for one in pythons)
