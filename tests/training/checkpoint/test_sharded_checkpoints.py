"""Each rank writes its shards; any number of ranks resumes from them, sharded or not."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file
from torch.testing import assert_close

from tests.forked import run_ranks
from tests.training.parallel.test_distribute import CLOSE, losses, recipe
from x2kit import cli
from x2kit.errors import RecipeError
from x2kit.recipe import read_recipe
from x2kit.training.checkpoint.checkpoints import checkpoints

WEIGHTS = "weights/model.safetensors"
SHARD = "shard-{:05}-model-00001-of-00001.safetensors"


def sharded(folder: Path, **training: Any) -> Path:
    return recipe(folder, distribution="fsdp", sharded_checkpoints=True, **training)


def ended(folder: Path, count: int = 2, **training: Any) -> Path:
    """Train four steps, with checkpoints of steps 2 and 4."""
    run = folder / "run"
    done = run_ranks(count, "train", sharded(folder, **training), "--run-dir", run)
    assert done.returncode == 0, done.stderr
    return run


def files(checkpoint: Path) -> list[str]:
    return sorted(path.name for path in checkpoint.iterdir())


def stopped(run: Path, copy: Path) -> Path:
    """Copy a run without its last two steps."""
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "weights")
    shutil.rmtree(checkpoints(copy)[-1])
    return copy


def resume(run: Path, count: int, *options: str) -> str:
    """Resume with `count` ranks; return their output."""
    done = run_ranks(count, "train", "--resume", "--run-dir", run, *trusted(run), *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def trusted(run: Path) -> list[str]:
    """Allow the plugins of a copied run, which are trusted only at their first place."""
    return [f"--plugin={file}" for file in sorted((run / "plugins").glob("*.py"))]


def resume_alone(run: Path) -> None:
    assert cli.main(["train", "--resume", "--run-dir", str(run), *trusted(run)]) == 0


def assert_same_run(run: Path, expected: Path) -> None:
    """Compare two runs up to summation order."""
    for one, other in zip(losses(expected), losses(run), strict=True):
        assert other == pytest.approx(one, abs=CLOSE, rel=CLOSE)
    assert_close(load_file(run / WEIGHTS), load_file(expected / WEIGHTS), rtol=0, atol=CLOSE)


@pytest.mark.slow
def test_one_process_exports_and_resumes_from_shards_of_two_ranks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ended(tmp_path)
    assert [files(checkpoint) for checkpoint in checkpoints(run)] == [
        ["SHA256SUMS", "metrics.json", SHARD.format(1), SHARD.format(2), "state.pt"]
    ] * 2
    assert all(checkpoint.name.startswith("step-") for checkpoint in (run / "checkpoints").iterdir())
    earlier = stopped(run, tmp_path / "earlier")
    weights = (run / WEIGHTS).read_bytes()
    (run / WEIGHTS).unlink()
    resume_alone(run)  # no step is left: the weights are written again
    assert (run / WEIGHTS).read_bytes() == weights
    resume_alone(earlier)
    assert_same_run(earlier, run)
    assert capsys.readouterr().out.count("resumed after step") == 2
    assert files(checkpoints(earlier)[-1]) == [
        "SHA256SUMS",
        "metrics.json",
        "state.pt",
    ]  # one process has no shards


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (
            {"distribution": "ddp"},
            "sharded_checkpoints: distribution ddp has no shards, as every rank has the whole model",
        ),
        (
            {"distribution": "fsdp", "async_saving": True},
            "sharded_checkpoints and async_saving: shards are written synchronously",
        ),
        (
            {"distribution": "ddp", "sharded_checkpoints": False, "shard_ranks": 2},
            "shard_ranks: distribution ddp has no shards, as every rank has the whole model",
        ),
    ],
)
def test_unsupported_settings_are_refused_when_the_recipe_is_resolved(
    tmp_path: Path, settings: dict[str, Any], reason: str
) -> None:
    file = recipe(tmp_path, **({"sharded_checkpoints": True} | settings))
    with pytest.raises(RecipeError, match=re.escape(f"training: {reason}")):
        read_recipe([file])


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"optimizer": "OfficialAdamW"}, {"optimizer": "Muon", "ema": 0.9}], ids=str
)
def test_the_same_number_of_ranks_resumes_bit_for_bit(tmp_path: Path, settings: dict[str, Any]) -> None:
    run = ended(tmp_path, **settings)
    earlier = stopped(run, tmp_path / "earlier")
    resume(earlier, 2)
    assert losses(earlier) == losses(run)
    assert (earlier / WEIGHTS).read_bytes() == (run / WEIGHTS).read_bytes()


@pytest.mark.slow
def test_one_two_and_three_ranks_go_on_from_shards_of_four(tmp_path: Path) -> None:
    four = ended(tmp_path, 4)
    for count in (2, 3):
        run = stopped(four, tmp_path / str(count))
        resume(run, count)
        assert_same_run(run, four)
        assert SHARD.format(count + 1) not in files(checkpoints(run)[-1])
    alone = stopped(four, tmp_path / "alone")
    resume_alone(alone)
    assert_same_run(alone, four)


@pytest.mark.slow
def test_whole_checkpoints_and_shards_resume_each_other(tmp_path: Path) -> None:
    four = ended(tmp_path, 4, shard_ranks=2)  # two copies of two shards
    whole = stopped(four, tmp_path / "whole")
    unsharded = ("--training.distribution", "ddp", "--training.sharded_checkpoints", "false")
    resume(whole, 2, *unsharded, "--training.shard_ranks", "null")
    assert_same_run(whole, four)
    shutil.rmtree(whole / "weights")
    resume(whole, 3, "--training.distribution", "fsdp", "--training.sharded_checkpoints", "true")
    assert_same_run(whole, four)  # no step is left: three ranks share the whole checkpoint and export it


@pytest.mark.slow
def test_a_damaged_shard_falls_back_to_the_previous_checkpoint(tmp_path: Path) -> None:
    run = ended(tmp_path)
    weights = (run / WEIGHTS).read_bytes()
    shard = checkpoints(run)[-1] / SHARD.format(2)
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    said = resume(run, 2)
    assert f"step-0000004: damaged, using the previous one: {SHARD.format(2)}: its checksum differs" in said
    assert "resumed after step 2" in said
    assert (run / WEIGHTS).read_bytes() == weights


FULL_ON_RANK_1 = """\

