from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from x2kit.recipe import differences, read_recipe

Write = Callable[[str, str], Path]


def test_equal_recipes_do_not_differ(write: Write) -> None:
    assert differences(read_recipe(["good.yaml"]).recipe, read_recipe(["good.yaml"]).recipe) == []


def test_every_changed_key_is_named_with_both_values(write: Write) -> None:
    before = read_recipe(["good.yaml"]).recipe
    keys = [
        ("training.lr", "0.5"),
        ("data.streams.regions.losses.itc", "0"),
        ("data.streams.parallel.task.pivot", "null"),
    ]
    after = read_recipe(["good.yaml"], keys).recipe
    changes = {change.key: (change.before, change.after) for change in differences(before, after)}
    assert changes["training.lr"] == (1e-4, 0.5)
    assert changes["data.streams.parallel.task.init_args.pivot"] == ("en", None)
    assert changes["data.streams.regions.losses.itc.weight"] == ("absent", 0)
    assert set(changes) == {
        "training.lr",
        "data.streams.parallel.task.init_args.pivot",
        *(f"data.streams.regions.losses.itc.{name}" for name in ("weight", "start", "stop")),
    }
