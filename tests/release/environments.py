"""Make environments that have the wheel and its dependencies, and not the repository."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
import venv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OWN = re.compile(r"PYTHON|X2KIT_|PIP_NO_|VIRTUAL_ENV")
"""Beginnings of variables that would lead a command back here."""


class CommandFailed(Exception):
    """A command in the environment had another exit status than expected."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment, with an empty folder in which its commands run.

    Args:
        folder: of the environment.
        work: the working directory of commands.
    """

    folder: Path
    work: Path

    def x2kit(self, *arguments: str, status: int = 0) -> str:
        """Run the installed command; see `run`."""
        return self.run(str(self.folder / "bin/x2kit"), *arguments, status=status)

    def python(self, *arguments: str) -> str:
        """Run the interpreter; see `run`."""
        return self.run(str(self.folder / "bin/python"), *arguments)

    def run(self, *command: str, status: int = 0) -> str:
        """Run a command in the working directory, without a network for models.

        Args:
            command: program and arguments.
            status: the expected exit status.
        Returns: standard output, then standard error.
        Raises: CommandFailed for another exit status, or a traceback.
        """
        done = subprocess.run(
            command, cwd=self.work, env=self._variables(), capture_output=True, text=True, check=False
        )
        output = done.stdout + done.stderr
        if done.returncode != status or "Traceback (most recent call last)" in output:
            raise CommandFailed(
                f"{' '.join(command)}\nexit status {done.returncode}, expected {status}\n{output[-4000:]}"
            )
        return output

    def _variables(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not OWN.match(name)}
        own = {
            name: str(self.work.parent / name.lower()) for name in ("X2KIT_STATE", "X2KIT_CACHE", "HF_HOME")
        }
        # one thread: a test beside others is many times slower with as many as there are cores
        return {"OMP_NUM_THREADS": "1", **kept, **own, "HF_HUB_OFFLINE": "1", "COLUMNS": "100"}

    def installed(self, name: str) -> str:
        """Return the version of an installed distribution. Raises: CommandFailed without it."""
        code = "import sys, importlib.metadata; print(importlib.metadata.version(sys.argv[1]))"
        return self.python("-c", code, name).strip()


def fresh(folder: Path, interpreter: str = sys.executable) -> Environment:
    """Create an environment with pip and nothing else.

    Args:
        folder: created, with the folders `venv` and `work`.
        interpreter: a Python.
    """
    (folder / "work").mkdir(parents=True)
    subprocess.run([interpreter, "-m", "venv", str(folder / "venv")], check=True)
    return Environment(folder / "venv", folder / "work")


def pip_install(environment: Environment, *requirements: str, constraints: Path | None = None) -> float:
    """Install with the environment's own pip, as a user does. Returns: seconds."""
    began = time.monotonic()
    bound = ["-c", str(constraints.resolve())] if constraints else []
    environment.python(
        "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *bound, *requirements
    )
    return time.monotonic() - began


def borrowed(folder: Path, wheel: Path, extras: Sequence[str] = ()) -> Environment:
    """Create an environment with the wheel, and links to the dependencies installed here; no network.

    It holds what `pip install x2kit[EXTRAS]` would: distributions that no dependency requires cannot be imported.

    Args:
        folder: created, with the folders `venv` and `work`.
        wheel: installed from the file.
        extras: of x2kit.
    Raises: PackageNotFoundError if a dependency is not installed here.
    """
    (folder / "work").mkdir(parents=True)
    venv.create(folder / "venv", with_pip=False)
    (site,) = (folder / "venv").glob("lib/python*/site-packages")
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "venv/bin/python"), "install", "--quiet"]
    subprocess.run([*pip, "--no-deps", "--no-index", "--disable-pip-version-check", str(wheel)], check=True)
    (found,) = site.glob("x2kit-*.dist-info")
    for needed in closure(Distribution.at(found), extras):
        link(needed, site)
    return Environment(folder / "venv", folder / "work")


def closure(root: Distribution, extras: Iterable[str] = ()) -> list[Distribution]:
    """Collect the installed distributions that one requires, directly or not."""
    found: dict[str, Distribution] = {}
    visited: set[tuple[str, tuple[str, ...]]] = set()
    waiting = [(root, tuple(extras))]
    while waiting:
        current, wanted = waiting.pop()
        for text in current.requires or []:
            requirement = Requirement(text)
            markers = requirement.marker
            if markers and not any(markers.evaluate({"extra": extra}) for extra in ("", *wanted)):
                continue
            name = canonicalize_name(requirement.name)
            if (name, tuple(sorted(requirement.extras))) not in visited:
                visited.add((name, tuple(sorted(requirement.extras))))
                found[name] = _installed(name)
                waiting.append((found[name], tuple(sorted(requirement.extras))))
    return list(found.values())


def _installed(name: str) -> Distribution:
    try:
        return distribution(name)
    except PackageNotFoundError as error:
        raise PackageNotFoundError(f"{name}; run: pip install -c constraints.txt -e '.[dev]'") from error


def link(needed: Distribution, site: Path) -> None:
    """Link the folders and modules of a distribution into site-packages."""
    for top in {file.parts[0] for file in needed.files or [] if file.parts[0] not in ("..", "__pycache__")}:
        target = Path(str(needed.locate_file(top))).resolve()
        if target.exists() and not (site / top).exists():
            (site / top).symlink_to(target)


def is_apart(environment: Environment, root: Path) -> bool:
    """Return whether x2kit is imported from the environment, and nothing of the repository is on its path."""
    code = "import sys, x2kit, x2kit_timm; print(x2kit.__file__, x2kit_timm.__file__, *sys.path, sep='\\n')"
    own, plugin, *path = environment.python("-c", code).splitlines()
    inside = all(Path(name).is_relative_to(environment.folder) for name in (own, plugin))
    return inside and not any(Path(name).is_relative_to(root) and name for name in path)
