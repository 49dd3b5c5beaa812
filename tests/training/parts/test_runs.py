"""Runs with frozen and adapted parts: resumed, on several ranks, saved merged and beside."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from tests.forked import run_ranks
from tests.training.conftest import recipe_tree
from tests.training.parallel.test_distribute import alone, losses
from tests.training.test_trainer import Crash, after, crash, numbers, run
from x2kit.errors import WeightsError, X2KitError
from x2kit.evaluation.harness import describe_checkpoint
from x2kit.io.identity import sha256_of
from x2kit.model import X2VLM, load
from x2kit.recipe import read_recipe
from x2kit.recipe.reading import ResolvedRecipe

PARTS: dict[str, Any] = {
    "vision": "none",
    "text": {"from_step": 2},
    "fusion": {"parameters": "norms", "lora": {"rank": 2}},
    "heads": {"temperature": "none", "bbox": {"from_step": 3}},
}
"""Something of everything: frozen, adapted, later."""


def recipe(folder: Path, model: dict[str, Any] | None = None, rows: int = 4, **training: Any) -> Path:
    """Write the tiny recipe with a fusion encoder of two layers, without dropout."""
    tree = recipe_tree(folder)
    tree["model"]["fusion"]["init_args"] |= {"layers": 2, "dropout": 0.0}
    tree["model"] |= model or {}
    for stream in tree["data"]["streams"].values():
        stream["batch_size"] = rows
    tree["training"] |= {"trainable": PARTS, "steps": 4, "warmup": 0, **training}
    file = folder / f"parts{len(list(folder.glob('parts*')))}.yaml"
    file.write_text(yaml.safe_dump(tree))
    return file


def resolved(folder: Path, **settings: Any) -> ResolvedRecipe:
    return read_recipe([recipe(folder, **settings)])


def loaded(weights: Path) -> X2VLM:
    return load(weights, trust_plugins=True)


def outputs(model: X2VLM) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        features = model.encode_images(torch.rand(2, 3, 16, 16, generator=generator))
        ids = torch.randint(5, 12, (2, 6), generator=generator)
        mask = torch.ones_like(ids, dtype=torch.bool)
        context = model.prepare_images(features)._replace(rows=torch.arange(2))
        fused = model.fuse(model.encode_texts(ids, mask), mask, context)
        return [features.summary, fused, model.itm_logits(fused)]


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before and after the parts that join: the checkpoint is of step 2, the crash after step 3."""
    pytest.importorskip("peft")
    plain = run(resolved(tmp_path), tmp_path / "plain")
    with monkeypatch.context() as patch:
        after(patch, 3, crash)
        with pytest.raises(Crash):
            run(resolved(tmp_path), tmp_path / "run")
    assert run(resolved(tmp_path), tmp_path / "run", resume=True) == plain
    assert numbers(tmp_path / "run") == numbers(tmp_path / "plain")


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose adapters are beside its weights."""
    pytest.importorskip("peft")
    folder = tmp_path_factory.mktemp("beside")
    run(resolved(folder, lora_at_save="beside"), folder / "run")
    return folder / "run"


def test_adapters_merged_equal_adapters_beside(tmp_path: Path, beside: Path) -> None:
    run(resolved(tmp_path), tmp_path / "merged")
    folders = tmp_path / "merged" / "weights", beside / "weights"
    assert [(folder / "lora.safetensors").exists() for folder in folders] == [False, True]
    merged, other = map(loaded, folders)
    assert list(merged.state_dict()) == list(other.state_dict())
    for left, right in zip(outputs(merged), outputs(other), strict=True):
        assert_close(left, right, rtol=1e-5, atol=1e-5)
    apart = load_file(beside / "weights" / "model.safetensors")
    matrix = "fusion.layers.0.intermediate.weight"
    assert not torch.equal(merged.get_parameter(matrix), apart[matrix])
    with safe_open(beside / "weights" / "lora.safetensors", "pt") as file:
        assert "fusion.layers.0.intermediate.lora_A.weight" in file.keys()  # noqa: SIM118


def test_a_run_starts_from_adapters_beside(tmp_path: Path, beside: Path) -> None:
    start = {"init_from": str(beside)}
    run(resolved(tmp_path, model=start, trainable={}, steps=0), tmp_path / "second")
    for one, other in zip(outputs(loaded(beside)), outputs(loaded(tmp_path / "second")), strict=True):
        assert torch.equal(one, other)


def test_adapters_beside_need_peft(beside: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(X2KitError, match=r'need another package .*: pip install "x2kit\[peft\]"'):
        loaded(beside)


def test_weights_are_identified_by_the_adapters(beside: Path) -> None:
    """Two runs may have the same matrices; the file of adapters has the hash of these."""
    described = describe_checkpoint(beside / "weights")
    assert described["path"].endswith("lora.safetensors")
    with safe_open(beside / "weights" / "lora.safetensors", "pt") as file:
        assert file.metadata()["x2kit.model.sha256"] == sha256_of(beside / "weights" / "model.safetensors")


@pytest.mark.parametrize("broken", ["missing", "other layer", "not a file of adapters"])
def test_damaged_adapters_are_refused(tmp_path: Path, beside: Path, broken: str) -> None:
    shutil.copytree(beside / "weights", tmp_path / "weights")
    file = tmp_path / "weights" / "lora.safetensors"
    with safe_open(file, "pt") as stream:
        facts = stream.metadata()
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("lora_B.weight"))
    value = tensors.pop(name)
    if broken == "other layer":
        tensors["fusion.layers.9.lora_A.weight"] = value
    save_file(tensors, file, facts if broken != "not a file of adapters" else None)
    with pytest.raises(WeightsError, match=r"lora\.safetensors: "):
        loaded(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    "settings", [{}, {"accumulation": 2}, {"distribution": "fsdp"}], ids=["ddp", "parts", "fsdp"]
)
def test_two_ranks_have_the_losses_of_one(tmp_path: Path, settings: dict[str, Any]) -> None:
    """Frozen parts are whole on every rank; adapters and parts that join later are averaged or sharded."""
    pytest.importorskip("peft")
    file = recipe(tmp_path, rows=8, lr=0.001, **settings)
    expected = alone(file, tmp_path / "one")
    done = run_ranks(2, "train", file, "--run-dir", tmp_path / "two")
    assert done.returncode == 0, done.stderr
    for one, other in zip(expected, losses(tmp_path / "two"), strict=True):
        assert other == pytest.approx(one, abs=1e-5, rel=1e-5)
    one, two = (outputs(loaded(tmp_path / name)) for name in ("one", "two"))
    for left, right in zip(one, two, strict=True):
        assert_close(left, right, rtol=1e-4, atol=1e-4)
