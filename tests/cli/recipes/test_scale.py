"""`x2kit recipes scale` predicts a recipe's step on many devices."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

Run = Callable[..., Any]
SMALL = ("recipes", "scale", "quickstart/english")


def test_the_table_has_a_column_for_each_number_of_ranks_and_the_first_limit(x2kit: Run) -> None:
    done = x2kit(*SMALL, "--ranks", "2,1", "--hardware", "a100")
    assert done.status == 0
    assert "milliseconds per step" in done.out
    assert "first limit:" in done.out
    assert "assumed, not measured" in done.out


def test_ranks_without_a_record_are_left_out_unless_the_rows_grow(x2kit: Run) -> None:
    done = x2kit(*SMALL, "--ranks", "8,4096")
    assert "left out: 4,096 ranks" in done.out
    grown = json.loads(x2kit(*SMALL, "--ranks", "8,4096", "--grow", "--json").out)["predictions"]
    assert [one["ranks"] for one in grown] == [8, 4096]
    assert grown[0]["compute"] == grown[1]["compute"]
    assert grown[1]["negatives"] > grown[0]["negatives"]
    alone = x2kit(*SMALL, "--ranks", "4096")
    assert alone.status != 0
    assert "too few for so many ranks" in alone.err


def test_recipe_keys_change_the_prediction(x2kit: Run) -> None:
    keys = ("--training.negatives", "local")
    (found,) = json.loads(x2kit(*SMALL, "--ranks", "8", "--json", *keys).out)["predictions"]
    assert found["negatives"] == 0


def test_ranks_are_whole_numbers(x2kit: Run) -> None:
    done = x2kit(*SMALL, "--ranks", "8,many")
    assert "--ranks: expected whole numbers above 0 such as 8,64,512, found '8,many'" in done.err
