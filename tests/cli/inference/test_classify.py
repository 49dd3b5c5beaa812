from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import x2kit as package

Run = Callable[..., Any]
LABELS = ["dog", "cat", "sun"]


def test_labels_and_probabilities_are_those_of_python(x2kit: Run, model: str, pictures: Path) -> None:
    Path("labels.txt").write_text("\n".join(LABELS))
    templates = ("--template", "a {}", "--template", "ein {}")
    done = x2kit("classify", "pictures", model, "--labels", "labels.txt", *templates, "--json")
    assert (done.status, done.err) == (0, "")
    loaded = package.load("weights")
    names = ["pictures/red.png", "pictures/sub/green.jpg"]
    for line, expected in zip(
        done.out.splitlines(), loaded.classify(names, LABELS, ["a {}", "ein {}"]), strict=True
    ):
        found = json.loads(line)
        assert found["image"] == expected.image
        assert [label["text"] for label in found["labels"]] == [label.text for label in expected.labels]
        probabilities = [label["probability"] for label in found["labels"]]
        assert probabilities == pytest.approx([label.probability for label in expected.labels], abs=1e-6)


def test_count_limits_the_labels(x2kit: Run, model: str, broken: str) -> None:
    options = [part for label in LABELS for part in ("--label", label)]
    done = x2kit("classify", "pictures", model, *options, "--count", "2")
    assert done.status == 1
    assert done.err.startswith(f"{broken}: ")
    lines = [line.split("\t") for line in done.out.splitlines()]
    assert [line[2] for line in lines] == ["pictures/red.png"] * 2 + ["pictures/sub/green.jpg"] * 2
    assert float(lines[0][0]) >= float(lines[1][0])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no labels; give --label TEXT or --labels FILE\n"),
        (["--label", "dog", "--template", "a"], "templates: 'a' has no {} for the label\n"),
    ],
)
def test_wrong_usage_is_explained(
    x2kit: Run, model: str, pictures: Path, options: list[str], message: str
) -> None:
    done = x2kit("classify", "pictures", model, *options)
    assert (done.status, done.err) == (2, message)
