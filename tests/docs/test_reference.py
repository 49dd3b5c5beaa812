"""Generated reference pages are up to date; those written by hand name every field of records and results."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.parity.deliberate import DELIBERATE
from x2kit.cli import main
from x2kit.plugin import hookspecs
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.sources import Record, Region
from x2kit.plugin.tasks import PretrainingConfig
from x2kit.recipe.catalogue import is_overlay, shipped
from x2kit.recipe.keys import keys_of
from x2kit.recipe.schema import ROOT as RECIPE
from x2kit.recipe.schema import Entries, Section, Shape, below
from x2kit.tasks import ImageText, ParallelText, PlainText, RegionText, VideoText

from .pages import DOCS, ROOT

REFERENCE = DOCS / "reference"


def text(name: str) -> str:
    return (REFERENCE / name).read_text(encoding="utf-8")


def section(page: str, heading: str) -> str:
    """The part of a page under a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", text(page), re.MULTILINE | re.DOTALL)
    assert found, f"docs/reference/{page} has no heading {heading}"
    return found[1]


def generator() -> Any:
    specification = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_no_generated_page_is_stale(capsys: pytest.CaptureFixture[str]) -> None:
    status = generator().main(["--check", "--quick"])
    assert status == 0, capsys.readouterr().err


@pytest.mark.slow
def test_every_text_overlay_fits_every_shipped_recipe_and_its_page_is_not_stale(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["recipes", "validate", "--swaps", "text", "--json"]) == 0
    entries = json.loads(capsys.readouterr().out)
    assert [entry for entry in entries if not entry["valid"]] == []
    recipes = {str(file.name) for file in shipped() if not is_overlay(file)}
    assert {entry["recipe"] for entry in entries} == recipes
    assert len(entries) == len(recipes) * len({entry["overlay"] for entry in entries})
    module = generator()  # its page shows the same pairs, which take minutes
    monkeypatch.setattr(module, "swaps_as_json", lambda kind: (entries, []))
    monkeypatch.setattr(module, "PAGES", {})
    assert set(module.SLOW_PAGES) == {"text-overlays.md"}
    status = module.main(["--check"])
    assert status == 0, capsys.readouterr().err


def test_a_stale_page_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = generator()
    monkeypatch.setattr(module, "REFERENCE", tmp_path)
    monkeypatch.setattr(module, "PAGES", {"cli.md": module.command_line})
    assert module.main(["--quick"]) == 0
    assert module.main(["--check", "--quick"]) == 0
    (tmp_path / "cli.md").write_text("old")
    assert module.main(["--check", "--quick"]) == 1
    assert "stale: cli.md; run: python docs/generate.py" in capsys.readouterr().err
    assert (tmp_path / "cli.md").read_text() == "old"


def test_the_promise_is_of_the_current_api_version() -> None:
    page = text("plugin-api.md")
    assert f"a whole number: now {hookspecs.API_VERSION}." in page
    assert f'x2kit_api = "{hookspecs.API_VERSION}"' in page


def recipe_sections(shape: Shape = RECIPE) -> list[Section]:
    if isinstance(shape, Entries):
        return recipe_sections(shape.of)
    if not isinstance(shape, Section):
        return []
    inner = [recipe_sections(below(shape, name)) for name in shape.model.model_fields]
    return [shape, *(found for sections in inner for found in sections)]


def test_every_recipe_key_has_a_description() -> None:
    components = [entry.component for entry in load_plugins().registry]
    for model in (*(shape.model for shape in recipe_sections()), *components):
        assert [key.name for key in keys_of(model) if not key.description] == [], model.__name__


def test_every_field_of_a_record_is_on_the_page() -> None:
    page = text("records.md")
    assert all(f"| `{field}` |" in page for field in Record.__annotations__)
    assert all(f"`{field}`" in page for field in Region.__annotations__)


@pytest.mark.parametrize("task", [ImageText, RegionText, VideoText, ParallelText, PlainText])
def test_every_task_of_pretraining_is_on_the_page_with_its_losses(task: type[PretrainingConfig]) -> None:
    written = section("records.md", task.component_name())
    assert all(f"`{loss}`" in written for loss in task.losses)


def test_every_key_of_a_result_is_on_the_page(quickstart: Path) -> None:
    result = json.loads((quickstart / "runs/quickstart/evaluation.json").read_text())
    page = text("evaluation.md")
    code, language = next(iter(result["languages"].items()))
    keys = {
        *result,
        *language,
        *result["grounding"][code],
        *result["rerank"],
        *result["checkpoint"],
        *result["data"],
    }
    keys |= {*result["model"], *language["image_to_text"]}
    assert not [key for key in sorted(keys) if not re.search(rf"`(\S*\.)?{key}(\.\S*)?`", page)]


def test_the_page_of_evidence_has_every_recorded_file() -> None:
    head, *sections = text("parity.md").split("\n### ")
    by_folder = {part.partition("\n")[0]: part for part in sections}
    missing = [
        path.relative_to(ROOT).as_posix()
        for path in sorted((ROOT / "tests" / "reference").glob("*/*"))
        if f"`{path.name}`" not in head + by_folder.get(path.parent.name, "")
    ]
    assert not missing, f"run `make parity`; nothing is said of {missing}"


def test_the_page_of_evidence_has_every_deliberate_difference() -> None:
    page = text("parity.md")
    missing = [item.what for item in DELIBERATE if any(part.replace("|", "\\|") not in page for part in item)]
    assert not missing, f"run `make parity`; these differences have changed: {missing}"


def test_every_file_that_a_page_names_exists() -> None:
    for page in sorted(DOCS.rglob("*.md")):
        for name in re.findall(r"`((?:x2kit|plugins|tests|docs|recipes)/[\w/.-]+)`", page.read_text()):
            assert (ROOT / name).exists(), f"{page.relative_to(ROOT)}: {name}"