import os
import resource
if os.environ.get("RANK") == "1":  # as on a disk of its own
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
"""


@pytest.mark.slow
def test_a_full_disk_of_one_rank_ends_the_run_and_keeps_earlier_checkpoints(tmp_path: Path) -> None:
    run = ended(tmp_path)
    weights = (run / WEIGHTS).read_bytes()
    stopped(run, tmp_path / "earlier")
    shutil.rmtree(run)
    (tmp_path / "earlier").rename(run)
    plugin = run / "plugins" / "scenes.py"
    ordinary = plugin.read_text()
    plugin.write_text(ordinary + FULL_ON_RANK_1)
    done = run_ranks(2, "train", "--resume", "--run-dir", run, *trusted(run))
    assert done.returncode != 0
    path = f"{run}/checkpoints/step-0000004"
    assert done.stderr.count("rank 1: ") == 1, done.stderr
    assert f"rank 1: {path}: not written: file size limit exceeded (ulimit -f); " in done.stderr
    assert (
        f"  the checkpoint of step 2 is kept; free space, then resume with: x2kit train --resume --run-dir {run}"
        in (done.stderr)
    )
    assert "x2kit/training/" not in done.stderr  # no traceback
    assert [folder.name for folder in (run / "checkpoints").iterdir()] == ["step-0000002"]
    plugin.write_text(ordinary)
    resume(run, 2)
    assert (run / WEIGHTS).read_bytes() == weights


KILLED_WHILE_SAVING = """\

import os
import signal
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

def killed(self, plan, planner):
    os.kill(os.getpid(), signal.SIGKILL)

if os.environ.get("RANK") == "{rank}":
    HuggingFaceStorageWriter.write_data = killed
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_rank_killed_while_saving_costs_the_steps_since_the_previous_checkpoint(
    tmp_path: Path, rank: int
) -> None:
    whole = ended(tmp_path)
    run = stopped(whole, tmp_path / "earlier")
    plugin = run / "plugins" / "scenes.py"
    ordinary = plugin.read_text()
    plugin.write_text(ordinary + KILLED_WHILE_SAVING.format(rank=rank))
    done = run_ranks(2, "train", "--resume", "--run-dir", run, *trusted(run))
    assert done.returncode != 0
    assert [path.name for path in checkpoints(run)] == ["step-0000002"]
    plugin.write_text(ordinary)
    resume(run, 2)
    assert (run / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()
    assert [folder.name for folder in sorted((run / "checkpoints").iterdir())] == [
        "step-0000002",
        "step-0000004",
    ]


@pytest.mark.slow
def test_superseded_checkpoints_are_deleted(tmp_path: Path) -> None:
    run = ended(
        tmp_path, checkpoint_every=1, keep_last=1, keep_every=3, keep_best="images.itc", best_is="highest"
    )
    values = {step: line["images.itc"] for step, line in enumerate(losses(run), 1)}
    best = max(values, key=lambda step: values[step])
    assert [path.name for path in checkpoints(run)] == [f"step-000000{step}" for step in sorted({best, 3, 4})]


@pytest.mark.slow
def test_a_checkpoint_of_another_model_is_refused_in_one_line(tmp_path: Path) -> None:
    run = ended(tmp_path)
    tree = yaml.safe_load((run / "recipe.yaml").read_text())
    tree["model"]["heads"]["embed_dim"] = 4
    (run / "recipe.yaml").write_text(yaml.safe_dump(tree))
    done = run_ranks(2, "train", "--resume", "--run-dir", run, *trusted(run))
    assert done.returncode != 0
    assert done.stderr.count("the checkpoint is of another model, though the recipe is the same: ") == 1
