"""The plugin of docs/plugins: its page, command by command in a fresh environment; its recipes on small files."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import x2kit
from x2kit.cli import main

from ..plugin.test_installed_distribution import Environment, environment, install
from .pages import DOCS, ROOT, Block, blocks
from .shell import says

__all__ = ["environment"]

PAGE = DOCS / "tutorials" / "a-plugin-for-your-domain.md"
PLUGIN = DOCS / "plugins" / "x2kit-bands"
FORMS = [
    ("satellite", "npy", 8),
    ("satellite", "tif", 8),
    ("radiographs", "png", 1),
    ("radiographs", "tif", 1),
]


def test_the_page_shows_the_network_as_it_is() -> None:
    """As text and not as a directive of the site, so that it can be read in the repository, too."""
    network = (PLUGIN / "x2kit_bands" / "vision.py").read_text(encoding="utf-8")
    assert f"```python\n{network}```" in PAGE.read_text(encoding="utf-8")


class Shell:
    """The commands of the page in one working directory after the other, as `cd` leaves it.

    Args:
        folder: where the page begins; it holds a copy of `docs/plugins` as a checkout does.
        environment: whose `bin` comes first.
    """

    def __init__(self, folder: Path, environment: Environment) -> None:
        self._folder = folder
        self._place = folder / "place"
        clean = {
            name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))
        }
        self._environment = clean | {
            "PATH": f"{environment / 'bin'}:{os.environ['PATH']}",
            "PIP_NO_INDEX": "1",
            "OMP_NUM_THREADS": "1",
            "COLUMNS": "200",
        }

    def run(self, command: str) -> str:
        """What it says, standard error included. Raises AssertionError if it fails."""
        script = f"set -euo pipefail\n{command}\npwd > {self._place}"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self._folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        self._folder = Path(self._place.read_text().strip())
        return done.stdout

    def block(self, block: Block) -> None:
        """Write or run a block; others are shown only."""
        if block.title:
            (self._folder / block.title).write_text(block.text, encoding="utf-8")
        elif block.language == "bash":
            self.run(block.text)
        elif block.language == "console":
            command, _, expected = block.text.removeprefix("$ ").partition("\n")
            said = self.run(command)
            assert says(expected, said), f"line {block.line}: expected\n{expected}\nfound\n{said}"
        else:
            assert block.language in ("text", "python"), f"line {block.line}: {block.language}"


@pytest.mark.slow
def test_the_page_does_what_it_says_in_a_fresh_environment(environment: Environment, tmp_path: Path) -> None:
    install(environment, ROOT)
    kept = shutil.ignore_patterns("data", "runs", "dist", "__pycache__")
    shutil.copytree(DOCS / "plugins", tmp_path / "docs" / "plugins", ignore=kept)
    shell = Shell(tmp_path, environment)
    for block in blocks(PAGE):
        shell.block(block)
    folder = tmp_path / "docs/plugins/x2kit-bands"
    for name, found in (("satellite", 0.4), ("radiographs", 0.3)):
        result = json.loads((folder / f"runs/{name}/evaluation.json").read_text())
        (language,) = result["languages"].values()
        assert language["mean_r1"] > found > 3 * language["chance_r1"]
    assert 'src="data:image/png;base64,' in (folder / "tiles.html").read_text()
    assert "<img" in (folder / "runs/satellite/report.html").read_text()


@pytest.mark.slow
def test_its_own_tests_pass() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(PLUGIN),
        "tests",
    ]
    done = subprocess.run(
        command,
        cwd=PLUGIN,
        env={**os.environ, "PYTHONPATH": str(PLUGIN)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def generated() -> Any:
    specification = importlib.util.spec_from_file_location(
        "bands_generate", PLUGIN / "x2kit_bands/generate.py"
    )
    assert specification
    assert specification.loader
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["satellite", "radiographs"])
def test_its_recipes_hold_together_without_data_and_tell_their_costs(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--costs", "--without-data", "--json", "--plugin", str(PLUGIN / "x2kit_bands")]
    assert main(["recipes", "validate", str(PLUGIN / f"recipes/{name}.yaml"), *arguments]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["valid"]
    assert 1_500_000 < entry["parameters"] < 2_000_000


@pytest.mark.parametrize(("name", "form", "channels"), FORMS)
def test_its_recipes_train_save_load_and_measure(
    name: str,
    form: str,
    channels: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    generated().generate(name, tmp_path / "data" / name, form, 24, 12)
    (tmp_path / "recipes").mkdir()
    shutil.copy(PLUGIN / f"recipes/{name}.yaml", "recipes")
    small = [
        "--model.vision.depth=1",
        "--model.text.layers=1",
        "--model.fusion.layers=1",
        "--training.steps=3",
    ]
    streams = {"satellite": ("tiles", "covers"), "radiographs": ("reports",)}[name]
    small += [f"--data.streams.{stream}.batch_size=6" for stream in streams]
    recipe = [f"recipes/{name}.yaml", "--plugin", str(PLUGIN / "x2kit_bands"), *small]
    assert main(["data", "check", *recipe]) == 0
    assert main(["data", "show", *recipe, "--output", "sheet.html"]) == 0
    assert (tmp_path / "sheet.html").read_text().count("data:image/png;base64,") >= 6
    assert main(["train", *recipe, "--run-dir", "run"]) == 0
    assert json.loads((tmp_path / "run/bad-records-counts.json").read_text())["broken"] == 0
    assert main(["evaluate", "run"]) == 0
    result = json.loads((tmp_path / "run/evaluation.json").read_text())
    (language,) = result["languages"].values()
    assert (language["candidates"], result["model"]["image_size"]) == (12, 64)
    assert main(["report", "run"]) == 0
    capsys.readouterr()

    model = x2kit.load("run")
    assert model.module.image_spec.channels == channels
    preprocessing = json.loads((tmp_path / "run/weights/preprocessing.json").read_text())
    assert preprocessing["value_range"] == ([0, 10000] if channels == 8 else [0, 4095])
    files = sorted(str(file) for file in (tmp_path / "data" / name / "images").iterdir())[:3]
    found = model.similarity(files, ["snow in the north", "nodule in the left upper zone"])
    assert found.shape == (3, 2)
    assert np.isfinite(found).all()
    assert len(model.locate(files[0], "snow in the north").boxes) == 1


VIT = "{embed_dim: 16, depth: 1, num_heads: 2}"
SWIN = "{embed_dim: 8, depths: [1, 1], num_heads: [1, 2], window_size: 4}"


@pytest.mark.parametrize(
    ("name", "form", "channels", "vision"),
    [
        ("radiographs", "png", 1, ["--model.vision.image_size=42", f"--model.vision.arguments={VIT}"]),
        ("satellite", "npy", 8, ["--model.vision.image_size=64", f"--model.vision.arguments={SWIN}"]),
    ],
)
def test_the_shipped_recipes_of_the_domains_run_on_small_files_too(
    name: str, form: str, channels: int, vision: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data" / "domain"
    generated().generate(name, folder, form, 24, 12)
    for split in ("train", "test"):
        (folder / f"{split}.jsonl").rename(folder / f"{name}_{split}.jsonl")
    small = [
        *vision,
        "--model.text={class_path: Bert, init_args: {layers: 1, width: 16, heads: 2, max_length: 96}}",
        "--model.fusion.layers=1",
        "--model.fusion.heads=2",
        "--training.steps=2",
        "--training.warmup=1",
        "--training.precision=fp32",
        "--data.num_workers=0",
    ]
    streams = {"satellite": ("tiles", "regions"), "radiographs": ("reports",)}[name]
    small += [f"--data.streams.{stream}.batch_size=6" for stream in streams]
    assert main(["train", f"domain/{name}", "--run-dir", "run", *small]) == 0
    assert main(["evaluate", "run"]) == 0
    (language,) = json.loads((tmp_path / "run/evaluation.json").read_text())["languages"].values()
    assert language["candidates"] == 12
    assert x2kit.load("run").module.image_spec.channels == channels
