from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from x2kit.errors import X2KitError
from x2kit.plugin.facts import ImageSpec
from x2kit.publishing.facts import Facts
from x2kit.publishing.folder import fill_folder, redacted_contents
from x2kit.publishing.snippet import Snippet, execute, write_snippet
from x2kit.publishing.target import Target

from .conftest import PLUGIN

TARGET = Target(Path("build/tiny"))


def test_the_example_draws_an_image_and_uses_the_parts_that_the_model_has(facts: Facts) -> None:
    snippet = write_snippet(facts, TARGET, ["a red dog"])
    assert 'Image.new("RGB", (256, 256), "white")' in snippet.python
    assert 'x2kit.load("tiny", plugins=["tiny.py"])' in snippet.python
    assert 'texts = ["a red dog"]' in snippet.python
    assert "model.similarity(" in snippet.python
    assert "model.match(" in snippet.python
    assert snippet.shell == "x2kit match example.png --model tiny --plugin tiny.py --text 'a red dog'"


@pytest.mark.parametrize(
    ("heads", "used", "shell"),
    [
        (("itc",), "model.similarity(", "x2kit embed example.png --model tiny --plugin tiny.py"),
        (
            ("itm",),
            "model.match(",
            "x2kit match example.png --model tiny --plugin tiny.py --text 'a red circle' --text 'a blue square'",
        ),
        (("answers",), "print(model)", None),
    ],
)
def test_a_model_without_a_head_has_another_example(
    facts: Facts, heads: tuple[str, ...], used: str, shell: str | None
) -> None:
    snippet = write_snippet(replace(facts, heads=heads), TARGET)
    assert used in snippet.python
    assert snippet.shell == shell


def test_a_model_without_a_tokenizer_shows_its_image_only(facts: Facts) -> None:
    snippet = write_snippet(replace(facts, reads_texts=False), TARGET)
    assert "embed_images" in snippet.python
    assert "texts" not in snippet.python
    assert snippet.shell == "x2kit embed example.png --model tiny --plugin tiny.py"


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        (ImageSpec(16, 1, (0.5,), (0.5,)), 'image = Image.new("L", (256, 256), 255)'),
        (
            ImageSpec(16, 13, (0.5,) * 13, (0.5,) * 13),
            'image = np.full((256, 256, 13), 0, dtype="uint8")',
        ),
        (
            ImageSpec(16, 1, (0.5,), (0.5,), value_range=(0, 4095)),
            "image[64:192, 64:192] = 4095",
        ),
    ],
)
def test_images_that_are_not_rgb_are_made_in_their_format(facts: Facts, spec: ImageSpec, line: str) -> None:
    assert line in write_snippet(replace(facts, image=spec._asdict()), TARGET).python


def test_a_repository_is_loaded_by_its_address(facts: Facts) -> None:
    snippet = write_snippet(facts, Target(None, "org/tiny", "v2"), shipped=True)
    assert 'x2kit.load("hf-hub:org/tiny@v2"' in snippet.python
    assert 'hf_hub_download("org/tiny", "example.png", revision="v2")' in snippet.python


@pytest.mark.parametrize(
    "target",
    [pytest.param(TARGET, marks=pytest.mark.slow), Target(None, "org/tiny", "v2")],
    ids=["directory", "repository"],
)
def test_the_example_runs_as_a_reader_runs_it(facts: Facts, tmp_path: Path, target: Target) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    fill_folder(folder, facts, redacted_contents(facts), {}, "0.1.0")
    written = write_snippet(facts, target, ["a red dog", "the sun"])
    done = execute(written if target is TARGET else replace(written, shell=None), folder, target, [PLUGIN])
    lines = done.python_output.splitlines()
    assert lines[0] == "(1, 6)"
    assert [line.split()[0] for line in lines[1:]] == ["similarity"] * 2 + ["probability"] * 2
    if done.shell is not None:
        shown = [line.split("\t") for line in done.shell_output.splitlines()]
        assert [row[2:] for row in shown] == [["example.png", "a red dog"], ["example.png", "the sun"]]
        probabilities = [line.split()[1] for line in lines[3:]]
        assert [f"{float(row[0]):.3f}" for row in shown] == probabilities


def test_an_example_that_fails_says_why(facts: Facts, tmp_path: Path) -> None:
    with pytest.raises(X2KitError, match=r"not complete; nothing was published\n(.*\n)*ValueError: missing"):
        execute(Snippet("raise ValueError('missing')", None), tmp_path, TARGET)
