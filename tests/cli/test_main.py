from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import pytest

import x2kit as package
from x2kit import cli

Run = Callable[..., Any]


def test_help_lists_every_subcommand_with_examples(x2kit: Run) -> None:
    done = x2kit("--help")
    assert done.status == 0
    for subcommand in cli.SUBCOMMANDS:
        assert f"\n    {subcommand} " in done.out
    assert "examples:\n  x2kit recipes list" in done.out


def test_no_arguments_show_the_help(x2kit: Run) -> None:
    assert x2kit() == x2kit("--help")


@pytest.mark.parametrize("subcommand", ["recipes", "data", "plugin"])
def test_a_subcommand_without_its_action_shows_its_help(x2kit: Run, subcommand: str) -> None:
    assert x2kit(subcommand) == x2kit(subcommand, "--help")


def test_the_package_lists_what_it_imports_lazily() -> None:
    for module in (package, import_module("x2kit.plugin"), import_module("x2kit.model")):
        assert set(module.__all__) <= set(dir(module))


@pytest.mark.parametrize("subcommand", cli.SUBCOMMANDS)
def test_every_subcommand_shows_examples(x2kit: Run, subcommand: str) -> None:
    examples = import_module(cli.module_name(subcommand)).EXAMPLES
    assert f" x2kit {subcommand}" in examples
    done = x2kit(subcommand, "--help")
    assert done.status == 0
    assert examples.strip() in done.out


def test_the_version_is_printed(x2kit: Run) -> None:
    assert x2kit("--version").out == f"x2kit {package.__version__}\n"


def test_a_misspelt_subcommand_names_the_nearest(x2kit: Run) -> None:
    assert x2kit("trian") == (
        2,
        "",
        f"x2kit has no subcommand 'trian'; nearest: train\n  subcommands: {', '.join(cli.SUBCOMMANDS)}, demo, emoji\n",
    )


def test_an_unknown_option_is_refused(x2kit: Run) -> None:
    done = x2kit("train", "good.yaml", "--fast")
    assert done.status == 2
    assert "unrecognized arguments: --fast" in done.err


def test_options_are_not_abbreviated(x2kit: Run, calls: list[Any]) -> None:
    assert x2kit("train", "good.yaml", "--run", "x").status == 2
    assert calls == []


def test_ctrl_c_prints_no_traceback(x2kit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(arguments: list[str]) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", stopped)
    assert x2kit("recipes", "list") == (130, "", "interrupted\n")


def test_other_exceptions_are_not_hidden(x2kit: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(arguments: list[str]) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "_run", broken)
    with pytest.raises(ZeroDivisionError):
        x2kit("recipes", "list")


def test_a_closed_pipe_prints_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "x2kit", "recipes", "list"],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["train", "--help"],
        ["plugins"],
        ["recipes", "list"],
        ["recipes", "validate", "quickstart/multilingual"],
        ["train", "no-such-recipe"],
        ["train", "--model.vision.help"],
    ],
)
def test_commands_that_build_nothing_import_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys\n"
        "from x2kit.cli import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit:\n"
        "    pass\n"
        "heavy = {'torch', 'torchvision', 'transformers', 'timm', 'open_clip', 'numpy', 'wandb', 'mlflow'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "HEAVY []"
