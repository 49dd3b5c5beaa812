from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., Any]

COMPLETE = """\
source ./script
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); COMPREPLY=()
_shtab_x2kit
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def complete(x2kit: Run, folder: Path) -> Callable[..., list[str]]:
    """What bash offers for the last of these words."""
    if shutil.which("bash") is None:
        pytest.skip("needs bash")
    done = x2kit("--print_completion", "bash")
    assert (done.status, done.err) == (0, "")
    (folder / "script").write_text(done.out)

    def run(*words: str) -> list[str]:
        line = ["bash", "-c", COMPLETE, "bash", "x2kit", *words]
        return subprocess.run(line, capture_output=True, text=True, check=True, cwd=folder).stdout.split()

    return run


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["tr"], ["train"]),
        (["train", "--training.prec"], ["--training.precision"]),
        (["train", "--training.precision", ""], ["auto", "fp32", "tf32", "bf16", "fp16"]),
        (["train", "--training.compile", "t"], ["true"]),
        (["train", "--model.vision", "Beit"], ["BeitV2"]),
        (["train", "--model.vision.drop"], ["--model.vision.drop_path"]),
        (["train", "quickstart/multi"], ["quickstart/multilingual"]),
        (["train", "goo"], ["good.yaml"]),
        (["recipes", "validate", "--config", "overlays/bf"], ["overlays/bf16"]),
        (["recipes", "show", "--training.step"], ["--training.steps"]),
        (["evaluate", "run", "--evaluation.spl"], ["--evaluation.split"]),
        (["evaluate", "run", "--training.st"], []),
        (["expl"], ["explain"]),
        (["embed", "goo"], ["good.yaml"]),
        (["embed", "good.yaml", "goo"], ["good.yaml"]),
        (["locate", "good.yaml", "--dra"], ["--draw"]),
        (["match", "good.yaml", "--precision", "b"], ["bf16"]),
    ],
)
def test_bash_completes(complete: Callable[..., list[str]], words: list[str], offered: list[str]) -> None:
    assert complete(*words) == offered


def test_zsh_has_a_script_too(x2kit: Run) -> None:
    done = x2kit("--print_completion", "zsh")
    assert done.status == 0
    assert done.out.startswith("#compdef x2kit\n")
    assert "--training.precision" in done.out


def test_another_shell_is_refused_with_those_that_work(x2kit: Run) -> None:
    done = x2kit("--print_completion", "fish")
    assert done.status == 2
    assert "'bash', 'tcsh', 'zsh'" in done.err
