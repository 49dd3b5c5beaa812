"""Frozen and adapted parts: which parameters change, without a graph, and equal to plain training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.testing import assert_close

from tests.training.conftest import Written, recipe_tree
from x2kit.errors import X2KitError
from x2kit.model import X2VLM
from x2kit.recipe import read_recipe
from x2kit.training.config import TrainingConfig
from x2kit.training.optim.optimizer import build_optimizer, parameter_groups
from x2kit.training.parts.config import PartConfig, TrainableConfig
from x2kit.training.parts.trained import TrainedParts, describe, part_of, parts_of, select_trained
from x2kit.training.stepper import Stepper, assemble


def silent(message: str) -> None:
    pass


def stepper_of(written: Written, messages: list[str] | None = None, **training: Any) -> Stepper:
    """Build a stepper of the tiny recipe."""
    recipe = written(**training).recipe
    say = silent if messages is None else messages.append
    return Stepper(recipe, assemble(recipe, say)[0], 0)


def run(stepper: Stepper, steps: int) -> list[dict[str, float]]:
    """Make steps; return their values."""
    found = []
    for _ in range(steps):
        values = stepper.step(stepper.batches.batch(stepper.done))
        stepper.done += 1
        found.append({name: float(value) for name, value in values.items()})
    return found


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def changed(before: dict[str, Tensor], model: nn.Module) -> set[str]:
    return {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}


def trained(model: X2VLM, **parts: Any) -> set[str]:
    """Select parts; return the names of the parameters that can learn."""
    select_trained(model, TrainableConfig(**parts))
    return {name for name, value in model.named_parameters() if value.requires_grad}


def adapted(folder: Path, **training: Any) -> Stepper:
    """Build a stepper whose fusion encoder has two layers with adapters."""
    tree = recipe_tree(folder)
    tree["model"]["fusion"]["init_args"]["layers"] = 2
    tree["training"] |= {"warmup": 0, "trainable": {"fusion": {"lora": {"rank": 2}}}, **training}
    (folder / "adapted.yaml").write_text(yaml.safe_dump(tree))
    recipe = read_recipe([folder / "adapted.yaml"]).recipe
    return Stepper(recipe, assemble(recipe, silent)[0], 0)


def of(model: X2VLM, *parts: str) -> set[str]:
    return {name for part in parts for name in parts_of(model)[part]}


def test_every_parameter_is_in_a_part(model: X2VLM) -> None:
    assert set(parts_of(model)) == {
        *("vision", "text", "fusion", "itc", "temperature", "itm", "mlm", "bbox"),
    }
    assert part_of("extra_heads.topics.0.weight") == "topics"
    assert part_of("decoder.layers.0.weight") == "decoder"
    assert part_of("frame_positions") == "frames"


def test_a_frozen_part_leaves_the_others(model: X2VLM) -> None:
    everything = of(model, *parts_of(model))
    found = trained(model, vision="none", heads={"temperature": "none"})
    assert found == everything - of(model, "vision", "temperature")


def test_norms_are_those_of_modules(model: X2VLM) -> None:
    found = trained(model, fusion="norms") & of(model, "fusion")
    modules = dict(model.named_modules())
    assert found
    assert all(isinstance(modules[name.rpartition(".")[0]], nn.LayerNorm) for name in found)


def test_the_last_layers_include_the_modules_after_them(model: X2VLM) -> None:
    found = trained(model, fusion={"last_layers": 1}) & of(model, "fusion")
    assert found == {name for name in of(model, "fusion") if not name.startswith("fusion.layers.0.")}


def test_more_layers_than_there_are_is_an_error(model: X2VLM) -> None:
    with pytest.raises(X2KitError, match=r"trainable\.fusion\.last_layers: 3, but the part has 2 layers"):
        trained(model, fusion={"last_layers": 3})


def test_parameters_that_the_encoder_froze_stay_frozen(model: X2VLM) -> None:
    model.vision.requires_grad_(False)
    assert not trained(model, text="none") & of(model, "vision")


def test_a_shared_matrix_belongs_to_the_text_encoder(model: X2VLM) -> None:
    assert model.mlm_head.decoder.weight is model.text.token_embedding().weight  # type: ignore[union-attr]
    trained(model, text="none")
    assert not model.mlm_head.decoder.weight.requires_grad
    assert model.mlm_head.decoder.bias.requires_grad


def test_nothing_left_to_train_is_an_error(model: X2VLM) -> None:
    none = dict.fromkeys(("vision", "text", "fusion"), "none")
    heads = dict.fromkeys(("itc", "itm", "mlm", "bbox", "temperature"), "none")
    with pytest.raises(X2KitError, match="no parameter of the model is trained"):
        trained(model, **none, heads=heads)


def test_frozen_modules_stay_in_evaluation_mode(model: X2VLM) -> None:
    model.text.drop = nn.Dropout(0.5)
    select_trained(
        model, TrainableConfig(text=PartConfig(parameters="none"), fusion=PartConfig(last_layers=1))
    )
    model.train()
    assert model.training
    assert not any(module.training for module in model.text.modules())
    assert not model.fusion.layers[0].training
    assert model.fusion.layers[1].training
    assert model.vision.training


def test_a_frozen_encoder_has_no_graph(written: Written) -> None:
    stepper = stepper_of(written, trainable={"vision": "none", "text": {"from_step": 1}})
    run(stepper, 1)
    batch = stepper.batches.batch(0)
    assert batch.images is not None
    assert not stepper.model.encode_images(batch.images).patches.requires_grad
    texts = batch.streams["images"].texts  # type: ignore[union-attr]
    assert not stepper.model.encode_texts(texts.ids, texts.mask).requires_grad  # type: ignore[union-attr]
    stepper.parts.trained.begin(stepper.model, 1)
    assert stepper.model.encode_texts(texts.ids, texts.mask).requires_grad  # type: ignore[union-attr]


def test_frozen_parameters_neither_change_nor_cost_optimiser_state(written: Written) -> None:
    messages: list[str] = []
    stepper = stepper_of(
        written, messages, trainable={"vision": "none", "heads": {"itm": "none"}}, weight_decay=0.5, warmup=0
    )
    before = weights(stepper.model)
    run(stepper, 2)
    assert changed(before, stepper.model) == set(before) - of(stepper.model, "vision", "itm")
    held = {id(parameter) for parameter in stepper.optimizer.state}
    assert not held & {
        id(one) for part in ("vision", "itm") for one in parts_of(stepper.model)[part].values()
    }
    assert any(
        "are trained; frozen: itm, vision" in line or "frozen: vision, itm" in line for line in messages
    )


@pytest.mark.parametrize("accumulation", [1, 2])
def test_freezing_equals_dropped_gradients(written: Written, accumulation: int) -> None:
    """The naive form: everything has a graph, and the gradients of the frozen parts are dropped."""
    settings = {"accumulation": accumulation, "warmup": 0, "clip_norm": None}
    frozen = stepper_of(written, **settings, trainable={"vision": "none", "text": "none"})
    naive = stepper_of(written, **settings)
    dropped = [one for part in ("vision", "text") for one in parts_of(naive.model)[part].values()]
    naive.optimizer.register_step_pre_hook(
        lambda *_: [setattr(parameter, "grad", None) for parameter in dropped] and None
    )
    for one, other in zip(run(frozen, 4), run(naive, 4), strict=True):
        one.pop("gradient_norm"), other.pop("gradient_norm")
        assert one == pytest.approx(other, rel=1e-5)
    assert_close(weights(frozen.model), weights(naive.model))


@pytest.mark.parametrize(("parts", "runs"), [({}, 4), ({"vision": "none"}, 2)])
def test_accumulation_does_not_recompute_a_frozen_encoder(
    written: Written, parts: dict[str, str], runs: int
) -> None:
    stepper = stepper_of(written, accumulation=2, trainable=parts)
    calls: list[None] = []
    stepper.model.vision.register_forward_hook(lambda *_: calls.append(None))
    run(stepper, 1)
    assert len(calls) == runs


@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_part_joins_at_its_step(written: Written, accumulation: int) -> None:
    late = {"text": {"from_step": 2}, "heads": {"itm": {"from_step": 3}}}
    stepper = stepper_of(written, trainable=late, warmup=0, accumulation=accumulation)
    text, itm = of(stepper.model, "text"), of(stepper.model, "itm")
    for step, joined in enumerate((set(), set(), text, text | itm)):
        before = weights(stepper.model)
        run(stepper, 1)
        found = changed(before, stepper.model)
        assert found & (text | itm) == joined, step
        assert found >= set(before) - text - itm
    assert len(stepper.optimizer.state) == len(before)


def test_a_part_that_joins_has_no_optimiser_state_before(written: Written) -> None:
    stepper = stepper_of(written, trainable={"fusion": {"from_step": 2}})
    run(stepper, 2)
    fusion = {id(one) for one in parts_of(stepper.model)["fusion"].values()}
    assert not fusion & {id(one) for one in stepper.optimizer.state}
    run(stepper, 1)
    assert fusion <= {id(one) for one in stepper.optimizer.state}


def test_losses_of_frozen_parts_alone_are_an_error(written: Written) -> None:
    frozen = {"vision": "none", "text": "none", "fusion": "none"}
    heads = dict.fromkeys(("itc", "itm", "mlm", "temperature"), "none")
    off = {"regions": {"weight": 0}}
    recipe = written(off, trainable={**frozen, "heads": heads}).recipe
    stepper = Stepper(recipe, assemble(recipe, silent)[0], 0)
    with pytest.raises(X2KitError, match="no loss that is on depends on a trained parameter"):
        run(stepper, 1)


def test_a_plain_recipe_is_not_touched(model: X2VLM) -> None:
    assert select_trained(model, TrainableConfig()) == TrainedParts()
    assert model.frozen == frozenset()


def test_the_description_counts_parameters(model: X2VLM) -> None:
    config = TrainableConfig(vision=PartConfig(parameters="none"), text=PartConfig(from_step=9))
    select_trained(model, config)
    whole = sum(one.numel() for one in model.parameters())
    vision = sum(one.numel() for one in model.vision.parameters())
    text = f"{whole - vision:,} of {whole:,} parameters are trained; frozen: vision; later: text from step 9"
    assert text in describe(model, config)


def test_adapters_alone_are_trained_at_the_rate_of_new_parameters(model: X2VLM) -> None:
    pytest.importorskip("peft")
    config = TrainingConfig(
        steps=1,
        lr=0.1,
        lr_mult=3,
        trainable=TrainableConfig(fusion=PartConfig(lora={"rank": 2})),  # type: ignore[arg-type]
    )
    model.fusion.fresh = set  # type: ignore[method-assign]
    select_trained(model, config.trainable)
    fusion = {
        name for name, one in model.named_parameters() if name.startswith("fusion.") and one.requires_grad
    }
    assert fusion
    assert all(".lora_A." in name or ".lora_B." in name for name in fusion)
    rates = {name: group["peak"] for group in parameter_groups(model, config) for name in group["names"]}  # type: ignore[attr-defined]
    assert [rates[name] for name in fusion] == pytest.approx([0.3] * len(fusion))
    assert build_optimizer(model, config).param_groups


def test_adapters_and_norms_together(model: X2VLM) -> None:
    pytest.importorskip("peft")
    found = trained(model, fusion={"parameters": "norms", "lora": {"rank": 2}})
    fusion = {name for name in found if name.startswith("fusion.")}
    assert any("lora_" in name for name in fusion)
    assert any("norm" in name for name in fusion)
    assert all("lora_" in name or "norm" in name for name in fusion)


def test_an_encoder_without_layers_cannot_be_adapted(model: X2VLM) -> None:
    pytest.importorskip("peft")
    with pytest.raises(X2KitError, match=r"trainable\.vision\.lora: .* declares no layers to adapt"):
        trained(model, vision={"lora": {}})


@pytest.mark.parametrize("accumulation", [1, 2])
def test_only_adapters_and_heads_change(tmp_path: Path, accumulation: int) -> None:
    pytest.importorskip("peft")
    stepper = adapted(tmp_path, accumulation=accumulation)
    before = weights(stepper.model)
    run(stepper, 3)
    fusion = {name for name in changed(before, stepper.model) if name.startswith("fusion.")}
    assert fusion == {name for name in before if ".lora_" in name}
