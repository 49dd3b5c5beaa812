"""What there is, is documented: hooks, components, keys, subcommands, errors, record fields, result fields."""

from __future__ import annotations

import importlib
import inspect
import json
import re
from pathlib import Path
from typing import Any

import jsonargparse
import pytest

from tests.parity.deliberate import DELIBERATE
from x2kit import X2VLM, errors, plugin
from x2kit.cli import SUBCOMMANDS
from x2kit.data.config import LOSSES
from x2kit.plugin import hookspecs
from x2kit.plugin.components import KINDS
from x2kit.plugin.loading.admission import hook_names
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.sources import Record, Region
from x2kit.recipe.keys import keys_of
from x2kit.recipe.shapes import ROOT as RECIPE
from x2kit.recipe.shapes import Entries, Section, Shape, below

from .pages import DOCS, ROOT
from .pages import anchors as anchors_of

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
def test_no_slow_page_is_stale(capsys: pytest.CaptureFixture[str]) -> None:
    status = generator().main(["--check"])
    assert status == 0, capsys.readouterr().err


def test_a_stale_page_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = generator()
    monkeypatch.setattr(module, "REFERENCE", tmp_path)
    assert module.main(["--quick"]) == 0
    assert module.main(["--check", "--quick"]) == 0
    (tmp_path / "cli.md").write_text("old")
    assert module.main(["--check", "--quick"]) == 1
    assert "stale: cli.md; run: python docs/generate.py" in capsys.readouterr().err
    assert (tmp_path / "cli.md").read_text() == "old"


@pytest.mark.parametrize("name", hook_names())
def test_every_hook_stands_there_with_its_signature(name: str) -> None:
    signature = str(inspect.signature(getattr(hookspecs, name))).replace("'", "")
    assert f"{name}{signature}" in section("hooks.md", name)


def test_the_promise_is_of_the_version_that_there_is() -> None:
    page = text("plugin-api.md")
    assert f"a whole number: now {hookspecs.API_VERSION}." in page
    assert f'x2kit_api = "{hookspecs.API_VERSION}"' in page


@pytest.mark.parametrize("kind", KINDS)
def test_every_method_that_a_component_must_write_stands_there(kind: Any) -> None:
    base = KINDS[kind]
    written = section("hooks.md", base.__name__)
    assert all(f"\n{name}(" in written for name in base.__abstractmethods__)


def test_every_component_of_x2kit_stands_there_with_every_setting() -> None:
    for entry in load_plugins().registry:
        if entry.distribution.startswith("x2kit "):
            written = section("components.md", entry.component.component_name())
            missing = [key for key in entry.component.model_fields if f"| `{key}` |" not in written]
            assert not missing, f"{entry.component.component_name()}: {missing}"


def recipe_sections(shape: Shape = RECIPE) -> list[Section]:
    if isinstance(shape, Entries):
        return recipe_sections(shape.of)
    if not isinstance(shape, Section):
        return []
    inner = [recipe_sections(below(shape, name)) for name in shape.model.model_fields]
    return [shape, *(found for sections in inner for found in sections)]


def test_every_recipe_key_stands_there_and_says_what_it_means() -> None:
    page = text("recipe-keys.md")
    for shape in recipe_sections():
        for key in keys_of(shape.model):
            assert key.description, f"{shape.model.__name__}.{key.name} has no description"
            assert re.search(rf"^\| `{key.name}` \|.*\| \S.* \|$", page, re.MULTILINE), key.name


def test_every_setting_of_a_component_says_what_it_means() -> None:
    for entry in load_plugins().registry:
        for key in keys_of(entry.component):
            assert key.description, f"{entry.component.component_name()}.{key.name} has no description"


@pytest.mark.parametrize("subcommand", SUBCOMMANDS)
def test_every_subcommand_stands_there_with_every_argument(subcommand: str) -> None:
    module = importlib.import_module(f"x2kit.cli.{subcommand}")
    parser = jsonargparse.ArgumentParser()
    module.add_arguments(parser)
    written = text("cli.md").partition(f"\n## x2kit {subcommand}\n")[2].partition("\n## ")[0]
    assert module.HELP[1:] in written
    options = set(re.findall(r"--[a-z][a-z-]+", inspect.getsource(module.add_arguments)))
    assert all(f"`{option}" in written for option in options), options
    assert all(line.strip() in written for line in module.EXAMPLES.splitlines()[1:])


def test_every_example_of_a_subcommand_is_in_a_block() -> None:
    outside = re.sub(r"^```.*?^```$", "", text("cli.md"), flags=re.MULTILINE | re.DOTALL)
    assert not re.findall(r"^\s*\$? ?x2kit .*", outside, re.MULTILINE)


@pytest.mark.parametrize(
    "contract", [plugin.VisionEncoder, plugin.TextEncoder, plugin.FusionEncoder, plugin.Tokenizer]
)
def test_every_attribute_that_a_contract_asks_for_stands_there(contract: type) -> None:
    written = section("hooks.md", contract.__name__)
    assert not [name for name in vars(contract)["__annotations__"] if f"`{name}`" not in written]


@pytest.mark.parametrize(("owner", "method"), [("TextEncoder", "read_partly"), ("Context", "expand")])
def test_every_method_that_a_plugin_meets_stands_there(owner: str, method: str) -> None:
    assert f"\n{method}(self" in section("hooks.md", owner)


def test_every_public_method_of_the_model_stands_there() -> None:
    page = text("model.md")
    names = [name for name, value in vars(X2VLM).items() if inspect.isfunction(value) and name[0] != "_"]
    assert {"similarity", "match", "locate", "encode_images", "fuse"} <= set(names)
    assert not [name for name in names if f"\n{name}(self" not in page]


def test_every_error_class_stands_there() -> None:
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.X2KitError):
            first = inspect.cleandoc(value.__doc__ or "").splitlines()[0]
            assert first in section("errors.md", name)


def test_every_field_of_a_record_stands_there() -> None:
    page = text("records.md")
    assert all(f"| `{field}` |" in page for field in Record.__annotations__)
    assert all(f"`{field}`" in page for field in Region.__annotations__)


@pytest.mark.parametrize("kind", LOSSES)
def test_every_kind_of_stream_stands_there_with_its_losses(kind: Any) -> None:
    written = section("records.md", kind)
    assert all(f"`{loss}`" in written for loss in LOSSES[kind])


def test_every_key_of_a_result_stands_there(quickstart: Path) -> None:
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


def test_the_drawing_is_part_of_its_page() -> None:
    assert "](data-flow.svg)" in (DOCS / "concepts/data-flow.md").read_text()
    assert anchors_of(DOCS / "concepts/data-flow.md")
