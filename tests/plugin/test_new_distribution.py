"""What `x2kit plugins new` writes, in an environment of its own: it installs, passes its tests, lint and the kit."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from x2kit.cli import main
from x2kit.cli.plugins.new import SCAFFOLDS, Scaffold

from .test_installed_distribution import Environment, environment, install

__all__ = ["environment"]


def done(environment: Environment, folder: Path, *arguments: str) -> str:
    """What a module of the environment prints. Raises AssertionError with it if its exit status is not 0."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
    command = [str(environment / "bin" / "python"), "-m", *arguments]
    run = subprocess.run(
        command, cwd=folder, env=clean | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.mark.slow
@pytest.mark.parametrize("kind", SCAFFOLDS)
def test_a_new_plugin_installs_and_passes_everything(
    kind: Scaffold, environment: Environment, tmp_path: Path
) -> None:
    name, module = f"acme-{kind}", f"acme_{kind}"
    folder = tmp_path / name
    assert main(["plugins", "new", name, "--kind", kind, "--directory", str(folder)]) == 0
    install(environment, folder)
    assert " passed" in done(environment, folder, "pytest", "-q", "-p", "no:cacheprovider", "tests")
    done(environment, folder, "ruff", "check", "--no-cache")
    for named in (module, name):
        listed = json.loads(done(environment, tmp_path, "x2kit", "plugins", "check", named, "--json"))
        own = f"Acme{kind.capitalize()}"
        assert {entry["component"] for entry in listed} == {
            own,
            *(["AcmeTaskHead"] if kind == "task" else []),
        }
        assert not [entry for entry in listed if entry["passed"] is False]
        assert all(
            entry["passed"] for entry in listed if kind not in ("task", "pretraining")
        )  # checks of rows need records


@pytest.mark.slow
def test_a_plugin_that_breaks_its_contract_fails_the_check_there(
    environment: Environment, tmp_path: Path
) -> None:
    folder = tmp_path / "acme-leaky"
    assert main(["plugins", "new", "acme-leaky", "--kind", "vision", "--directory", str(folder)]) == 0
    file = folder / "acme_leaky" / "encoder.py"
    file.write_text(file.read_text().replace("patches.mean(1)", "patches[:, 0]"))
    install(environment, folder)
    command = [str(environment / "bin" / "python"), "-m", "x2kit", "plugins", "check", "acme_leaky"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 1, run.stderr
    assert "FAIL  the_summary_is_of_the_patches" in run.stdout
