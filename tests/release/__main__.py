"""Build the release, install it without the repository, and use it there: `make release`. Uploads and tags nothing.

    python -m tests.release [--output DIR] [--python FILE] [--constraints FILE] [--borrow] [--steps N]

The tree must be committed. Each check prints a line with its seconds; the first that fails ends the command with
exit status 1. The distributions stay in DIR, `dist/` unless given.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import x2kit
from tests.release import commands, distributions, own_files
from tests.release.environments import CommandFailed, Environment, borrowed, fresh, is_apart, pip_install

Result = TypeVar("Result", str, Environment)


class ReleaseFault(Exception):
    """The release may not be published as it is."""


EXTRAS = ["quickstart", "peft"]
"""Extras that the shipped recipes need."""


def main(options: argparse.Namespace) -> int:
    """Run the checks in order. Returns: the exit status."""
    with tempfile.TemporaryDirectory(prefix="x2kit-release-") as name:
        try:
            check(Path(name), options)
        except (ReleaseFault, CommandFailed, AssertionError) as fault:
            print(f"FAILED: {fault}", file=sys.stderr)
            return 1
        except subprocess.CalledProcessError as failed:
            print(f"FAILED: {failed}\n{failed.stdout or ''}{failed.stderr or ''}", file=sys.stderr)
            return 1
    print(f"x2kit {x2kit.__version__} can be published: {options.output}/")
    print("next, by hand: git tag, then upload; CONTRIBUTING.md, Releases")
    return 0


def check(folder: Path, options: argparse.Namespace) -> None:
    """Check the tree, the distributions, x2kit without extras, then with the extras quickstart and peft."""
    timed("tree", require_committed)
    timed("changelog", require_changelog)
    shutil.rmtree(options.output, ignore_errors=True)
    wheel, sdist = distributions.build(options.output, isolated=not options.borrow)
    timed("distributions", lambda: require_sound(wheel, sdist))
    if not options.borrow:
        timed("twine", lambda: require_twine(folder / "twine", wheel, sdist))
    plain = timed("install", lambda: install(folder / "plain", wheel, [], options))
    for step in (own_files.use, commands.show_plugins, commands.show_recipes, commands.refuse_extras):
        timed("no extras", partial(step, plain))
    timed("helps", lambda: commands.show_helps(plain))
    if options.borrow:
        extra = timed("install", lambda: install(folder / "extra", wheel, EXTRAS, options))
    else:
        timed("install", lambda: add_extra(plain, wheel, options))
        extra = plain
    timed("recipes", lambda: commands.validate_recipes(extra))
    timed("quickstart", lambda: commands.steps(extra, options.steps))


def timed(subject: str, step: Callable[[], Result]) -> Result:
    """Run a check and print a line; its result is the line's text, unless it is an environment."""
    began = time.monotonic()
    result = step()
    shown = "x2kit and its dependencies are installed" if isinstance(result, Environment) else result
    print(f"{time.monotonic() - began:6.1f} s  {subject}: {shown}", flush=True)
    return result


def require_committed() -> str:
    """Check that the release is built from a commit. Raises: ReleaseFault."""
    status = git("status", "--porcelain", "--untracked-files=normal")
    if status:
        raise ReleaseFault(f"the tree has changes; commit or remove them:\n{status}")
    return f"commit {git('rev-parse', '--short', 'HEAD')}, no changes"


def git(*arguments: str) -> str:
    """Return the output of git in the repository."""
    command = ["git", *arguments]
    return subprocess.run(
        command, cwd=distributions.ROOT, check=True, capture_output=True, text=True
    ).stdout.strip()


def require_changelog() -> str:
    """Check the section of this version. Raises: ReleaseFault."""
    text = (distributions.ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    if found := list(distributions.changelog_faults(text, x2kit.__version__)):
        raise ReleaseFault(found[0])
    return f"CHANGELOG.md has the section {x2kit.__version__}"


def require_sound(wheel: Path, sdist: Path) -> str:
    """Check names, contents and metadata. Raises: ReleaseFault."""
    if found := distributions.faults(wheel, sdist):
        raise ReleaseFault("\n".join(found))
    sizes = (f"{file.name} {file.stat().st_size / 1e6:.2f} MB" for file in (wheel, sdist))
    return f"{', '.join(sizes)}; names, paths, metadata, entry points"


def require_twine(folder: Path, *files: Path) -> str:
    """Run `twine check --strict`, which renders the description as an index does. Raises: CommandFailed."""
    tools = fresh(folder)
    pip_install(tools, "twine>=6")
    tools.python("-m", "twine", "check", "--strict", *(str(file.resolve()) for file in files))
    return "twine check --strict"


def install(folder: Path, wheel: Path, extras: list[str], options: argparse.Namespace) -> Environment:
    """Create an environment with the wheel. Raises: ReleaseFault if the repository is on its path."""
    if options.borrow:
        environment = borrowed(folder, wheel, extras)
    else:
        environment = fresh(folder, options.python)
        pip_install(environment, str(wheel.resolve()), constraints=options.constraints)
    if not is_apart(environment, distributions.ROOT):
        raise ReleaseFault("x2kit is not imported from the environment, or the repository is on its path")
    return environment


def add_extra(environment: Environment, wheel: Path, options: argparse.Namespace) -> str:
    """Install the extras quickstart and peft of the wheel, which its recipes need."""
    pip_install(environment, f"{wheel.resolve()}[{','.join(EXTRAS)}]", constraints=options.constraints)
    return "the extras quickstart and peft are installed"


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.release",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--output", type=Path, default=distributions.ROOT / "dist", metavar="DIR")
    parser.add_argument(
        "--python", default=sys.executable, metavar="FILE", help="interpreter of the environment"
    )
    parser.add_argument("--constraints", type=Path, metavar="FILE", help="versions of the dependencies")
    parser.add_argument(
        "--borrow", action="store_true", help="link the packages installed here instead of a download"
    )
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="of the quickstart")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main(arguments()))
