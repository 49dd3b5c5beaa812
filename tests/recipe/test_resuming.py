"""What may change when a run goes on is told by marks that stand beside the settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import pytest
from pydantic import Field

from x2kit.plugin.choice import FROM_HERE, HARMLESS, OnResume
from x2kit.recipe import read_recipe
from x2kit.recipe.changes import changes, mark_of, marked_keys
from x2kit.recipe.schema import Recipe


@pytest.fixture(autouse=True)
def _folder(write: Callable[[str, str], Path]) -> None:
    """The working directory holds good.yaml and its plugin."""


def recipe(**keys: object) -> Recipe:
    overrides = [(name.replace("__", "."), str(value)) for name, value in keys.items()]
    return read_recipe(["good.yaml"], overrides).recipe


def marks(**keys: object) -> dict[str, OnResume | None]:
    return {change.difference.key: change.mark for change in changes(recipe(), recipe(**keys))}


def test_settings_without_effect_on_numbers_may_change() -> None:
    assert marks(training__log_every=3, data__num_workers=2, training__keep_every=7) == {
        "data.num_workers": HARMLESS,
        "training.keep_every": HARMLESS,
        "training.log_every": HARMLESS,
    }


def test_optimiser_settings_apply_to_the_remaining_steps() -> None:
    assert marks(training__steps=99, training__lr=0.5) == {
        "training.steps": FROM_HERE,
        "training.lr": FROM_HERE,
    }


def test_seed_and_optimizer_must_not_change() -> None:
    assert marks(training__seed=1, training__optimizer="OfficialAdamW") == {
        "training.seed": None,
        "training.optimizer.class_path": None,
    }


def test_settings_of_an_optimizer_may_be_marked() -> None:
    assert marks(training__optimizer__betas=[0.9, 0.95]) == {"training.optimizer.init_args.betas": FROM_HERE}


def test_model_and_streams_must_not_change() -> None:
    first = next(iter(recipe().data.streams))
    found = marks(**{"model__heads__embed_dim": 8, f"data__streams__{first}__batch_size": 3})
    assert found == {"model.heads.embed_dim": None, f"data.streams.{first}.batch_size": None}
    assert not [key for key, _ in marked_keys() if key.startswith(("model", "data.streams"))]


def test_a_mark_holds_for_what_lies_below_it() -> None:
    assert mark_of(recipe(), "evaluation.tasks.anything") == HARMLESS
    assert ("evaluation", HARMLESS) in list(marked_keys())


def test_a_source_may_mark_where_its_files_lie() -> None:
    from x2kit.data.sources.config import JsonLines

    class Moved(JsonLines):
        depth: Annotated[int, FROM_HERE] = Field(1, description="for this test")

    stream = recipe().data.streams[next(iter(recipe().data.streams))]
    moved = stream.model_copy(update={"source": Moved.model_construct(files=(Path("a.jsonl"),), depth=2)})
    data = recipe().data.model_copy(update={"streams": {"moved": moved}})
    own = recipe().model_copy(update={"data": data})
    assert mark_of(own, "data.streams.moved.source.init_args.files") == HARMLESS
    assert mark_of(own, "data.streams.moved.source.init_args.depth") == FROM_HERE
    assert mark_of(own, "data.streams.moved.source.init_args.split") is None
    assert mark_of(own, "data.streams.moved.source.class_path") is None
