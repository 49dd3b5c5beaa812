"""`x2kit emoji`: names of concepts, and scenes as files that JsonLines reads."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from x2kit_emoji import EmojiScenes

from x2kit.cli import main
from x2kit.plugin.loading.manager import load_plugins


def test_it_shows_the_concepts_in_the_languages_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["emoji", "--concepts", "2", "--languages", "en,de,zh"]) == 0
    assert capsys.readouterr().out == "🐨\tkoala\tkoala\t考拉\n🏎\tracing car\trennauto\t赛车\n"


def test_scenes_as_files_are_the_scenes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "deep" / "scenes"
    made = ["emoji", "--export", str(folder), "--records", "3", "--concepts", "30", "--languages", "en,de"]
    assert main(made) == 0
    assert capsys.readouterr().out == f"{folder}/records.jsonl\n"
    reader = load_plugins().registry.get("source", "JsonLines")
    written = reader.model_validate({"files": [str(folder / "records.jsonl")]}).open()  # type: ignore[attr-defined]
    scenes = EmojiScenes(concepts=30, size=3).open()
    assert len(written) == 3
    for index in range(3):
        found, expected = written[index], scenes[index]
        assert found["id"] == expected["id"]
        assert found["caption"] == {code: expected["caption"][code] for code in ("en", "de")}  # type: ignore[index]
        assert [region["bbox"] for region in found["regions"]] == [r["bbox"] for r in expected["regions"]]


def test_the_images_have_the_size_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "scenes"
    assert main(["emoji", "--export", str(folder), "--records", "1", "--image-size", "96"]) == 0
    assert Image.open(folder / "images" / "train-0.png").size == (96, 96)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--languages", "en,xx"], "--languages: no names in xx; known: en, ar"),
        (["--export", "new", "--records", "0"], "--records: Input should be greater than 0"),
        (
            ["--export", "new", "--image-size", "9"],
            "--image-size: Input should be greater than or equal to 16",
        ),
        (["--export", "new", "--split", "test", "--records", "9999"], "size: 9999 test records"),
        (["--export", "."], ". exists and is not overwritten; give another folder to --export"),
    ],
)
def test_what_cannot_be_is_refused(
    arguments: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["emoji", *arguments]) == 2
    assert capsys.readouterr().err.startswith(said)
    assert list(tmp_path.iterdir()) == []
