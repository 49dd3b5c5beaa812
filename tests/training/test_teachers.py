"""Teachers: a trained model embeds the pivot's texts, a new text encoder learns these embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.forked import run_ranks
from tests.training.conftest import recipe_tree
from x2kit.data.pipeline.batch import ParallelRows
from x2kit.errors import RecipeError
from x2kit.io.run_directory import read_metrics
from x2kit.model import load
from x2kit.recipe import read_recipe
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.training import train
from x2kit.training.stepper import Parts, assemble

DISTILLED = "parallel.distillation"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a model that reads English."""
    folder = tmp_path_factory.mktemp("trained")
    tree = recipe_tree(folder)
    tree["training"] |= {"steps": 20, "warmup": 0, "lr": 0.1}  # far from where it starts
    resolved = written(folder, tree)
    train(resolved.recipe, resolved.plugins, folder / "run")
    return folder / "run"


def written(folder: Path, tree: dict[str, Any]) -> ResolvedRecipe:
    (folder / "recipe.yaml").write_text(yaml.safe_dump(tree))
    return read_recipe([folder / "recipe.yaml"])


def adapted(
    folder: Path, trained: Path | None, objective: Any = "TextDistillation", **training: Any
) -> ResolvedRecipe:
    """A recipe that swaps the text encoder and has parallel texts only."""
    tree = recipe_tree(folder)
    parallel = tree["data"]["streams"]["parallel"] | {
        "losses": dict.fromkeys(("ttc", "ttm", "tlm"), 0),
        "objectives": {"distillation": objective},
        "batch_size": 6,
    }
    tree["data"]["streams"] = {"parallel": parallel}
    tree["model"]["fusion"]["init_args"]["dropout"] = 0.0
    if trained is not None:
        tree["model"] |= {"init_from": str(trained), "init_except": ["text"]}
    tree["training"] |= {"steps": 40, "warmup": 0, "lr": 0.05, "log_every": 1, **training}
    return written(folder, tree)


def parts_of(resolved: ResolvedRecipe) -> Parts:
    return assemble(resolved.recipe, lambda message: None)[0]


def test_a_new_text_encoder_learns_the_embeddings_of_the_teacher(tmp_path: Path, trained: Path) -> None:
    resolved = adapted(tmp_path, trained)
    train(resolved.recipe, resolved.plugins, tmp_path / "run")
    lines = read_metrics(tmp_path / "run")
    assert lines[0]["loss"] == lines[0][DISTILLED]
    assert lines[-1][DISTILLED] < 0.5 * lines[0][DISTILLED]


def test_the_teacher_is_neither_trained_nor_saved(tmp_path: Path, trained: Path) -> None:
    resolved = adapted(tmp_path, trained, steps=2)
    before = load(trained)
    parts = parts_of(resolved)
    assert not any(p.requires_grad for p in parts.teachers["parallel"].model.parameters())
    train(resolved.recipe, resolved.plugins, tmp_path / "run")
    assert set(load(tmp_path / "run").state_dict()) == set(before.state_dict())
    for name, value in load(trained).state_dict().items():
        torch.testing.assert_close(value, before.state_dict()[name])


def test_it_reads_the_text_in_the_pivot_language_on_whichever_side_it_is(
    tmp_path: Path, trained: Path
) -> None:
    parts = parts_of(adapted(tmp_path, trained))
    teacher, sides = parts.teachers["parallel"], set()
    for step in range(3):
        rows = parts.batches.batch(step).streams["parallel"]
        assert isinstance(rows, ParallelRows)
        assert rows.taught is not None
        # Both encoders have one vocabulary here, so that the ids can be compared.
        for row, ids in enumerate(rows.taught.ids.tolist()):
            equal = [
                ids[: len(side)] == side
                for side in (rows.first.ids[row].tolist(), rows.second.ids[row].tolist())
            ]
            assert sum(equal) == 1
            sides.add(equal[0])
        embedded = teacher.embed(rows.taught)
        torch.testing.assert_close(embedded.norm(dim=1), torch.ones(6))
        assert not embedded.requires_grad
    assert sides == {True, False}


def test_parts_of_a_step_have_the_losses_of_the_whole(tmp_path: Path, trained: Path) -> None:
    losses = []
    for accumulation in (1, 3):
        folder = tmp_path / str(accumulation)
        folder.mkdir()
        resolved = adapted(folder, trained, steps=3, accumulation=accumulation)
        train(resolved.recipe, resolved.plugins, folder / "run")
        losses.append([line[DISTILLED] for line in read_metrics(folder / "run")])
    assert losses[1] == pytest.approx(losses[0], rel=1e-5)


@pytest.mark.slow
def test_two_ranks_have_the_losses_of_one(tmp_path: Path, trained: Path) -> None:
    resolved = adapted(tmp_path, trained, steps=3)
    train(resolved.recipe, resolved.plugins, tmp_path / "one")
    done = run_ranks(2, "train", tmp_path / "recipe.yaml", "--run-dir", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    one, two = ([line[DISTILLED] for line in read_metrics(tmp_path / name)] for name in ("one", "two"))
    assert two == pytest.approx(one, rel=1e-5)


def test_without_a_teacher_training_does_not_start(tmp_path: Path) -> None:
    resolved = adapted(tmp_path, None)
    key = "data.streams.parallel.objectives.distillation"
    assert [warning.key for warning in resolved.warnings] == [key]
    with pytest.raises(RecipeError, match=r"distillation\.teacher: no teacher; set it, or model\.init_from"):
        parts_of(resolved)


def test_a_teacher_of_another_common_space_is_refused(tmp_path: Path, trained: Path) -> None:
    named = {"class_path": "TextDistillation", "init_args": {"teacher": str(trained)}}
    tree = yaml.safe_load(
        Path(str(adapted(tmp_path, None, named) and tmp_path / "recipe.yaml")).read_text(encoding="utf-8")
    )
    tree["model"]["heads"]["embed_dim"] = 5
    with pytest.raises(RecipeError, match=r"in 6 dimensions and model\.heads\.embed_dim is 5"):
        parts_of(written(tmp_path, tree))


def test_only_parallel_text_with_a_pivot_has_a_teacher(tmp_path: Path, trained: Path) -> None:
    tree = recipe_tree(tmp_path)
    tree["data"]["streams"]["images"]["objectives"] = {"distillation": "TextDistillation"}
    with pytest.raises(RecipeError, match="a teacher embeds the text in the pivot language"):
        written(tmp_path, tree)
