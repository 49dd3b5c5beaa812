"""Examples of a folder and of JSON Lines; broken ones are named."""

from __future__ import annotations

from pathlib import Path

import pytest
from x2kit_demo.examples import COUNT, read_examples

from x2kit.plugin import DataError

from .conftest import png


def test_a_folder_gives_its_first_images(tmp_path: Path) -> None:
    for number in range(COUNT + 5):
        (tmp_path / f"{number:03}.png").write_bytes(png())
    (tmp_path / "notes.txt").write_text("no image")
    found = read_examples(tmp_path)
    assert [example.label for example in found] == [f"{number:03}.png" for number in range(COUNT)]
    assert found[0].opener() == tmp_path / "000.png"


def test_json_lines_give_texts_by_language(scenes: Path) -> None:
    first, second = read_examples(scenes)
    assert first.texts == {"en": ["a red dog", "dog"], "de": ["ein roter hund"]}
    assert second.texts == {"": ["the sun", "the moon"]}
    assert second.opener() == (scenes.parent / "1.png").resolve()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"image": "../../etc/passwd"}', "line 1: image ../../etc/passwd is outside the folder of the file"),
        ('{"image": "/etc/passwd"}', "line 1: image /etc/passwd is outside the folder of the file"),
        ('{"caption": "a"}', "line 1: expected an object with `image`: KeyError('image')"),
        ("[1]", "line 1: expected an object with `image`"),
        ("{", "line 1: expected an object with `image`"),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    file = tmp_path / "records.jsonl"
    file.write_text(line + "\n")
    with pytest.raises(DataError, match=r"records\.jsonl, line 1") as caught:
        read_examples(file)
    assert said in str(caught.value)


def test_a_missing_file_and_an_empty_folder_are_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="expected a folder or a JSON Lines file"):
        read_examples(tmp_path / "no.jsonl")
    with pytest.raises(DataError, match="no images in the folder"):
        read_examples(tmp_path)
