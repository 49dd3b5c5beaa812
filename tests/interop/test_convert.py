"""Conversion of models, beside what the command line's tests and tests/parity/test_checkpoints.py say of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from tests.interop import made
from x2kit.errors import WeightsError
from x2kit.interop.convert import FACTS, KEPT, from_official, to_official
from x2kit.model import load, save_weights
from x2kit.plugin.registry import Registry


@pytest.fixture
def weights(tmp_path: Path, tensors: dict[str, Tensor], registry: Registry) -> Path:
    """The small checkpoint, converted."""
    from_official(made.write(tensors, tmp_path / "small.th"), tmp_path / "weights", registry)
    return tmp_path / "weights"


def test_keys_and_values_lie_above_each_other(weights: Path, tensors: dict[str, Tensor]) -> None:
    state = load(weights).state_dict()
    prefix = "text_encoder.bert.encoder.layer."
    first = min(
        int(name.removeprefix(prefix).split(".")[0]) for name in tensors if ".crossattention." in name
    )
    for own, official in (("self_attention", "attention"), ("cross_attention", "crossattention")):
        names = [
            name
            for name in state
            if name.startswith("fusion.layers.0.") and name.endswith("key_value.weight")
        ]
        parts = [tensors[f"{prefix}{first}.{official}.self.{kind}.weight"] for kind in ("key", "value")]
        found = [name for name in names if torch.equal(state[name], torch.cat(parts))]
        assert len(found) == 1, (own, names)


def test_weights_of_ones_own_take_the_layout_that_fits(weights: Path, tensors: dict[str, Tensor]) -> None:
    """Without the notes of a checkpoint: parameters as before, buffers as the settings give them."""
    (weights / FACTS).unlink()
    (weights / KEPT).unlink()
    layout = to_official(weights, weights / "own.th")
    assert layout.stacked
    found = torch.load(weights / "own.th", weights_only=True)["model"]
    assert set(found) == set(tensors)
    buffers = {name for name in tensors if name.endswith("position_ids")}
    assert all(torch.equal(found[name], value) for name, value in tensors.items() if name not in buffers)
    assert all(torch.equal(found[name], torch.arange(found[name].shape[-1])[None]) for name in buffers)


def test_a_changed_parameter_goes_back_changed(weights: Path, tensors: dict[str, Tensor]) -> None:
    """The notes keep what a model has no place for, and nothing else: training between the two ways counts."""
    assert set(load_file(weights / KEPT)) == {name for name in tensors if name.endswith("position_ids")}
    model = load(weights)
    model.temperature.data.fill_(0.125)
    save_weights(model, (weights / "recipe.yaml").read_text(), weights)
    to_official(weights, weights / "back.th")
    assert torch.load(weights / "back.th", weights_only=True)["model"]["temp"] == 0.125


def test_damaged_notes_are_named(weights: Path) -> None:
    (weights / FACTS).write_text("{")
    with pytest.raises(WeightsError, match=r"official\.json: damaged"):
        to_official(weights, weights / "back.th")


def test_a_twin_that_differs_is_kept_and_comes_back(
    tmp_path: Path, tensors: dict[str, Tensor], registry: Registry
) -> None:
    """The official code reads the decoder's bias last, so that is the model's."""
    twin = "text_encoder.cls.predictions.bias"
    tensors[twin] = tensors[twin] + 1
    found = from_official(made.write(tensors, tmp_path / "small.th"), tmp_path / "weights", registry)
    assert found.account.rows[twin][0] == "kept"
    bias = load(tmp_path / "weights").state_dict()["mlm_head.decoder.bias"]
    assert torch.equal(bias, tensors["text_encoder.cls.predictions.decoder.bias"])
    to_official(tmp_path / "weights", tmp_path / "back.th")
    assert torch.equal(torch.load(tmp_path / "back.th", weights_only=True)["model"][twin], tensors[twin])


def test_a_head_that_is_not_tied_stays_so(
    tmp_path: Path, tensors: dict[str, Tensor], registry: Registry
) -> None:
    decoder = "text_encoder.cls.predictions.decoder.weight"
    tensors[decoder] = tensors[decoder] + 1
    found = from_official(made.write(tensors, tmp_path / "small.th"), tmp_path / "weights", registry)
    assert not found.config.heads.tie_mlm
    to_official(tmp_path / "weights", tmp_path / "back.th")
    back = torch.load(tmp_path / "back.th", weights_only=True)["model"]
    assert all(torch.equal(back[name], value) for name, value in tensors.items())


@pytest.mark.parametrize(("buffer", "factor"), [("relative_position_index", 0.5), ("attn_mask", 2)])
def test_tables_of_the_old_image_size_do_not_come_back(
    buffer: str, factor: float, tmp_path: Path, registry: Registry
) -> None:
    """A model brought to another size is written with the index tables of that size."""
    sizes = {name: made.index()[name]["config"]["image_res"] for name in made.inventories()}
    named = [made.inventory(name) for name in sizes]
    fitting = (it for it in named if any(name.endswith(buffer) for name in it.buffers))
    inventory = min(fitting, key=lambda it: (sizes[it.name], len(it.shapes)))
    source = made.write(made.tensors_of(inventory.scaled()), tmp_path / "a.th")
    found = from_official(
        source, tmp_path / "larger", registry, image_size=int(factor * sizes[inventory.name])
    )
    assert not [name for name in found.account.of("kept") if name.endswith(buffer)]
    assert found.account.of("resized")
    to_official(tmp_path / "larger", tmp_path / "larger.th")
    again = from_official(tmp_path / "larger.th", tmp_path / "again", registry)
    assert again.config.vision == found.config.vision
    assert [name for name in again.account.of("derived") if name.endswith(buffer)]
