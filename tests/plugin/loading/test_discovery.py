from __future__ import annotations

from pathlib import Path

import pytest

from tests.plugin.conftest import Install
from x2kit.plugin.loading.discovery import installed, named


def test_finding_imports_nothing(install: Install, tmp_path: Path) -> None:
    install("acme-vit", {"acme_vit": "raise RuntimeError('imported')\n"})
    (tmp_path / "enc.py").write_text("raise RuntimeError('imported')\n")
    assert [c.name for c in installed()][-1] == "acme_vit"
    assert [c.name for c in named(["enc.py", "acme.encoders"], tmp_path)] == ["enc", "acme.encoders"]


def test_entry_points_say_their_distribution_and_version(install: Install) -> None:
    install("acme-vit", {"acme_vit": ""}, version="0.2")
    found = list(installed())[-1]
    assert (found.origin, found.distribution, found.long_name) == (
        "entry point",
        "acme-vit 0.2",
        "acme-vit:acme_vit",
    )


def test_a_distribution_without_metadata_is_found_all_the_same(install: Install) -> None:
    place = install("acme-vit", {"acme_vit": ""})
    (place / "acme_vit-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\n")
    assert [c.distribution for c in installed() if c.name == "acme_vit"] == [""]


def test_an_entry_point_to_an_object_is_another_plugin_than_its_module(install: Install) -> None:
    place = install("acme-vit", {"acme_vit": ""})
    text = "[x2kit]\na = acme_vit\nb = acme_vit:plugin\nc = acme_vit:plugin [extra]\n"
    (place / "acme_vit-1.0.dist-info" / "entry_points.txt").write_text(text)
    assert [c.identity for c in installed()][-3:] == ["acme_vit", "acme_vit:plugin", "acme_vit:plugin"]


def test_own_entry_points_come_first_whatever_others_are_called(install: Install) -> None:
    install("aaa", {"aaa": ""})
    distributions = [c.distribution.split()[0] for c in installed()]
    assert distributions[0] == "x2kit"
    assert distributions == sorted(distributions, key=lambda name: name != "x2kit")


@pytest.mark.parametrize(
    ("text", "is_file"),
    [("enc.py", True), ("./enc", True), ("..\\enc", True), ("a/enc", True), ("enc", False), ("a.enc", False)],
)
def test_a_path_is_told_from_a_module_name(text: str, is_file: bool, tmp_path: Path) -> None:
    (candidate,) = named([text], tmp_path)
    assert Path(candidate.identity).is_absolute() is is_file
