"""The recorded values of tasks with two images (tasks_more/nlvr_*, multilingual_heads)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from x2kit_fusion import DoubledCross

import x2kit
from x2kit.interop.convert import from_official, to_official
from x2kit.model import X2VLM
from x2kit.model.x2vlm import image_context
from x2kit.plugin import VisionFeatures
from x2kit.plugin.loading.manager import load_plugins

from .evidence import check, check_equal
from .tasks_more import CCLM_V1_HEADS, Files, TaskModel, config_of, features, model_file, recorded, task_model

STATES, LOSS, GRADIENTS = 2e-5, 1e-5, 1e-4
NLVR_X2 = Files("tasks_more/nlvr_x2.json", "tasks_more/nlvr_x2.safetensors")
NLVR_DOUBLED = Files("tasks_more/nlvr_doubled.json", "tasks_more/nlvr_doubled.safetensors")
MULTILINGUAL = Files("tasks_more/multilingual_heads.json", "tasks_more/multilingual_heads.safetensors")
SEPARATE = [(NLVR_X2, "xvlm", ""), (MULTILINGUAL, "cclm", "marvl.")]


def fuse(model: X2VLM, images: VisionFeatures, tensors: dict[str, Tensor], rows: Tensor) -> Tensor:
    """Fuse the recorded texts with their image [B], or their images [B, 2]."""
    mask = tensors["in.text_atts"].bool()
    text = model.encode_texts(tensors["in.text_ids"], mask)
    return model.fuse(text, mask, image_context(images, rows))


def under(tensors: dict[str, Tensor], begin: str) -> dict[str, Tensor]:
    return {name.removeprefix(begin): value for name, value in tensors.items() if name.startswith(begin)}


def check_gradients(file: str, task: TaskModel, loss: Tensor, tensors: dict[str, Tensor]) -> None:
    found = task.gradients(loss)
    wanted = under(tensors, "grad.")
    assert wanted
    for name, value in wanted.items():
        check(file, f"grad.{name}", found[name], value, atol=GRADIENTS, rtol=GRADIENTS)


@pytest.mark.parametrize(("files", "weights", "begin"), SEPARATE)
def test_two_fused_states_side_by_side(files: Files, weights: str, begin: str) -> None:
    facts, tensors = recorded(files)
    facts, tensors = facts[begin[:-1]] if begin else facts, under(tensors, begin)
    task = task_model(weights, answers=2, answer_images=2)
    task.set(tensors)
    images = features(weights, task.model)
    fused = [
        fuse(task.model, images, tensors, tensors[f"in.{place}_image_rows"]) for place in ("first", "second")
    ]
    if "out.head_input" in tensors:
        states = torch.cat([state[:, 0] for state in fused], 1)
        check(files.tensors, "out.head_input", states, tensors["out.head_input"], atol=STATES)
    logits = task.model.answer_logits(fused)
    check(files.tensors, f"{begin}out.logits", logits, tensors["out.logits"], atol=STATES)
    loss = F.cross_entropy(logits, tensors["in.targets"])
    check(files.facts, f"{begin}loss", loss, facts["loss"], atol=LOSS)
    check_equal(files.facts, f"{begin}predicted", logits.argmax(1).tolist(), facts["predicted"])
    check_gradients(files.tensors, task, loss, tensors)


@pytest.mark.parametrize(("files", "weights"), [(MULTILINGUAL, "cclm"), (CCLM_V1_HEADS, "cclm_v1")])
def test_hypothesis_and_image(files: Files, weights: str) -> None:
    facts, tensors = recorded(files)
    facts, tensors = facts["xvnli"], under(tensors, "xvnli.")
    task = task_model(weights, answers=3)
    task.set(tensors)
    if "out.token_embeddings" in tensors:
        found = task.model.text.model.embeddings(tensors["in.text_ids"])  # type: ignore[union-attr]
        check(
            files.tensors, "xvnli.out.token_embeddings", found, tensors["out.token_embeddings"], atol=STATES
        )
    fused = fuse(task.model, features(weights, task.model), tensors, tensors["in.image_rows"])
    logits = task.model.answer_logits([fused])
    check(files.tensors, "xvnli.out.logits", logits, tensors["out.logits"], atol=STATES)
    loss = F.cross_entropy(logits, tensors["in.targets"])
    check(files.facts, "xvnli.loss", loss, facts["loss"], atol=LOSS)
    check(files.facts, "xvnli.accuracy", accuracy(logits, tensors), facts["accuracy"], atol=1e-6)
    check_gradients(files.tensors, task, loss, tensors)


def accuracy(logits: Tensor, tensors: dict[str, Tensor]) -> Tensor:
    return (logits.argmax(1) == tensors["in.targets"]).float().mean()


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


def test_doubled_layers_of_the_multilingual_model() -> None:
    files = CCLM_V1_HEADS
    facts, tensors = recorded(files)
    facts, tensors = facts["marvl"], under(tensors, "marvl.")
    task = task_model("cclm_v1", DoubledCross, answers=2)
    check_doubled(files.facts, "cclm_v1", task, facts)
    task.set(tensors)
    fused = fuse(task.model, features("cclm_v1", task.model), tensors, pair_of(tensors))
    logits = task.model.answer_logits([fused])
    check(files.tensors, "marvl.out.logits", logits, tensors["out.logits"], atol=STATES)
    loss = F.cross_entropy(logits, tensors["in.targets"])
    check(files.facts, "marvl.loss", loss, facts["loss"], atol=LOSS)
    check(files.facts, "marvl.accuracy", accuracy(logits, tensors), facts["accuracy"], atol=1e-6)
    check_gradients(files.tensors, task, loss, tensors)


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
    images = features("xvlm", task.model)

    def run(rows: Tensor) -> tuple[Tensor, Tensor]:
        fused = fuse(task.model, images, tensors, rows)
        return fused[:, 0], task.model.answer_logits([fused])

    states, logits = run(pair_of(tensors))
    check(files.tensors, "out.head_input", states, tensors["out.head_input"], atol=STATES)
    check(files.tensors, "out.logits", logits, tensors["out.logits"], atol=STATES)
    check_equal(files.facts, "predicted", logits.argmax(1).tolist(), facts["predicted"])
    swapped = run(pair_of(tensors).flip(1))[1]
    check(
        files.tensors,
        "out.logits_pictures_swapped",
        swapped,
        tensors["out.logits_pictures_swapped"],
        atol=STATES,
    )
    loss = F.cross_entropy(logits, tensors["in.targets"])
    check(files.facts, "loss", loss, facts["loss"], atol=LOSS)
    check_gradients(files.tensors, task, loss, tensors)

    changed = under(tensors, "changed.")
    task.set(changed)
    states, logits = run(pair_of(tensors))
    check(files.tensors, "changed.out.head_input", states, changed["out.head_input"], atol=STATES)
    check(files.tensors, "changed.out.logits", logits, changed["out.logits"], atol=STATES)
    loss = F.cross_entropy(logits, tensors["in.targets"])
    check(files.facts, "changed.loss", loss, facts["changed.loss"], atol=LOSS)


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

    model = x2kit.load(tmp_path / "weights")
    model._mean.zero_()
    model._std.fill_(1)
    logits = model.answer_logits([fuse(model, features("xvlm", model), tensors, pair_of(tensors))])
    check(file, "changed.out.logits (converted)", logits, tensors["changed.out.logits"], atol=STATES)

    to_official(tmp_path / "weights", tmp_path / "back.th")
    back = torch.load(tmp_path / "back.th", weights_only=True)["model"]
    check_equal(file, "keys after conversion there and back", list(back), list(official))
    assert all(torch.equal(back[name], value) for name, value in official.items())
    for first, second in facts["shared_parameters"]:
        assert back[first].data_ptr() == back[second].data_ptr()
