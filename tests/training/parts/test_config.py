"""Settings of `training.trainable`: shorthands, combinations, and names of parts."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from tests.training.conftest import Written
from x2kit.errors import RecipeError
from x2kit.model.config import HeadsConfig
from x2kit.training.config import TrainingConfig
from x2kit.training.parts import config as module
from x2kit.training.parts.config import PartConfig, TrainableConfig, head_names


def test_all_is_trained_by_default() -> None:
    assert TrainingConfig().trainable.everything
    assert not TrainableConfig(heads={"mlm": "none"}).everything  # type: ignore[dict-item]


def test_a_word_is_short_for_parameters(written: Written) -> None:
    """In a recipe and in Python."""
    trainable = written(trainable={"vision": "norms", "heads": {"mlm": "none"}}).recipe.training.trainable
    assert trainable == TrainableConfig(
        vision=PartConfig(parameters="norms"), heads={"mlm": PartConfig(parameters="none")}
    )


@pytest.mark.parametrize(
    ("settings", "base"),
    [({}, "all"), ({"last_layers": 2}, "none"), ({"lora": {}}, "none"), ({"from_step": 3}, "all")],
)
def test_last_layers_and_adapters_freeze_the_rest(settings: dict[str, Any], base: str) -> None:
    assert PartConfig(**settings).base == base


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"parameters": "all", "lora": {}}, "all contains lora"),
        ({"parameters": "all", "last_layers": 1}, "all contains last_layers"),
        ({"parameters": "none", "from_step": 5}, "trains nothing at any step"),
        ({"parameters": "some"}, "'all', 'none' or 'norms'"),
        ({"last_layers": 0}, "greater than 0"),
    ],
)
def test_settings_without_sense_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        PartConfig(**settings)


def test_the_heads_of_a_model_have_the_names_of_model_heads() -> None:
    heads = HeadsConfig(built=("itc", "mlm"), frames=4, answers=3, decoder_layers=2)
    assert head_names(heads) == ["itc", "mlm", "temperature", "frames", "answers", "decoder"]
    assert head_names(HeadsConfig(built=("itm",))) == ["itm"]


@pytest.mark.parametrize(
    ("trainable", "message"),
    [
        (
            {"heads": {"itn": "none"}},
            r"trainable\.heads\.itn: the model has no head itn; its heads: itc, itm, mlm, bbox, temperature",
        ),
        (
            {"heads": {"itc": {"lora": {}}}},
            r"heads\.itc\.lora: only vision, text, fusion and decoder have layers",
        ),
        (
            {part: {"from_step": 2} for part in ("vision", "text", "fusion")}
            | {"heads": dict.fromkeys(("itc", "itm", "mlm", "bbox", "temperature"), "none")},
            r"training\.trainable: no part is trained in the first step",
        ),
    ],
)
def test_a_recipe_is_checked_against_its_heads(
    written: Written, trainable: dict[str, Any], message: str
) -> None:
    with pytest.raises(RecipeError, match=message):
        written(trainable=trainable)


def test_adapters_without_peft_name_the_extra(written: Written, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r'fusion\.lora: needs peft, .*: pip install "x2kit\[peft\]"'):
        written(trainable={"fusion": {"lora": {"rank": 2}}})
