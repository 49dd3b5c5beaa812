"""The checks of the distributions: a sound release passes, each mistake is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import x2kit
from tests.release import distributions
from tests.release.distributions import ROOT

METADATA = """\
Metadata-Version: 2.4
Name: x2kit
Version: {version}
License-Expression: MIT
{pythons}
Description-Content-Type: text/markdown

text
"""
PYTHONS = "\n".join(f"Classifier: Programming Language :: Python :: {one}" for one in distributions.PYTHONS)


def metadata_faults(old: str = "", new: str = "") -> list[str]:
    text = METADATA.format(version="0.1.0", pythons=PYTHONS).replace(old, new)
    return list(distributions.metadata_faults(text.encode(), "0.1.0"))


def test_sound_metadata_have_no_faults() -> None:
    assert metadata_faults() == []


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("Version: 0.1.0", "Version: 0.1.1", "version 0.1.1, x2kit.__version__ is 0.1.0"),
        ("Expression: MIT", "Expression: MYT", "MYT"),
        ("Expression: MIT", "Expression: ISC", "ISC, expected MIT"),
        ("text/markdown", "text/plain", "text/plain, expected text/markdown"),
        ("3.13", "3.14", "classifiers name Python 3.11, 3.14"),
        ("Language", "Tongue", "no such classifier"),
        ("License", "Requires-Dist: a @ https://example.org/a.whl\nLicense", "has an address"),
    ],
)
def test_a_mistake_in_the_metadata_is_named(old: str, new: str, words: str) -> None:
    assert words in " ".join(metadata_faults(old, new))


def test_the_wheel_has_the_tracked_files_of_the_shipped_folders_alone() -> None:
    tracked = {"x2kit/__init__.py", "plugins/x2kit_a/a.py", "recipes/a.yaml", "tests/test_a.py"}
    sound = ["x2kit/__init__.py", "x2kit_a/a.py", "x2kit/recipes/a.yaml"]
    assert list(distributions.wheel_name_faults(sound, tracked)) == []
    assert "lacks x2kit_a/a.py" in next(distributions.wheel_name_faults([sound[0], sound[2]], tracked))
    assert "has x2kit/notes.md" in next(distributions.wheel_name_faults([*sound, "x2kit/notes.md"], tracked))


def test_the_source_distribution_has_no_tests() -> None:
    sound = {"x2kit/__init__.py", *distributions.PROJECT_FILES}
    assert list(distributions.sdist_name_faults(sound, {"x2kit/__init__.py", "tests/plugins/a.py"})) == []
    found = distributions.sdist_name_faults({*sound, "tests/plugins/a.py"}, {"x2kit/__init__.py"})
    assert "has tests/plugins/a.py" in next(found)


def test_a_path_of_this_machine_is_found() -> None:
    inside = {"x2kit/a.py": b"root = '~'", "x2kit/b.json": f"see {ROOT}/x2kit".encode()}
    (fault,) = distributions.path_faults(inside)
    assert fault == f"x2kit/b.json has a path of this machine: {ROOT}/"


def test_a_large_wheel_is_named_with_its_size(tmp_path: Path) -> None:
    wheel = tmp_path / "x2kit.whl"
    wheel.touch()
    os.truncate(wheel, distributions.MOST_BYTES - 1)
    assert list(distributions.size_faults(wheel)) == []
    os.truncate(wheel, distributions.MOST_BYTES)
    assert "2,000,000 bytes" in next(distributions.size_faults(wheel))


def test_an_entry_point_without_a_module_is_named() -> None:
    text = "[x2kit]\na = x2kit_a\nb = x2kit_b.plugin\n[console_scripts]\nx2kit = x2kit.cli:main\n"
    inside = ["x2kit_a/__init__.py", "x2kit/cli/__init__.py"]
    (fault,) = distributions.entry_point_faults(text, inside)
    assert "b = x2kit_b.plugin" in fault


def test_the_changelog_needs_an_entry_of_the_version() -> None:
    changelog = "# Changelog\n\n## 0.2.0 (2027-01-05)\n\n## 0.1.0\n\n### Added\n\n- All.\n"
    assert list(distributions.changelog_faults(changelog, "0.1.0")) == []
    assert list(distributions.changelog_faults(changelog, "0.2.0")) == [
        "CHANGELOG.md: the section 0.2.0 has no entry"
    ]
    assert list(distributions.changelog_faults(changelog, "0.1")) == ["CHANGELOG.md has no section '## 0.1'"]


def test_the_changelog_has_an_entry_of_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert list(distributions.changelog_faults(text, x2kit.__version__)) == []
