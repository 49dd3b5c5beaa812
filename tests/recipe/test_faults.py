"""Messages are made from the type and context of pydantic's errors: no sentence of pydantic's comes through."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from x2kit.errors import RecipeError
from x2kit.recipe import read_recipe

Write = Callable[[str, str], Path]

WRONG: dict[str, tuple[Any, str]] = {
    "training.steps": ("x", 'be an integer, found "x"'),
    "training.seed": (1.5, "be an integer, found 1.5"),
    "training.lr": (0, "be greater than 0, found 0"),
    "training.warmup": (-0.5, "be greater than or equal to 0, found -0.5"),
    "training.compile": ("perhaps", 'be true or false, found "perhaps"'),
    "training.optimizer.betas": (0.9, "be a list, found 0.9"),
    "data.max_bad_share": (1.5, "be less than or equal to 1, found 1.5"),
    "data.streams.images.languages": ([3], "be a string, found 3"),
    "data.streams.images.transform": (3, "be a mapping, found 3"),
    "data.streams.images.positives": ("rwo", 'found "rwo"; nearest: row'),
    "evaluation.tasks": ({"retrieval": None}, "have 1 or more entries"),
    "evaluation.source.file": (3, "be a path, found 3"),
    "model.text.lexicon.size": ("big", 'be an integer, found "big"'),
    "model.text.lexicon": ("big", 'be a mapping, found "big"'),
    "model.vision": (3, "its name, or class_path with init_args"),
}


@pytest.mark.parametrize("key", WRONG)
def test_a_fault_names_key_value_and_what_is_allowed(write: Write, key: str) -> None:
    value, expected = WRONG[key]
    with pytest.raises(RecipeError) as caught:
        read_recipe(["good.yaml"], [(key, value)], checks="none")
    (fault,) = caught.value.faults
    assert fault.key.replace(".init_args", "").startswith(key)
    assert fault.place == ("good.yaml:31" if key == "evaluation.tasks" else "command line")
    assert expected in fault.message
    assert "nput" not in fault.message


def test_settings_of_a_component_keep_type_and_context_of_their_errors(write: Write) -> None:
    text = Path("stubs.py").read_text()
    write(
        "stubs.py",
        "from typing import Literal\n\nfrom pydantic import Field, field_validator\n"
        + text.replace("from __future__ import annotations\n", "").replace(
            "    heads: int = 2\n",
            "    heads: int = Field(2, multiple_of=2)\n    norm: Literal['pre', 'post'] = 'pre'\n"
            "    names: tuple[str, ...] = Field((), max_length=1)\n    rate: float = 0.1\n\n"
            "    @field_validator('rate')\n    @classmethod\n    def _below_one(cls, rate):\n"
            "        if rate >= 1:\n            raise ValueError(f'{{a rate}} below 1, found {rate}')\n"
            "        return rate\n",
        ),
    )
    values = {"heads": 3, "norm": "prae", "names": ["a", "b"], "rate": 2}
    with pytest.raises(RecipeError) as caught:
        read_recipe(["good.yaml"], [(f"model.fusion.{key}", value) for key, value in values.items()])
    assert {
        fault.key.removeprefix("model.fusion.init_args."): fault.message for fault in caught.value.faults
    } == {
        "heads": "should be a multiple of 2, found 3",
        "norm": "should be 'pre' or 'post', found \"prae\"; nearest: pre",
        "names": "should be a list of at most 1, found a list of 2",
        "rate": "{a rate} below 1, found 2.0",
    }
