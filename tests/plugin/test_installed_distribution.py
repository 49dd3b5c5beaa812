"""A plugin that pip installs into an environment of its own, as a stranger's would be."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest

from .conftest import VISION

PYPROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "acme-vit"
version = "0.2"
dependencies = ["x2kit"]

[project.entry-points.x2kit]
acme = "acme_vit"
"""

Environment = Path


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An empty environment that also sees what is installed here, so that nothing is downloaded."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/python*/site-packages")
    # addsitedir and not a plain line, so that .pth files of editable installations there are followed, too
    (site / "here.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return folder


def python(environment: Environment, *arguments: str) -> str:
    """What the environment's interpreter prints, started far from any checkout."""
    command = [str(environment / "bin" / "python"), *arguments]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(command, cwd=environment, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def install(environment: Environment, project: Path) -> None:
    """`pip install` a project without any index."""
    offline = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install", *offline]
    done = subprocess.run([*pip, str(project)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def listed(environment: Environment) -> dict[str, Any]:
    """What `x2kit plugins list --json` says there."""
    return dict(json.loads(python(environment, "-m", "x2kit", "plugins", "list", "--json")))


@pytest.mark.slow
def test_a_distribution_that_pip_installs_is_listed_with_its_version(
    environment: Environment, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "acme_vit").mkdir()
    (tmp_path / "acme_vit" / "__init__.py").write_text(VISION.format(name="AcmeViT"))
    install(environment, tmp_path)
    printed = listed(environment)
    assert {
        "name": "AcmeViT",
        "kind": "vision",
        "plugin": "acme",
        "distribution": "acme-vit 0.2",
        "status": "active",
    } in printed["components"]
    (state,) = [state for state in printed["plugins"] if state["name"] == "acme"]
    assert (state["origin"], state["status"]) == ("entry point", "active")
    first_party = [component["name"] for component in printed["components"] if component["name"] != "AcmeViT"]
    assert "BeitV2" in first_party
