"""The promised names of x2kit and its plugin API change only with a version: docs/reference/versions.md."""

from __future__ import annotations

from typing import NamedTuple

from tests.plugin import public_names

WRITE = "then run: python -m tests.plugin.public_names"


def test_no_promised_name_or_argument_changes_unnoticed() -> None:
    before = public_names.FILE.read_text(encoding="utf-8").splitlines()
    now = public_names.current()
    gone = [line.strip() for line in before if line not in now]
    new = [line.strip() for line in now if line not in before]
    assert not gone, (
        f"promised names were removed or changed: {gone}, now {new}. Keep the old name or argument, deprecated "
        "(x2kit/plugin/loading/deprecation.py), for a minor release. If it goes: raise API_VERSION in "
        f"x2kit/plugin/hookspecs.py and say in CHANGELOG.md, Removed, what replaces it; {WRITE}"
    )
    assert not new, f"names were added: {new}. Say so in CHANGELOG.md, Added; {WRITE}"


def test_names_of_every_kind_are_in_the_list() -> None:
    lines = public_names.current()
    assert any(line.startswith("hook x2kit_register(registry") for line in lines)
    assert any(line.startswith("x2kit.load(name, device='auto'") for line in lines)
    assert "class x2kit.plugin.VisionEncoderConfig" in lines
    assert "  x2kit.plugin.VisionFacts.width" in lines
    assert "  x2kit.plugin.VisionEncoder.forward(self, images)" in lines


class Example(NamedTuple):
    """A class whose module is not x2kit's."""

    width: int


def test_what_other_libraries_define_is_not_promised() -> None:
    assert list(public_names.describe("x2kit.Example", Example)) == ["class x2kit.Example"]
