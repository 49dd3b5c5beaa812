"""One string names a model everywhere; no network, and no code that weights name."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from numpy.testing import assert_allclose
from transformers import BertTokenizerFast

import x2kit
from tests.interop.made import CONFIG, inventory, tensors_of, write
from tests.model import tiny
from tests.model.conftest import RECIPE, build
from x2kit.errors import PluginError, WeightsError, X2KitError
from x2kit.inference import Model
from x2kit.model import save_weights

from .conftest import TEXTS


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    save_weights(build(), RECIPE, tmp_path / "run" / "weights")
    return tmp_path / "run" / "weights"


def test_a_run_and_its_weights_give_one_model(weights: Path, files: list[Path]) -> None:
    run, own = x2kit.load(weights.parent, "cpu"), x2kit.load(str(weights))
    assert isinstance(run, Model)
    assert not run.module.training
    assert (run.name, own.name) == (str(weights.parent), str(weights))
    assert run.fingerprint == own.fingerprint
    assert_allclose(
        run.similarity(files, TEXTS), Model(build(), "x").similarity(files, TEXTS), rtol=0, atol=1e-6
    )


def test_other_weights_have_another_fingerprint(weights: Path, tmp_path: Path) -> None:
    other = build()
    torch.nn.init.zeros_(other.vision_proj.bias)
    save_weights(other, RECIPE, tmp_path / "other")
    assert x2kit.load(weights).fingerprint != x2kit.load(tmp_path / "other").fingerprint


def test_names_without_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such directory"):
        x2kit.load(tmp_path / "absent")
    with pytest.raises(WeightsError, match="no weights; expected"):
        x2kit.load(tmp_path)
    (tmp_path / "notes.txt").write_text("no weights")
    with pytest.raises(WeightsError, match="notes"):
        x2kit.load(tmp_path / "notes.txt", tokenizer="x")


def test_device_and_precision_are_checked_by_their_names(weights: Path) -> None:
    with pytest.raises(X2KitError, match=r'^device: "abacus" is not available'):
        x2kit.load(weights, "abacus")
    assert x2kit.load(weights, precision="bf16").precision == "bf16"


def test_code_that_weights_name_is_not_imported(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = weights / "plugins" / "tiny.py"
    copy.write_text(copy.read_text() + "\nraise RuntimeError('was imported')\n")
    with pytest.raises(PluginError, match=r"x2kit\.load\(…, trust_plugins=True\)"):
        x2kit.load(weights)
    assert x2kit.load(weights, plugins=[tiny.__file__]).dim == 6
    with pytest.raises(PluginError, match="was imported"):
        x2kit.load(weights, trust_plugins=True)


# An official checkpoint.


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A narrow checkpoint, and `words/`, a tokenizer of its size."""
    tensors = tensors_of(inventory("xvlm1_clipvit_pretrain_base_224").scaled())
    (rows,) = (len(value) for name, value in tensors.items() if name.endswith("word_embeddings.weight"))
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    vocab = {word: id_ for id_, word in enumerate([*special, *(f"word{n}" for n in range(rows - 5))])}
    BertTokenizerFast(vocab=vocab).save_pretrained(tmp_path / "words")
    return write(tensors, tmp_path / "xvlm.th", config=CONFIG)


def test_an_official_checkpoint_is_loaded_with_its_tokenizer(official: Path, files: list[Path]) -> None:
    model = x2kit.load(official, tokenizer=str(official.parent / "words"))
    assert model.name == str(official)
    assert model.fingerprint == hashlib.sha256(official.read_bytes()).hexdigest()
    (found,) = model.match(files[0], "word3 word4")
    assert 0 < found.probability < 1


def test_an_official_checkpoint_without_a_tokenizer_says_what_it_needs(official: Path) -> None:
    with pytest.raises(
        WeightsError, match=r"xvlm\.th: official checkpoints have no tokenizer; pass tokenizer="
    ):
        x2kit.load(official)


# The Hub, from a filled cache.


@pytest.fixture
def cached(weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A revision in the layout of Hugging Face's cache, and nothing else reachable."""
    from huggingface_hub import constants

    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "hub" / "models--acme--scenes"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    weights.rename(repository / "snapshots" / commit)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return commit


@pytest.mark.parametrize("revision", ["", "@main", "@{commit}"])
def test_a_cached_repository_is_loaded_offline(cached: str, revision: str, files: list[Path]) -> None:
    name = "hf-hub:acme/scenes" + revision.replace("{commit}", cached)
    model = x2kit.load(name, plugins=[tiny.__file__])
    assert model.name == name
    assert model.embed_images(files).vectors.shape == (5, 6)


def test_an_uncached_repository_is_named(cached: str) -> None:
    with pytest.raises(
        WeightsError, match=r"^hf-hub:acme/other: not in the cache, and the Hub cannot be reached"
    ):
        x2kit.load("hf-hub:acme/other")


def test_a_name_that_the_hub_does_not_allow_is_refused(cached: str) -> None:
    with pytest.raises(WeightsError, match=r"^hf-hub:a/b/c: "):
        x2kit.load("hf-hub:a/b/c")
