"""Embeddings equal those of the plain form, whatever batches, threads, devices and repetitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from tests.model.conftest import build
from x2kit.errors import DataError, HeadError
from x2kit.inference import Embeddings, Model
from x2kit.inference.embedding import concatenate
from x2kit.model.x2vlm import X2VLM

from .conftest import TEXTS, picture

CLOSE: dict[str, Any] = {"rtol": 0, "atol": 1e-6}


def expected_images(model: X2VLM, images: list[Any]) -> np.ndarray:
    """One image at a time."""
    with torch.inference_mode():
        rows = [model.project_images(model.encode_images(model.read(image)).summary) for image in images]
    return torch.cat(rows).numpy()


def expected_texts(model: X2VLM, texts: list[str]) -> np.ndarray:
    """One text at a time."""
    with torch.inference_mode():
        return torch.cat(
            [model.project_texts(model.encode_texts(*model.tokenize(text))) for text in texts]
        ).numpy()


@pytest.mark.parametrize(
    ("batch_size", "workers", "devices"), [(64, None, None), (2, 0, ["cpu"]), (1, 3, ["cpu"] * 3)]
)
def test_images_equal_those_encoded_one_by_one(
    user: Model, files: list[Path], batch_size: int, workers: int | None, devices: list[str] | None
) -> None:
    found = user.embed_images(files, batch_size=batch_size, workers=workers, devices=devices)
    assert_allclose(found, expected_images(user.module, files), **CLOSE)
    assert found.names == [str(file) for file in files]
    assert_allclose(np.linalg.norm(found, axis=1), 1, **CLOSE)


def test_a_broken_image_is_a_named_gap(user: Model, files: list[Path]) -> None:
    found = user.embed_images([files[0], "absent.png", files[1]], batch_size=2)
    assert [(error.index, error.name) for error in found.errors] == [(1, "absent.png")]
    assert np.isnan(found.vectors[1]).all()
    assert_allclose(found.vectors[[0, 2]], expected_images(user.module, files[:2]), **CLOSE)


def test_a_stream_yields_batches_in_order(user: Model, files: list[Path]) -> None:
    parts = list(user.stream_images(iter(files), batch_size=2))
    assert [part.names for part in parts] == [[str(file) for file in files[i : i + 2]] for i in (0, 2, 4)]
    assert_allclose(concatenate(parts, user.dim, "float32"), user.embed_images(files), **CLOSE)


def test_images_and_videos_are_embedded_together(filming: Model, files: list[Path]) -> None:
    video = [picture(1), picture(2)]
    found = filming.embed_images([files[0], video, files[1]], batch_size=2)
    module = filming.module
    with torch.inference_mode():
        features = module.encode_video(module.read(video)[None])
        assert_allclose(found.vectors[1], module.project_images(features.summary)[0], **CLOSE)
    assert_allclose(found.vectors[[0, 2]], expected_images(module, files[:2]), **CLOSE)


def test_texts_equal_those_encoded_one_by_one(user: Model) -> None:
    texts = [*TEXTS, "a", TEXTS[0], "a red dog!"]
    found = user.embed_texts(texts, batch_size=2)
    assert_allclose(found, expected_texts(user.module, texts), **CLOSE)
    assert found.names == texts


def test_equal_texts_are_encoded_once_in_batches_of_similar_length(
    user: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []
    encode = X2VLM.encode_texts

    def counted(self: X2VLM, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(ids.shape))
        return encode(self, ids, mask)

    monkeypatch.setattr(X2VLM, "encode_texts", counted)
    user.embed_texts(
        ["the sun and the moon", "a dog", "a cat", "A dog!", "the moon and the sun"] * 3, batch_size=2
    )
    assert shapes == [(2, 4), (2, 7)]


def test_a_text_without_words_is_a_named_gap(user: Model) -> None:
    found = user.embed_texts(["a dog", "...", "a cat"])
    assert [(error.index, error.name) for error in found.errors] == [(1, "...")]
    assert np.isnan(found.vectors[1]).all()
    assert not np.isnan(found.vectors[[0, 2]]).any()


def test_vectors_may_have_16_bits(user: Model, files: list[Path]) -> None:
    for found in (user.embed_images(files, dtype="float16"), user.embed_texts(TEXTS, dtype="float16")):
        assert found.vectors.dtype == np.float16


def test_no_inputs_give_no_rows(user: Model) -> None:
    assert user.embed_images([]).vectors.shape == user.embed_texts([]).vectors.shape == (0, user.dim)
    assert list(user.stream_images([])) == []


def test_regions_equal_those_of_the_model(user: Model) -> None:
    found = user.embed_regions(picture(0, (40, 20)), [(0, 0, 40, 20), (20, 0, 10, 10)])
    module = user.module
    with torch.inference_mode():
        features = module.encode_images(module.read(picture(0, (40, 20))))
        bbox = torch.tensor([[0.5, 0.5, 1, 1], [0.625, 0.25, 0.25, 0.5]])
        summary, _ = module.encode_regions(features, torch.zeros(2, dtype=torch.int64), bbox)
        assert_allclose(found, module.project_images(summary), **CLOSE)
    with pytest.raises(DataError, match="lies outside its image"):
        user.embed_regions(picture(0), [(0, 0, 400, 20)])
    with pytest.raises(DataError, match=r"absent\.png"):
        user.embed_regions("absent.png", [(0, 0, 1, 1)])


def test_progress_counts_inputs(user: Model, files: list[Path]) -> None:
    seen: list[tuple[int, int | None]] = []
    user.embed_images(files, batch_size=2, progress=lambda *numbers: seen.append(numbers))
    user.embed_images(iter(files), progress=lambda *numbers: seen.append(numbers))
    user.embed_texts([*TEXTS, *TEXTS], progress=lambda *numbers: seen.append(numbers))
    assert seen == [(2, 5), (4, 5), (5, 5), (5, None), (3, 3)]


def test_nothing_is_printed_unless_standard_error_is_a_terminal(
    user: Model, files: list[Path], capfd: pytest.CaptureFixture[str]
) -> None:
    user.embed_images(files)
    assert capfd.readouterr() == ("", "")


def test_a_model_without_contrastive_head_refuses(files: list[Path]) -> None:
    model = Model(build(built=("itm", "bbox")), "matching only")
    with pytest.raises(HeadError, match="itc"):
        model.embed_images(files)


def test_an_exception_of_the_model_reaches_the_caller(
    user: Model, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: X2VLM, images: torch.Tensor) -> None:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(X2VLM, "encode_images", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        user.embed_images(files)


def test_embeddings_are_arrays() -> None:
    found = Embeddings(np.eye(2, dtype=np.float32), ["a", "b"])
    assert (np.asarray(found) == np.eye(2)).all()
    assert len(found) == 2


def test_a_text_without_words_has_a_vector_on_request(user: Model) -> None:
    found = user.embed_texts(["a red dog", "...", "", "a tree"], allow_empty=True)
    assert found.errors == []
    with torch.inference_mode():
        ids = torch.tensor(user.module.tokenizer.encode([""], 40))
        alone = user.module.project_texts(
            user.module.encode_texts(ids, torch.ones_like(ids, dtype=torch.bool))
        )
    assert_allclose(found.vectors[1:3], alone.numpy().repeat(2, 0), **CLOSE)
    assert_allclose(found.vectors[[0, 3]], user.embed_texts(["a red dog", "a tree"]).vectors, **CLOSE)


def test_a_text_that_no_tokenizer_reads_stays_an_error(user: Model) -> None:
    found = user.embed_texts(["a red dog", "\ud800"], allow_empty=True)
    assert [(error.index, "surrogate" in error.message) for error in found.errors] == [(1, True)]
