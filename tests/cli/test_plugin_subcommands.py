"""Subcommands of plugins: in the help without being imported, run when they are asked for."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from x2kit.cli import plugin_subcommands as plugin_subcommands
from x2kit.plugin.loading.subcommands import Subcommands

Run = Callable[..., Any]

HELLO = """\
EXAMPLES = "examples:\\n  x2kit hello --name world"

def add_arguments(parser):
    parser.add_argument("--name", type=str, default="you", help="whom to greet")

def run(options):
    print(f"hello {options.name}")
    return 3
"""


@pytest.fixture
def subcommands(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Subcommands:
    """What the plugins bring; modules are looked for in the working directory."""
    found = Subcommands("acme", "acme 0.2")
    monkeypatch.setattr(
        plugin_subcommands, "load_plugins", lambda: type("Plugins", (), {"subcommands": found})
    )
    monkeypatch.syspath_prepend(str(folder))
    return found


def test_the_help_lists_it_with_its_plugin_without_importing_it(x2kit: Run, subcommands: Subcommands) -> None:
    subcommands.add("hello", "acme_that_is_not_there", "greets somebody")
    done = x2kit("--help")
    assert done.status == 0
    assert "    hello               greets somebody (acme)\n" in done.out


def test_it_runs_with_its_arguments_and_its_exit_status(
    x2kit: Run, subcommands: Subcommands, folder: Path
) -> None:
    (folder / "acme_hello_subcommand.py").write_text(HELLO)
    subcommands.add("hello", "acme_hello_subcommand", "greets somebody")
    assert x2kit("hello", "--name", "world")[:2] == (3, "hello world\n")
    told = x2kit("hello", "--help").out
    assert "greets somebody" in told
    assert "whom to greet" in told
    assert "x2kit hello --name world" in told


def test_a_missing_module_names_the_plugin(x2kit: Run, subcommands: Subcommands) -> None:
    subcommands.add("hello", "acme_that_is_not_there", "greets somebody")
    assert x2kit("hello") == (
        2,
        "",
        'subcommand "hello" of plugin acme (acme 0.2): acme_that_is_not_there cannot be imported: ModuleNotFoundError: '
        "No module named 'acme_that_is_not_there'\n",
    )


def test_missing_attributes_of_a_module_are_named(x2kit: Run, subcommands: Subcommands, folder: Path) -> None:
    (folder / "acme_empty_subcommand.py").write_text("EXAMPLES = ''\n")
    subcommands.add("hello", "acme_empty_subcommand", "greets somebody")
    assert (
        "acme_empty_subcommand has no add_arguments, run; a subcommand needs EXAMPLES" in x2kit("hello").err
    )


def test_a_misspelt_one_names_the_nearest(x2kit: Run, subcommands: Subcommands) -> None:
    subcommands.add("hello", "acme", "greets somebody")
    assert x2kit("helo").err.startswith("x2kit has no subcommand 'helo'; nearest: hello\n")


@pytest.mark.parametrize("arguments", [["--help"], ["emoji", "--help"]])
def test_the_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys\nfrom x2kit.cli import main\n"
        f"try:\n    main({arguments!r})\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'PIL', 'wandb', 'mlflow', 'sqlalchemy', 'emoji'} & set(sys.modules)\n"
        "print('HEAVY', sorted(heavy))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
