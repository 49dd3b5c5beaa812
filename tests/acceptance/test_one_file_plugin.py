"""A stranger's encoder trains and evaluates by `--plugin` alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

import x2kit
from x2kit import cli
from x2kit.io.run_directory import read_metrics

from . import commands
from .conv_encoder import GRID, SIZE, ConvEncoder

PLUGIN = Path(__file__).with_name("conv_encoder.py")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A trained and evaluated run."""
    directory = tmp_path_factory.mktemp("acceptance") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(PLUGIN.parents[2])
        assert cli.main(commands.train(directory, "--plugin", "tests/acceptance/conv_encoder.py")) == 0
        assert cli.main(commands.evaluate(directory)) == 0
        yield directory


def test_it_trains(run: Path) -> None:
    lines = read_metrics(run)
    assert [line["step"] for line in lines] == [1, 2, 3, 4]
    assert {"scenes.itc", "regions.itc", "translations.ttc"} <= set(lines[-1])
    assert "translations.ttm" not in lines[-1]


def test_it_is_evaluated(run: Path) -> None:
    result: dict[str, Any] = json.loads((run / "evaluation.json").read_text())
    assert sorted(result["languages"]) == ["de", "en"]
    for language in result["languages"].values():
        assert (language["queries"], language["candidates"]) == (24, 24)
        for direction in ("image_to_text", "text_to_image"):
            assert 0 <= language[direction]["r1"] <= language[direction]["r10"] <= 1
    assert sorted(result["grounding"]) == ["de", "en"]
    assert any(plugin.startswith("conv_encoder (") for plugin in result["plugins"])


def test_it_is_loaded_with_its_plugin(run: Path) -> None:
    user = x2kit.load(run)
    model = user.module
    assert (model.vision.width, model.vision.grid, model.image_spec.size) == (20, GRID, SIZE)
    image = Image.new("RGB", (100, 50), "red")
    with torch.inference_mode():
        features = model.encode_images(model.read([image]))
    assert features.patches.shape == (1, 35, 20)
    assert user.similarity([image], ["a dog", "ein Hund"]).shape == (1, 2)
    assert len(user.locate(image, "a dog").boxes) == 1


def test_the_run_needs_no_consent_here_and_a_copy_of_it_does(run: Path, tmp_path: Path) -> None:
    """In new processes, which have not imported the plugin."""

    def shown(directory: Path, *more: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "x2kit", "recipes", "show", str(directory / "recipe.yaml"), *more]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert shown(run).returncode == 0
    assert shown(run / "weights").returncode == 0
    moved = tmp_path / "moved"
    shutil.copytree(run, moved)
    refused = shown(moved)
    consent = ("--plugin", str(moved / "plugins" / PLUGIN.name))
    assert refused.returncode == 2
    assert " ".join(consent) in refused.stderr
    assert shown(moved, *consent).returncode == 0


def test_a_setting_of_it_is_a_key_of_the_recipe(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status = cli.main(commands.train(tmp_path / "run", "--plugin", str(PLUGIN), "--model.vision.width=21"))
    assert status == 2
    assert capsys.readouterr().err == (
        "command line: model.vision.init_args.width: must be a multiple of 4, found 21\n"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.conformance(ConvEncoder())
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()
