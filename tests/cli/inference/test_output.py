from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from x2kit.cli.inference.inputs import Item
from x2kit.cli.inference.output import Output, number, printable
from x2kit.errors import DataError, X2KitError


def blank() -> Image.Image:
    return Image.new("RGB", (4, 4))


def test_cells_are_separated_by_tabs(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=False).write({"x": 1}, [("a", "b"), ("c", "d")])
    assert capsys.readouterr().out == "a\tb\nc\td\n"


def test_json_is_one_object_a_result(capsys: pytest.CaptureFixture[str]) -> None:
    Output(as_json=True).write({"image": "犬.jpg"}, [("a",), ("b",)])
    assert capsys.readouterr().out == '{"image": "犬.jpg"}\n'


@pytest.mark.parametrize("as_json", [True, False])
def test_names_cannot_add_lines_or_control_the_terminal(
    as_json: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "a\nb\x1b[2J\udce9.jpg"
    Output(as_json).write({"image": name}, [(name,)])
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert "\x1b" not in out
    if as_json:
        assert json.loads(out) == {"image": name}


def test_joiners_and_wide_spaces_are_no_control_characters() -> None:
    assert printable("می‌شود\u3000犬") == "می‌شود\u3000犬"


def test_a_failure_names_its_input_once_and_sets_the_status(capsys: pytest.CaptureFixture[str]) -> None:
    output = Output(as_json=False)
    assert output.status == 0
    output.fail("a.jpg", "no image at a.jpg")
    output.fail("a.jpg", "a.jpg: not readable")
    assert capsys.readouterr() == ("", "a.jpg: no image at a.jpg\na.jpg: not readable\n")
    assert (output.status, output.failed) == (1, 2)


def test_one_unreadable_image_does_not_fail_its_batch(capsys: pytest.CaptureFixture[str]) -> None:
    def compute(items: list[Item]) -> list[str]:
        if any(item.image == "bad.jpg" for item in items):
            raise DataError("not readable")
        return [str(item.image) for item in items]

    output = Output(as_json=False)
    assert list(output.each([Item("a.jpg"), Item("bad.jpg"), Item("b.jpg")], compute)) == ["a.jpg", "b.jpg"]
    assert capsys.readouterr().err == "bad.jpg: not readable\n"


def test_other_errors_stop_the_command() -> None:
    with pytest.raises(X2KitError, match="no head"), Output(as_json=False).failures(Item("a.jpg")):
        raise X2KitError("no head")


def test_drawings_get_names_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "dog.png").write_bytes(b"the user's own")
    output = Output(as_json=True, folder=str(tmp_path))
    for names in [("dog",), ("dog",), ("../../etc/passwd", "a/b"), ("", "…"), ("犬" * 300,)]:
        output.write({}, [], blank, names)
    written = [Path(json.loads(line)["drawing"]).name for line in capsys.readouterr().out.splitlines()]
    assert written == ["dog-2.png", "dog-3.png", "etc-passwd-a-b.png", "drawing.png", "犬" * 60 + ".png"]
    assert {path.name for path in tmp_path.iterdir()} == {"dog.png", *written}
    assert (tmp_path / "dog.png").read_bytes() == b"the user's own"
    assert Image.open(tmp_path / "dog-2.png").size == (4, 4)


def test_a_file_is_no_folder_of_drawings(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(X2KitError, match=r"^--draw: .*file: is a file, not a folder$"):
        Output(as_json=False, folder=str(tmp_path / "file"))


def test_a_missing_score_is_a_dash() -> None:
    assert [number(value) for value in (0.12345, None, float("nan"))] == ["0.1235", "-", "-"]
