"""Objectives of plugins: logged and weighted like the paper's losses, with accumulation and several ranks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest
import torch
import yaml
from torch import Tensor, nn
from x2kit_objectives import SigmoidContrastive

from tests.forked import run_ranks
from tests.training.conftest import recipe_tree
from x2kit.data.config import DataConfig, StreamConfig
from x2kit.data.pipeline.batch import Batch
from x2kit.errors import PluginError, RecipeError
from x2kit.io.run_directory import read_metrics
from x2kit.model import X2VLM
from x2kit.plugin import MeanOver, ObjectiveConfig, StreamFeatures
from x2kit.recipe import read_recipe
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.tasks import ImageText
from x2kit.training import train
from x2kit.training.step.accumulation import accumulate
from x2kit.training.step.losses import step_losses
from x2kit.training.step.objectives import StreamObjective, build_objectives
from x2kit.training.step.plan import Active

PLUGIN = """\
from typing import ClassVar
from x2kit.plugin import ObjectiveConfig, hookimpl

class Rows(ObjectiveConfig):
    over: ClassVar[str] = "rows"

    def build(self):
        return rows

def rows(features):
    texts = [(text.tokens.float() * text.mask[..., None]).sum(1).square().mean(1) for text in features.texts]
    if features.vision is not None:
        texts.append(features.vision.patches.float().square().mean((1, 2))[features.images])
        texts.append(features.summary.float().square().mean(1))
    return sum(texts).mean()

@hookimpl
def x2kit_register(registry):
    registry.add(Rows)
