"""int8 weights, and the recall of exported towers on a recipe's evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.export.conftest import config_of, evaluated, tiny
from x2kit.errors import HeadError, X2KitError
from x2kit.evaluation.harness import evaluate
from x2kit.export.folder import export_model
from x2kit.inference import Model
from x2kit.plugin.loading.manager import load_plugins


def measured_in(exported: Path) -> Any:
    return json.loads((exported / "manifest.json").read_text())["int8"]


def test_it_writes_smaller_programs_beside_the_others(exported: Path) -> None:
    for name, program in measured_in(exported)["programs"].items():
        assert program["file"] == f"{name}.int8.onnx"
        assert (exported / program["file"]).stat().st_size != (exported / f"{name}.onnx").stat().st_size
        assert 0 < max(program["largest_difference"].values()) < 0.2


def test_recall_of_float32_is_that_of_the_evaluation(model: Model, exported: Path, tmp_path: Path) -> None:
    measured = measured_in(exported)
    assert model.tasks is not None
    weights = Path(model.tasks.where).parent
    result = evaluate(weights, evaluated(), load_plugins(), output=tmp_path / "result.json", device="cpu")
    for code in ("en", "de"):
        found = measured["recall"]["float32"][code]
        own = result["languages"][code]
        assert (found["queries"], found["candidates"]) == (own["queries"], own["candidates"]) == (30, 30)
        for direction in ("text_to_image", "image_to_text"):
            expected = {r: own[direction][r] for r in ("r1", "r5", "r10")}
            assert found[direction] == pytest.approx(expected)
            assert 0 < expected["r10"] < 1
    assert measured["measured_on"]["split"] == "test"
    assert measured["measured_on"]["languages"] == ["en", "de"]


def test_the_cost_is_the_mean_over_languages(exported: Path) -> None:
    measured = measured_in(exported)
    both = measured["recall"]
    for direction in ("text_to_image", "image_to_text"):
        lost = [
            both["float32"][code][direction]["r5"] - both["int8"][code][direction]["r5"]
            for code in ("en", "de")
        ]
        assert measured["recall_lost"][f"{direction} r5"] == pytest.approx(sum(lost) / 2)


def test_int8_needs_an_evaluation_vectors_and_onnx(model: Model, tmp_path: Path) -> None:
    with pytest.raises(X2KitError, match=r"these weights name none; give one: --recipe"):
        export_model(
            model,
            "onnx",
            tmp_path / "out",
            int8=True,
            recipe=evaluated().model_copy(update={"evaluation": None}),
        )
    with pytest.raises(X2KitError, match="use it with --to onnx"):
        export_model(model, "torch", tmp_path / "out", int8=True, recipe=evaluated())
    without = tiny(tmp_path / "weights", config_of(heads=("itm",)))
    with pytest.raises(HeadError, match="no contrastive head"):
        export_model(without, "onnx", tmp_path / "out", int8=True, recipe=evaluated())
    assert not (tmp_path / "out").exists()
