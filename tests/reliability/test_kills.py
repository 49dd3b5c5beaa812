"""Runs killed at random moments end with the weights of an uninterrupted run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.reliability.chains import Chain, chains, follow, how_disks_fill
from tests.reliability.kills import readable
from tests.reliability.runs import Run, write_recipe

SEED = 5
NUMBER_OF_CHAINS = len(chains("full disk"))


def whole_run(folder: Path, steps: int | None = None) -> Run:
    recipe = write_recipe(folder) if steps is None else write_recipe(folder, steps)
    whole = Run(recipe, folder / "whole")
    whole.start()
    readable(whole, whole.end(), 0)
    return whole


def must_be_the_same(chain: Chain, whole: Run, folder: Path) -> None:
    result = follow(chain, whole.recipe, folder, whole, SEED)
    assert result.kills.total() == len(chain.kinds), "the run was over too early"
    assert (result.equal_weights, result.equal_metrics, result.equal_board) == (True, True, True)


@pytest.mark.slow
def test_a_run_survives_three_kinds_of_kills(tmp_path: Path) -> None:
    chain = Chain("short", ["SIGKILL while saving", "file size limit", "damaged checkpoint"])
    must_be_the_same(chain, whole_run(tmp_path, steps=60), tmp_path / "killed")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return whole_run(tmp_path_factory.mktemp("whole"))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(NUMBER_OF_CHAINS))
def test_a_run_survives_nine_kills(whole: Run, tmp_path: Path, number: int) -> None:
    chain = chains(how_disks_fill(tmp_path / "probe"))[number]
    assert len(chain.kinds) == 9
    must_be_the_same(chain, whole, tmp_path / "killed")
