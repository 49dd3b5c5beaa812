"""Run the fenced blocks of a page in a temporary folder.

- A block with a title is that file.
- `python` is run; the blocks of a page share their names, like one session.
- `bash` is a command a line; each must succeed.
- `console` is commands behind `$` with what they print. `...` stands for anything: alone in a line for any lines,
  or for the rest of the line. A command may fail only if every line that it says is on the page, or if the page
  shows a check that fails.
- `text` and a `json` block without a title show something and are not run.

x2kit runs in this process, so that torch is imported once; `< FILE` is its standard input. Eight commands need more
than a test has, and are replaced:

- `x2kit train` and `x2kit bench` get further options: few steps, small batches, few records, few layers, one thread.
  The recipe, the plugins and every other option are the page's. `^C` in a console block is a Ctrl-C after a step.
- `x2kit emoji --export DIR` writes at most `SCENES` scenes.
- `torchrun ... -m x2kit SUBCOMMAND` is `x2kit SUBCOMMAND` in one process.
- `make TARGET` is looked up in the Makefile.
- `pip install FOLDER` installs into a folder on the path of this page, from here alone.
- `python FILE` runs a file that the page wrote, in a process in which torch, x2kit and transformers are not found.
- `hf download NAME --local-dir DIR` writes a tiny model of the kind, with the library that publishes it.
- `x2kit convert FILE.th` reads a narrow checkpoint in the official layout, written to the path of the page.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from x2kit.cli import main
from x2kit.cli.recipe_keys import split_keys
from x2kit.data.config import StreamConfig
from x2kit.data.pipeline.batch import Batch
from x2kit.recipe import Recipe, read_recipe
from x2kit.training.trainer import Trainer

from ..interop.made import checkpoint
from .pages import ROOT, Block
from .tiny_models import write_bert, write_timm, write_xlmr

ROWS, FUSED, RECORDS, STEPS = 8, 4, 24, 2
"""Of a small run: rows of a stream, of which so many are fused; generated scenes to measure on; steps."""
SCENES = 100
"""Most scenes that a page exports as files."""
CTRL_C = "^C"


class Page:
    """A session in a folder: files, commands and Python blocks of one page.

    Args:
        folder: the working directory; `site/` in it stands for site-packages.
        monkeypatch: of the test; undoes what the page does to this process.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self._monkeypatch = folder, monkeypatch
        self._names: dict[str, Any] = {"__name__": "page"}
        self._site = folder / "site"
        monkeypatch.chdir(folder)
        monkeypatch.setenv("COLUMNS", "200")
        self._site.mkdir(exist_ok=True)
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.syspath_prepend(str(self._site))

    def run(self, block: Block) -> None:
        """Write or run a block. Raises AssertionError if its result differs from the page."""
        if block.title:
            self._write(block)
        elif block.language == "python":
            exec(compile(block.text, f"line {block.line}", "exec"), self._names)
        elif block.language == "bash":
            for line in block.text.replace("\\\n", " ").splitlines():
                status, said = self.command(line)
                assert status == 0, f"line {block.line}: {line}: exit status {status}\n{said}"
        elif block.language == "console":
            self._console(block)
        else:
            assert block.language in ("text", "json"), (
                f"line {block.line}: nothing runs {block.language} blocks"
            )

    def command(self, line: str, stopped: bool = False) -> tuple[int, str]:
        """Exit status and output of one command."""
        name, *arguments = shlex.split(line, comments=True)
        if name == "torchrun":
            name, *arguments = arguments[arguments.index("-m") + 1 :]
        known: dict[str, Callable[[list[str]], tuple[int, str]]] = {
            "make": self._make,
            "pip": self._pip,
            "pytest": self._pytest,
            "ruff": self._ruff,
            "hf": self._hf,
            "python": self._run_without_torch,
        }
        if name == "x2kit":
            return self._x2kit(arguments, stopped)
        assert name in known, f"{line}: a page may only use x2kit, {', '.join(known)}"
        return known[name](arguments)

    def _write(self, block: Block) -> None:
        file = self.folder / str(block.title)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(block.text, encoding="utf-8")
        if file.suffix in (".json", ".jsonl"):
            pairs = re.findall(r'"images": \["([^"]+)", "([^"]+)"\]', block.text)
            for name in (*re.findall(r'"(?:image|file_name)": "([^"]+)"', block.text), *chain(*pairs)):
                write_image(file.parent / name)
            # the page says that the split for evaluation has the same form
            if file.name == "train.jsonl" and not (file.parent / "test.jsonl").exists():
                (file.parent / "test.jsonl").write_text(block.text, encoding="utf-8")

    def _console(self, block: Block) -> None:
        for shown in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
            line, _, expected = shown.partition("\n")
            stopped = expected.startswith(CTRL_C)
            status, said = self.command(line, stopped)
            expected = expected.removeprefix(f"{CTRL_C}\n")
            told = "..." not in expected.splitlines()
            failing = re.search(r"^ *FAIL ", expected, re.MULTILINE)
            allowed = (130,) if stopped else (1,) if failing else (0, 1, 2) if told else (0,)
            assert status in allowed, f"{line}: {status}\n{said}"
            assert says(expected, said), f"line {block.line}: {line}\nexpected\n{expected}\nfound\n{said}"

    def _x2kit(self, arguments: list[str], stopped: bool) -> tuple[int, str]:
        if arguments[0] in ("train", "bench") and "--resume" not in arguments:
            arguments = [*arguments, *small(arguments)]
        if arguments[0] == "emoji" and "--records" in arguments:
            place = arguments.index("--records") + 1
            arguments[place] = str(min(int(arguments[place]), SCENES))
        if arguments[0] == "convert" and arguments[1].endswith(".th"):
            checkpoint("xvlm_pretrain_base_224", self.folder / arguments[1])
        if "<" in arguments:
            *arguments, _, file = arguments
            self._monkeypatch.setattr(sys, "stdin", (self.folder / file).open(encoding="utf-8"))
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output), _ctrl_c(stopped):
            try:
                status = main(arguments)
            except SystemExit as stop:  # argparse ends the process after --help
                status = stop.code  # type: ignore[assignment]
        return status, output.getvalue()

    def _make(self, arguments: list[str]) -> tuple[int, str]:
        rules = re.findall(r"^([\w.]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
        return (0, "") if set(arguments) <= set(rules) else (2, f"no rule for {arguments}; rules: {rules}")

    def _pip(self, arguments: list[str]) -> tuple[int, str]:
        offline = [
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
        ]
        done = self._python("pip", *arguments, *offline, "--target", str(self._site))
        importlib.invalidate_caches()
        return done

    def _pytest(self, arguments: list[str]) -> tuple[int, str]:
        return self._python("pytest", "-q", "-p", "no:cacheprovider", *arguments)

    def _ruff(self, arguments: list[str]) -> tuple[int, str]:
        return self._python("ruff", *arguments, "--no-cache")

    def _python(self, *arguments: str) -> tuple[int, str]:
        environment = {**os.environ, "PYTHONPATH": str(self._site)}
        command = [sys.executable, "-m", *arguments]
        done = subprocess.run(
            command, cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout + done.stderr

    def _hf(self, arguments: list[str]) -> tuple[int, str]:
        subcommand, name, option, directory = arguments
        assert (subcommand, option) == ("download", "--local-dir")
        if name.startswith("timm/"):
            write_timm(name.removeprefix("timm/"), self.folder / directory)
        else:  # multilingual E5 has the architecture and the tokenizer of XLM-R
            write = write_xlmr if "xlm-roberta" in name or "multilingual-e5" in name else write_bert
            write(self.folder / directory)
        return 0, ""

    def _run_without_torch(self, arguments: list[str]) -> tuple[int, str]:
        done = run_without_torch(self.folder, arguments)
        return done.returncode, done.stdout + done.stderr


def run_without_torch(
    folder: Path, arguments: Sequence[str], given: str = ""
) -> subprocess.CompletedProcess[str]:
    """Run a Python file in a process in which importing torch, x2kit or transformers fails."""
    hidden = "import runpy, sys; sys.modules.update(dict.fromkeys(('torch', 'x2kit', 'transformers')))"
    code = f"{hidden}; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=folder, input=given, capture_output=True, text=True, check=False)


def says(expected: str, said: str) -> bool:
    """Whether the output is the one that the page shows, up to spaces between words."""
    lines = [" ".join(line.split()) for line in expected.rstrip().splitlines()]
    shown = [
        r"(?:.*\n)*" if line == "..." else re.escape(line).replace(r"\.\.\.", ".*") + r"\n" for line in lines
    ]
    found = "".join(" ".join(line.split()) + "\n" for line in said.rstrip().splitlines())
    return re.fullmatch("".join(shown), found) is not None


def small(arguments: list[str]) -> list[str]:
    """Return options that shorten a documented `x2kit train` to seconds.

    Args:
        arguments: of the command, with its subcommand.
    """
    rest, keys = split_keys(arguments)
    if keys.help:
        return []
    given = [name for name in rest[1:2] if not name.startswith("-")]
    overlays, plugins = (
        [value for option, value in pairwise(rest) if option == wanted] for wanted in ("--config", "--plugin")
    )
    recipe = read_recipe([*given, *overlays], keys.values, plugins, checks="none").recipe
    steps = min(STEPS, recipe.training.steps)  # a page may train for no step at all
    options = {"training.steps": steps, "training.log_every": 1, "training.threads": 1, "data.num_workers": 0}
    for name, stream in recipe.data.streams.items():
        options |= {f"data.streams.{name}.{key}": value for key, value in _small_stream(stream, recipe)}
    for part, key in ((recipe.model.vision, "vision.depth"), (recipe.model.fusion, "fusion.layers")):
        if key.split(".")[1] in type(part).model_fields:
            options[f"model.{key}"] = 1
    if "size" in type(recipe.evaluation.source).model_fields:
        options["evaluation.source.size"] = RECORDS
    return [f"--{key}={value}" for key, value in options.items()]


def _small_stream(stream: StreamConfig, recipe: Recipe) -> Iterator[tuple[str, int]]:
    rows = min(stream.batch_size, ROWS)
    yield "batch_size", max(stream.block, rows - rows % stream.block)
    if stream.fusion_rows:
        yield "fusion_rows", min(stream.fusion_rows, FUSED)
    if "size" in type(stream.source).model_fields:
        yield "source.size", 20 * RECORDS


@contextlib.contextmanager
def _ctrl_c(wanted: bool) -> Iterator[None]:
    """A Ctrl-C in the first step, if one is wanted."""
    with pytest.MonkeyPatch.context() as patch:
        if wanted:
            step = Trainer.step

            def and_stop(trainer: Trainer, batch: Batch) -> dict[str, Any]:
                signal.raise_signal(signal.SIGINT)
                return step(trainer, batch)

            patch.setattr(Trainer, "step", and_stop)
        yield


def write_image(file: Path) -> None:
    """An image where a page's records say that the reader has one."""
    from PIL import Image

    file.parent.mkdir(parents=True, exist_ok=True)
    noise = torch.randint(0, 256, (64, 64, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    Image.fromarray(noise.numpy()).save(file)
