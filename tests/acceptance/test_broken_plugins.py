"""Six broken plugins, one for each reason, installed together: they are listed and harm nobody."""

from __future__ import annotations

import json

import pytest

from tests.plugin.conftest import BROKEN, Install
from x2kit import cli

REASONS = {
    "import error": "cannot be imported: ModuleNotFoundError: No module named 'acme_that_is_not_installed'",
    "misspelt hook": "x2kit_regster",
    "duplicate name": "BeitV2",
    "api range": ">=2",
    "hook raises": "its hook x2kit_register raised: RuntimeError: boom",
    "no hook": "x2kit_register",
}


@pytest.fixture
def broken(install: Install) -> dict[str, str]:
    """Six distributions; the plugin's name by its fault."""
    names = {fault: f"acme_{fault.replace(' ', '_')}" for fault in BROKEN}
    for fault, name in names.items():
        install(f"dist-{name}", {name: BROKEN[fault]})
    return names


def test_every_fault_has_its_plugin() -> None:
    assert sorted(REASONS) == sorted(BROKEN)
    assert len(BROKEN) == 6


def test_all_are_listed_with_their_reasons(
    broken: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["plugins", "list", "--json"]) == 0
    states = {state["name"]: state for state in json.loads(capsys.readouterr().out)["plugins"]}
    for fault, name in broken.items():
        state = states[name]
        assert state["status"] == "quarantined", fault
        assert state["distribution"] == f"dist-{name} 1.0"
        assert REASONS[fault] in state["error"], state["error"]
    others = {name for name, state in states.items() if state["status"] == "active"}
    assert {"x2kit_timm", "x2kit_transformers", "x2kit_fusion", "x2kit_emoji"} <= others


def test_the_table_shows_them_too(
    broken: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert cli.main(["plugins"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    for fault, name in broken.items():
        assert name in printed
        assert REASONS[fault] in printed, fault


def test_the_quickstart_still_validates(broken: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["recipes", "validate", "quickstart/multilingual"]) == 0


def test_who_needs_a_broken_one_is_told_why(
    broken: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    needed = ["recipes", "validate", "quickstart/multilingual", "--plugin", broken["hook raises"]]
    assert cli.main(needed) == 2
    message = capsys.readouterr().err
    assert broken["hook raises"] in message
    assert REASONS["hook raises"] in message
