"""Facts of a loaded model, and its use from several threads."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from time import sleep
from typing import Any

import numpy as np
import pytest
import yaml

from tests.model.conftest import build
from x2kit.errors import HeadError, X2KitError
from x2kit.inference import Model

from .conftest import TEXTS


def test_parts_are_those_of_the_heads(user: Model, filming: Model) -> None:
    assert [part for part in ("itc", "itm", "bbox", "mlm", "frames", "decoder") if user.has(part)] == [
        *("itc", "itm", "bbox", "mlm"),
    ]
    assert filming.has("frames")
    assert not user.has("colour")
    user.require_part("itm")
    with pytest.raises(HeadError, match="no decoder"):
        user.require_part("decoder")


def test_it_says_what_it_is(user: Model) -> None:
    assert repr(user) == "Model('tiny', cpu, fp32, parts: itc, itm, bbox, mlm)"
    assert (user.dim, user.device.type) == (6, "cpu")


def test_a_model_in_memory_has_no_fingerprint(user: Model) -> None:
    with pytest.raises(X2KitError, match="tiny: a model in memory"):
        _ = user.fingerprint


def test_languages_are_those_measured_and_those_of_the_recipe(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    model = Model(build(), "x", tmp_path / "weights" / "model.safetensors")
    recipe = {"data": {"streams": {"pairs": {"languages": ["en"]}, "all": {"languages": None}}}}
    (tmp_path / "weights" / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "evaluation.json").write_text(json.dumps({"languages": {"de": {}, "en": {}}}))
    assert model.languages == ("de", "en")


def test_a_published_folder_holds_its_results_beside_the_weights(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("model: {}\n")
    (tmp_path / "evaluation.json").write_text(json.dumps({"languages": {"fr": {}}}))
    assert Model(build(), "tiny", tmp_path / "model.safetensors").languages == ("fr",)


def test_precision_changes_digits_only(user: Model, files: list[Path]) -> None:
    half = Model(user.module, "tiny", precision="bf16")
    found, expected = half.similarity(files, TEXTS), user.similarity(files, TEXTS)
    assert found.dtype == np.float32
    assert not np.array_equal(found, expected)
    assert np.allclose(found, expected, atol=0.03)


def test_a_device_gets_one_copy(user: Model) -> None:
    assert user.replicas(None) == [user.module]
    first, second = user.replicas(["meta", "meta"])
    assert first is second is not user.module
    assert first.device.type == "meta"
    with pytest.raises(X2KitError, match=r'^devices: "abacus"'):
        user.replicas(["abacus"])


def test_threads_get_the_answers_that_they_get_alone(user: Model, files: list[Path]) -> None:
    def ask(number: int) -> tuple[Any, ...]:
        image = files[number % len(files)]
        return (
            user.embed_images(files, batch_size=2).vectors.tolist(),
            user.embed_texts(TEXTS).vectors.tolist(),
            user.match(image, TEXTS),
            user.rank(files, TEXTS, rerank=2),
            user.classify(image, ["dog", "cat"]),
        )

    expected = [ask(number) for number in range(len(files))]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(20)))
    assert found == [expected[number % len(files)] for number in range(20)]


def test_a_tokenizer_is_called_by_one_thread_at_a_time(user: Model, files: list[Path]) -> None:
    """As fast tokenizers of Hugging Face require, which raise "Already borrowed"."""
    tokenizer, borrowed = user.module.tokenizer, Lock()
    encode = tokenizer.encode

    def exclusive(texts: Sequence[str], max_length: int) -> list[list[int]]:
        assert borrowed.acquire(blocking=False), "Already borrowed"
        try:
            sleep(0.001)
            return encode(texts, max_length)
        finally:
            borrowed.release()

    tokenizer.encode = exclusive  # type: ignore[method-assign]
    with ThreadPoolExecutor(8) as pool:
        embedded = pool.map(lambda number: user.embed_texts(TEXTS), range(10))
        matched = pool.map(lambda number: user.match(files[0], TEXTS), range(10))
        assert len(list(embedded)) == len(list(matched)) == 10


def test_nothing_requires_gradients_and_the_model_is_unchanged(user: Model, files: list[Path]) -> None:
    before = {name: value.clone() for name, value in user.module.state_dict().items()}
    user.match(files[0], TEXTS)
    assert all(value.equal(before[name]) for name, value in user.module.state_dict().items())
    assert all(parameter.grad is None for parameter in user.module.parameters())
