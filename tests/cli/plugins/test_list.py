from __future__ import annotations

import json
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from x2kit.cli.plugins import list as subcommand
from x2kit.errors import PluginError
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.registry import KINDS

GOOD = """
from x2kit.plugin import TaskConfig, hookimpl

class Counting(TaskConfig):
    def run(self, context):
        return {"count": 1}

@hookimpl
def x2kit_register(registry):
    registry.add(Counting)
"""


def call(*arguments: str) -> int:
    parser = ArgumentParser()
    subcommand.add_arguments(parser)
    return subcommand.run(parser.parse_args(list(arguments)))


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    good, bad = tmp_path / "counting.py", tmp_path / "broken.py"
    good.write_text(GOOD)
    bad.write_text("raise RuntimeError('no [brackets] lost')\n")
    return good, bad


def test_the_table_shows_each_component_with_its_owner(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("--kind", "task", "--plugin", str(files[0])) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["NAME", "KIND", "PLUGIN", "DISTRIBUTION", "STATUS"]
    assert ["Counting", "task", "counting", str(files[0]), "active"] in lines
    assert {line[1] for line in lines if line and line[-1] == "active"} == {"task"}


def test_components_stand_in_the_order_of_a_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    assert call() == 0
    kinds = [line.split()[1] for line in capsys.readouterr().out.splitlines() if line.endswith(" active")]
    assert kinds == sorted(kinds, key=[*KINDS, "subcommand"].index)
    assert {"vision", "text", "fusion"} <= set(kinds)


def test_a_quarantined_plugin_is_shown_with_its_whole_error_and_is_no_failure(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = files
    assert call("--plugin", str(bad), "--plugin", str(good)) == 0
    table, _, reasons = capsys.readouterr().out.partition("quarantined:\n")
    assert ["-", "-", "broken", str(bad), "quarantined"] in [line.split() for line in table.splitlines()]
    assert (
        f"  plugin broken ({bad}): cannot be imported: RuntimeError: no [brackets] lost ({bad}, line 1); "
        in reasons
    )
    assert "Counting" in table


def test_json_holds_components_and_the_state_of_every_plugin(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = files
    assert call("--json", "--kind", "task", "--plugin", str(good), "--plugin", str(bad)) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["api_version"] == 1
    assert {
        "name": "Counting",
        "kind": "task",
        "plugin": "counting",
        "distribution": str(good),
        "status": "active",
    } in (printed["components"])
    states = {state["name"]: state for state in printed["plugins"]}
    assert states["counting"]["components"] == [{"kind": "task", "name": "Counting"}]
    assert states["counting"]["origin"] == str(good)
    assert states["broken"]["status"] == "quarantined"
    assert "RuntimeError: no [brackets] lost" in states["broken"]["traceback"]
    assert [state["name"] for state in printed["plugins"]] == [
        state.name for state in load_plugins([str(good), str(bad)]).states
    ]


def test_strict_fails_with_the_traceback_of_a_plugin_that_does_not_work(
    files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("x2kit.plugin.loading.manager.installed", lambda: iter(()))
    assert call("--strict", "--plugin", str(files[0])) == 0
    with pytest.raises(PluginError, match=r"plugin broken .* cannot be imported"):
        call("--strict", "--plugin", str(files[1]))
    assert "raise RuntimeError('no [brackets] lost')" in capsys.readouterr().err
