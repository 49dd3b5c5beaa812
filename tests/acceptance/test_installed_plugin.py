"""The same encoder as a distribution that pip installs: found by its entry point, in an environment of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.plugin.test_installed_distribution import install, python

from . import commands

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-conv"
version = "0.3"
dependencies = ["x2kit"]

[project.entry-points.x2kit]
acme_conv = "acme_conv"
"""

LOAD = """
import sys, torch, x2kit
from PIL import Image
model = x2kit.load(sys.argv[1])
print(type(model.module.vision).__module__, *model.similarity([Image.new("RGB", (70, 70))], ["a dog"]).shape)
"""


@pytest.mark.slow
def test_an_installed_encoder_trains_evaluates_and_loads(environment: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "acme_conv").mkdir(parents=True)
    (project / "pyproject.toml").write_text(PYPROJECT)
    encoder = Path(__file__).with_name("conv_encoder.py").read_text()
    (project / "acme_conv/__init__.py").write_text(encoder)
    install(environment, project)
    run = tmp_path / "run"
    python(environment, "-m", "x2kit", *commands.train(run))
    python(environment, "-m", "x2kit", *commands.evaluate(run))
    result = json.loads((run / "evaluation.json").read_text())
    assert sorted(result["languages"]) == ["de", "en"]
    assert "acme_conv (acme-conv 0.3)" in result["plugins"]
    assert python(environment, "-c", LOAD, str(run)).split() == ["acme_conv", "1", "1"]
