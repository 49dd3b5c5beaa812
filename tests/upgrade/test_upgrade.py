"""What a released version wrote is loaded, measured, resumed and searched by the code of today.

The fixtures of a version are written once, by `python -m tests.upgrade.write VERSION`, and never changed: a failure
here means that users of that version lose what they have. docs/reference/versions.md is the promise.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import x2kit
from tests.upgrade import fixtures
from x2kit.cli import main

FLOAT32 = 2e-4
"""Tolerance of numbers that another processor or release of torch computes, as a share and absolute."""


@pytest.fixture(params=fixtures.versions(), scope="module")
def version(request: pytest.FixtureRequest) -> str:
    """Each version that has fixtures."""
    return str(request.param)


@pytest.fixture
def folder(version: str, tmp_path: Path) -> Path:
    """A copy of the fixtures of a version."""
    return fixtures.copy(version, tmp_path / "copy")


@pytest.fixture
def expected(version: str) -> dict[str, Any]:
    """The numbers of the version."""
    return dict(json.loads((fixtures.HERE / version / "expected.json").read_text(encoding="utf-8")))


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    """The recipe of the run sets the number of threads."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def close(value: Any) -> Any:
    return pytest.approx(value, rel=FLOAT32, abs=FLOAT32)


def test_a_run_loads_and_embeds_as_before(folder: Path, expected: dict[str, Any]) -> None:
    for kind, vectors in fixtures.embeddings(folder).items():
        torch.testing.assert_close(
            torch.tensor(vectors), torch.tensor(expected["embeddings"][kind]), rtol=FLOAT32, atol=FLOAT32
        )


def test_a_run_is_measured_as_before(folder: Path, expected: dict[str, Any]) -> None:
    assert fixtures.measured(folder / "run") == expected["evaluation"]
    assert main(["evaluate", str(folder / "run")]) == 0
    now = fixtures.measured(folder / "run")
    assert {name: now.get(name) for name in expected["evaluation"]} == close(expected["evaluation"])


def test_a_run_that_was_measured_then_is_reported_now(folder: Path, expected: dict[str, Any]) -> None:
    assert main(["report", str(folder / "run")]) == 0
    page = (folder / "run/report.html").read_text(encoding="utf-8")
    recall = expected["evaluation"]["languages.de.text_to_image.r5"]
    assert f"{100 * recall:.1f}" in page
    assert "Coloured shapes" in page


def test_a_checkpoint_resumes_to_the_same_numbers(folder: Path, expected: dict[str, Any]) -> None:
    run = folder / "run"
    assert main(["train", "--resume", "--run-dir", str(run)]) == 0
    for before, now in zip(expected["metrics"], fixtures.numbers(run), strict=True):
        assert {name: now.get(name) for name in before} == close(before)
    assert (run / "checkpoints/step-0000004").is_dir()


def test_a_checkpoint_goes_on_beyond_the_end_of_its_run(folder: Path) -> None:
    run = folder / "run"
    assert main(["train", "--resume", "--run-dir", str(run), "--training.steps", "5"]) == 0
    assert fixtures.numbers(run)[-1]["step"] == 5


def test_an_index_is_searched_and_extended(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images, index = str(folder / "data/shapes/images"), str(folder / "index")
    assert main(["search", "query", index, "a red circle", "-k", "12", "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert "data/shapes/images/0.png" in json.dumps(found)
    assert main(["search", "index", images, "--index", index, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["added"], report["gone"], report["broken"]) == (0, 0, [])


def test_weights_load_with_the_plugin_that_lies_beside_them(folder: Path, expected: dict[str, Any]) -> None:
    weights = folder / "plugin-weights"
    (plugin,) = weights.glob("plugins/*.py")
    model = x2kit.load(weights, device="cpu", plugins=[plugin])
    total = sum(parameter.double().sum().item() for parameter in model.module.parameters())
    assert total == close(expected["plugin_sum"])
    assert model.similarity([folder / "data/shapes/images/0.png"], ["a red dog"]).shape == (1, 1)


def test_the_saved_recipe_is_a_recipe_of_today(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "again.yaml"
    tree = yaml.safe_load((folder / "run/recipe.yaml").read_text(encoding="utf-8"))
    recipe.write_text(yaml.safe_dump(tree), encoding="utf-8")
    assert main(["recipes", "validate", str(recipe)]) == 0


def test_the_fixtures_name_no_machine(version: str) -> None:
    for path in sorted((fixtures.HERE / version).rglob("*")):
        if path.is_file():
            content = path.read_bytes()
            assert b"/tmp/" not in content, path
            assert b"/home/" not in content, path
            assert b"/root/" not in content, path