"""
SIGMOID = {"class_path": "SigmoidContrastive", "init_args": {"weight": 0.5}}


def recipe(folder: Path, streams: Mapping[str, Any], **training: Any) -> ResolvedRecipe:
    tree = recipe_tree(folder)
    (folder / "rows.py").write_text(PLUGIN)
    tree["plugins"].append("rows.py")
    tree["model"]["fusion"]["init_args"]["dropout"] = 0.0
    for name, settings in streams.items():
        tree["data"]["streams"][name] |= settings
    tree["training"] |= {"steps": 2, "warmup": 0, "lr": 0.001, **training}
    file = folder / "rows.yaml"
    file.write_text(yaml.safe_dump(tree))
    return read_recipe([file])


def metrics(resolved: ResolvedRecipe, run: Path) -> list[dict[str, float]]:
    train(resolved.recipe, resolved.plugins, run)
    return read_metrics(run)


def test_objective_is_logged_by_stream_and_weighted(tmp_path: Path) -> None:
    streams = {
        "images": {"weight": 0.5, "objectives": {"sigmoid": SIGMOID, "tokens": "Rows"}},
        "regions": {"objectives": {"sigmoid": "SigmoidContrastive"}},
        "parallel": {
            "objectives": {"sigmoid": {"class_path": "SigmoidContrastive", "init_args": {"weight": 0}}}
        },
    }
    (line, _) = metrics(recipe(tmp_path, streams), tmp_path / "run")
    assert "parallel.sigmoid" not in line
    weights = {"images.sigmoid": 0.25, "images.tokens": 0.5} | {
        f"images.{loss}": 0.5 for loss in ("itc", "itm", "mlm")
    }
    parts = [
        value * weights.get(name, 1.0)
        for name, value in line.items()
        if "." in name and not name.endswith((".padding", "_accuracy", "_held", "_limit"))
    ]
    assert len(parts) == 14
    assert line["loss"] == pytest.approx(sum(parts), rel=1e-5)


def test_stream_whose_only_loss_is_an_objective_is_loaded(tmp_path: Path) -> None:
    off = dict.fromkeys(("itc", "itm", "mlm"), 0)
    late = {"class_path": "SigmoidContrastive", "init_args": {"start": 0.5}}
    streams = {"images": {"losses": off, "objectives": {"only": late}}}
    first, second = metrics(recipe(tmp_path, streams), tmp_path / "run")
    assert "images.only" not in first
    assert second["images.only"] > 0


def rows(features: StreamFeatures) -> Tensor:
    names: dict[str, Any] = {}
    exec(PLUGIN, names)
    return cast(Tensor, names["rows"](features))


@pytest.mark.parametrize("parts", [2, 3])
def test_accumulation_gives_the_same_losses_and_gradients(model: X2VLM, batch: Batch, parts: int) -> None:
    sigmoid = SigmoidContrastive().build()
    both = {"sigmoid": StreamObjective("a", "pairs", sigmoid), "rows": StreamObjective("b", "rows", rows)}
    objectives = dict.fromkeys(("images", "regions", "parallel"), both)
    active: Active = {"images": ("itc", "mlm"), "regions": ("bbox",), "parallel": ()}

    def gradients() -> dict[str, Tensor]:
        found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        model.zero_grad(set_to_none=True)
        return found

    whole = step_losses(model, batch, active, objectives=objectives)
    torch.stack([value for on in whole.values() for value in on.values()]).sum().backward()
    expected = gradients()
    found = accumulate(model, batch, active, parts, lambda stream, loss: 1.0, objectives=objectives)
    assert set(found["parallel"]) == {"sigmoid", "rows"}
    for stream, losses in whole.items():
        torch.testing.assert_close(found[stream], losses, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(("distribution", "accumulation"), [("ddp", 1), ("ddp", 2), ("fsdp", 1)])
def test_two_ranks_have_the_losses_of_one(tmp_path: Path, distribution: str, accumulation: int) -> None:
    both = {"objectives": {"sigmoid": "SigmoidContrastive", "rows": "Rows"}}
    streams = {"images": {**both, "batch_size": 5}, "regions": {**both, "batch_size": 5}, "parallel": both}
    one = metrics(recipe(tmp_path, streams), tmp_path / "one")
    recipe(tmp_path, streams, distribution=distribution, accumulation=accumulation)
    done = run_ranks(2, "train", tmp_path / "rows.yaml", "--run-dir", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    for expected, found in zip(one, read_metrics(tmp_path / "two"), strict=True):
        for name in (
            "loss",
            "gradient_norm",
            *(key for key in expected if key.endswith((".sigmoid", ".rows"))),
        ):
            assert found[name] == pytest.approx(expected[name], rel=1e-4), name


@pytest.mark.parametrize(
    ("streams", "heads", "key", "said"),
    [
        ({"images": {"objectives": {"one": "SigmoidContrastiv"}}}, None, "objectives.one", "nearest: \"SigmoidCon"),
        ({"images": {"objectives": {"mlm": SIGMOID}}}, None, "images", "objectives: mlm "),
        ({"images": {"objectives": {"a.b": SIGMOID}}}, None, "images", "letters, digits, - and _"),
        ({"alone": {"objectives": {"one": SIGMOID}}}, None, "alone", "found one"),
        (
            {"parallel": {"batch_size": 1, "losses": {"ttc": 0, "ttm": 0}, "objectives": {"one": SIGMOID}}},
            None,
            "data.streams.parallel.batch_size",
            "objective one compares a row with others",
        ),
        (
            {"images": {"objectives": {"one": SIGMOID}, "losses": {"itc": 0, "itm": 0}}},
            ["mlm", "bbox"],
            "data.streams.images.objectives.one",
            "needs head itc",
        ),
    ],
)  # fmt: skip
def test_invalid_objectives_are_refused_with_their_key(
    streams: Mapping[str, Any], heads: list[str] | None, key: str, said: str, tmp_path: Path
) -> None:
    tree = recipe_tree(tmp_path)
    common = {k: v for k, v in tree["data"]["streams"]["images"].items() if k != "task"}
    tree["data"]["streams"]["alone"] = {**common, "task": "PlainText"}
    for name, settings in streams.items():
        tree["data"]["streams"][name] |= settings
    if heads:
        tree["model"]["heads"]["built"] = heads
    file = tmp_path / "wrong.yaml"
    file.write_text(yaml.safe_dump(tree))
    with pytest.raises(RecipeError) as found:
        read_recipe([file])
    assert any(key in fault.key and said in fault.message for fault in found.value.faults), found.value


class Given(ObjectiveConfig):
    """Builds the objective that a test puts into `GIVEN`."""

    over: ClassVar[MeanOver] = "rows"

    def build(self) -> Any:
        return GIVEN[0]


GIVEN: list[Any] = []


def built(objective: Any) -> Mapping[str, Mapping[str, StreamObjective]]:
    GIVEN[:] = [objective]
    source = cast(Any, None)
    stream = StreamConfig.model_construct(task=ImageText(), source=source, objectives={"own": Given()})
    return build_objectives(DataConfig.model_construct(streams={"images": stream}))


@pytest.mark.parametrize(
    ("objective", "said"),
    [
        (lambda features: features.first, r"returns a floating-point scalar, found \[4, 6\] torch\.float32"),
        (lambda features: 0.5, "found <class 'float'>"),
        (lambda features: features.first.sum().long(), r"found \[\] torch\.int64"),
        (lambda features: features.nothing, "failed: AttributeError: 'StreamFeatures' object has no"),
    ],
)
def test_failing_objective_is_named_by_its_key(model: X2VLM, batch: Batch, objective: Any, said: str) -> None:
    objectives = built(objective)
    with pytest.raises(PluginError, match=r"^data\.streams\.images\.objectives\.own \(Given\).*" + said):
        step_losses(model, batch, {"images": ()}, objectives=objectives)


def test_objective_with_parameters_is_refused() -> None:
    with pytest.raises(PluginError, match=r"an objective has no parameters.* found weight, bias"):
        built(nn.Linear(2, 2))
