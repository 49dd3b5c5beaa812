"""The recorded values of tasks with two images (tasks_more/nlvr_*, multilingual_heads)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from x2kit_fusion import DoubledCross

from x2kit.data.pipeline.batch import TaskRows
from x2kit.interop.convert import FACTS, from_official, to_official
from x2kit.model import X2VLM, load
from x2kit.plugin import VisionFeatures
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.tasks import FusedTexts, Prediction, Texts
from x2kit.tasks import Classification
from x2kit.tasks.classification.task import ClassificationTask
from x2kit.training.step.fusion_pass import FusionPass
from x2kit.training.step.tasks import add_task_rows, task_losses

from .evidence import check, check_equal
from .tasks_more import CCLM_V1_HEADS, Files, TaskModel, config_of, features, model_file, recorded, task_model

STATES, LOSS, GRADIENTS = 2e-5, 1e-5, 1e-4
NLVR_X2 = Files("tasks_more/nlvr_x2.json", "tasks_more/nlvr_x2.safetensors")
NLVR_DOUBLED = Files("tasks_more/nlvr_doubled.json", "tasks_more/nlvr_doubled.safetensors")
MULTILINGUAL = Files("tasks_more/multilingual_heads.json", "tasks_more/multilingual_heads.safetensors")
SEPARATE = [(NLVR_X2, "xvlm", ""), (MULTILINGUAL, "cclm", "marvl.")]


class Watched(ClassificationTask):
    """Keeps the fused texts of the last loss."""

    def loss(
        self, model: Any, fused: Sequence[FusedTexts], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        self.fused = fused
        return super().loss(model, fused, targets)


class Run(NamedTuple):
    """Results of a task on recorded rows, by the functions of the training step."""

    states: Tensor
    """[B, K * D], what the head reads."""
    logits: Tensor
    predicted: Sequence[Any]
    loss: Tensor


def run(
    model: X2VLM, config: Classification, images: VisionFeatures, tensors: dict[str, Tensor], pairs: Tensor
) -> Run:
    """Run a task on the recorded texts and images [B, I]."""
    task, every = Watched(config), slice(None)
    texts = Texts(tensors["in.text_ids"], tensors["in.text_atts"].bool())
    rows = TaskRows(pairs, (texts,), {"label": tensors["in.targets"]})
    fusion = FusionPass()
    tokens = model.encode_texts(texts.ids, texts.mask)
    add_task_rows(fusion, "rows", task, rows, [tokens], images, every)
    found = fusion.run(model, images)
    loss = task_losses(model, "rows", task, rows, ("label",), found, images, every)["label"]
    states = torch.cat([each.states[:, 0] for each in task.fused], 1)
    return Run(states, task.logits(model, task.fused), task.predict(model, task.fused, rows.targets), loss)


def numbered(
    classes: int, images: int = 1, fused: Literal["separately", "together"] = "separately"
) -> Classification:
    """A task whose classes are the numbers of the recording."""
    return Classification(classes=tuple(range(classes)), images=images, fused=fused)


def under(tensors: dict[str, Tensor], begin: str) -> dict[str, Tensor]:
    return {name.removeprefix(begin): value for name, value in tensors.items() if name.startswith(begin)}


def check_gradients(file: str, task: TaskModel, loss: Tensor, tensors: dict[str, Tensor]) -> None:
    found = task.gradients(loss)
    wanted = under(tensors, "grad.")
    assert wanted
    for name, value in wanted.items():
        check(file, f"grad.{name}", found[name], value, atol=GRADIENTS, rtol=GRADIENTS)


def check_run(
    files: Files, begin: str, found: Run, facts: dict[str, Any], tensors: dict[str, Tensor]
) -> None:
    """Compare states, logits, loss and accuracy with a recording."""
    if "out.head_input" in tensors:
        check(files.tensors, f"{begin}out.head_input", found.states, tensors["out.head_input"], atol=STATES)
    check(files.tensors, f"{begin}out.logits", found.logits, tensors["out.logits"], atol=STATES)
    check(files.facts, f"{begin}loss", found.loss, facts["loss"], atol=LOSS)
    if "predicted" in facts:
        check_equal(files.facts, f"{begin}predicted", found.predicted, facts["predicted"])
    if "accuracy" in facts:
        truths = tensors["in.targets"].tolist()
        pairs = zip(found.predicted, truths, strict=True)
        measured = numbered(found.logits.shape[1]).build().measure([Prediction("", *pair) for pair in pairs])
        check(files.facts, f"{begin}accuracy", measured["accuracy"], facts["accuracy"], atol=1e-6)


@pytest.mark.parametrize(("files", "weights", "begin"), SEPARATE)
def test_two_fused_states_side_by_side(files: Files, weights: str, begin: str) -> None:
    facts, tensors = recorded(files)
    facts, tensors = facts[begin[:-1]] if begin else facts, under(tensors, begin)
    task = task_model(weights, answers=2, answer_images=2)
    task.set(tensors)
    found = run(task.model, numbered(2, 2), features(weights, task.model), tensors, pair_of(tensors))
    check_run(files, begin, found, facts, tensors)
    check_gradients(files.tensors, task, found.loss, tensors)


@pytest.mark.parametrize(("files", "weights"), [(MULTILINGUAL, "cclm"), (CCLM_V1_HEADS, "cclm_v1")])
def test_hypothesis_and_image(files: Files, weights: str) -> None:
    facts, tensors = recorded(files)
    facts, tensors = facts["xvnli"], under(tensors, "xvnli.")
    task = task_model(weights, answers=3)
    task.set(tensors)
    if "out.token_embeddings" in tensors:
        embedded = task.model.text.model.embeddings(tensors["in.text_ids"])  # type: ignore[union-attr]
        expected = tensors["out.token_embeddings"]
        check(files.tensors, "xvnli.out.token_embeddings", embedded, expected, atol=STATES)
    images, rows = features(weights, task.model), tensors["in.image_rows"][:, None]
    found = run(task.model, numbered(3), images, tensors, rows)
    check_run(files, "xvnli.", found, facts, tensors)
    check_gradients(files.tensors, task, found.loss, tensors)


def pair_of(tensors: dict[str, Tensor]) -> Tensor:
    return torch.stack([tensors["in.first_image_rows"], tensors["in.second_image_rows"]], 1)


def check_doubled(file: str, weights: str, task: TaskModel, facts: dict[str, Any]) -> None:
    """Compare the start of the doubled layers with the tensors that the official code copies."""
    source, found = load_file(model_file(weights)), task.official(task.model.state_dict())
    for target, origin in facts["target_to_source"].items():
        if target in found:
            kind = target.partition(".")[0]
            check(file, f"target_to_source ({kind})", found[target], source[origin])
    check_equal(
        file, "parameters that come from the source", facts["target_to_source"].keys() - found.keys(), set()
    )


TOGETHER = numbered(2, 2, "together")


def test_doubled_layers_of_the_multilingual_model() -> None:
    files = CCLM_V1_HEADS
    facts, tensors = recorded(files)
    facts, tensors = facts["marvl"], under(tensors, "marvl.")
    task = task_model("cclm_v1", DoubledCross, answers=2)
    check_doubled(files.facts, "cclm_v1", task, facts)
    task.set(tensors)
    found = run(task.model, TOGETHER, features("cclm_v1", task.model), tensors, pair_of(tensors))
    check_run(files, "marvl.", found, facts, tensors)
    check_gradients(files.tensors, task, found.loss, tensors)


def test_doubled_layers() -> None:
    files = NLVR_DOUBLED
    facts, tensors = recorded(files)
    task = task_model("xvlm", DoubledCross, answers=2)
    check_doubled(files.facts, "xvlm", task, facts)
    own = dict(task.model.named_parameters(remove_duplicate=False))
    tied = {
        official: own[name].data_ptr()
        for name, parts in task.names.items()
        for official in parts
        if name in own
    }
    for first, second in facts["shared_parameters"]:
        check_equal(files.facts, "shared_parameters", tied[first], tied[second])
    task.set(tensors)
    images, pairs = features("xvlm", task.model), pair_of(tensors)
    found = run(task.model, TOGETHER, images, tensors, pairs)
    check_run(files, "", found, facts, tensors)
    check_gradients(files.tensors, task, found.loss, tensors)

    swapped = run(task.model, TOGETHER, features("xvlm", task.model), tensors, pairs.flip(1)).logits
    expected = tensors["out.logits_pictures_swapped"]
    check(files.tensors, "out.logits_pictures_swapped", swapped, expected, atol=STATES)

    changed = under(tensors, "changed.")
    task.set(changed)
    found = run(task.model, TOGETHER, features("xvlm", task.model), tensors, pairs)
    check_run(files, "changed.", found, {"loss": facts["changed.loss"]}, {**tensors, **changed})


def test_a_doubled_checkpoint_converts_and_comes_back(tmp_path: Path) -> None:
    file = NLVR_DOUBLED.tensors
    facts, tensors = recorded(NLVR_DOUBLED)
    source = load_file(model_file("xvlm"))
    official = {name: value for name, value in source.items() if name.startswith("vision_encoder.")}
    official |= {target: source[origin] for target, origin in facts["target_to_source"].items()}
    official |= under(tensors, "param.") | under(tensors, "changed.param.")
    for first, second in facts["shared_parameters"]:
        official[second] = official[first]
    torch.save({"model": official}, tmp_path / "nlvr.th")
    registry, heads = load_plugins().registry, config_of("xvlm")["text"]["num_heads"]
    found = from_official(tmp_path / "nlvr.th", tmp_path / "weights", registry, heads=heads)
    assert isinstance(found.config.fusion, DoubledCross)
    assert (found.config.heads.answers, found.config.heads.answer_images) == (2, 1)

    model = load(tmp_path / "weights")
    model._mean.zero_()
    model._std.fill_(1)
    logits = run(model, TOGETHER, features("xvlm", model), tensors, pair_of(tensors)).logits
    check(file, "changed.out.logits (converted)", logits, tensors["changed.out.logits"], atol=STATES)

    to_official(tmp_path / "weights", tmp_path / "back.th")
    back = torch.load(tmp_path / "back.th", weights_only=True)["model"]
    check_equal(file, "keys after conversion there and back", list(back), list(official))
    assert all(torch.equal(back[name], value) for name, value in official.items())
    for first, second in facts["shared_parameters"]:
        assert back[first].data_ptr() == back[second].data_ptr()

    (tmp_path / "weights" / FACTS).unlink()  # as weights that were trained here
    assert to_official(tmp_path / "weights", tmp_path / "own.th").stacked
    assert set(torch.load(tmp_path / "own.th", weights_only=True)["model"]) >= set(official)
