"""One image or text, several, or none, in every form that users of other libraries pass."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as F

from x2kit.errors import DataError
from x2kit.model import X2VLM


def test_a_single_text_is_one_text(model: X2VLM) -> None:
    assert_close(model.tokenize("the sun")[0], model.tokenize(["the sun"])[0])


@pytest.mark.parametrize(
    "form",
    [
        str,
        Path,
        lambda file: file.read_bytes(),
        lambda file: bytearray(file.read_bytes()),
        Image.open,
        lambda file: np.asarray(Image.open(file)),
        lambda file: F.pil_to_tensor(Image.open(file)),
        lambda file: F.to_dtype(F.pil_to_tensor(Image.open(file)), torch.float32, scale=True),
        lambda file: F.to_dtype(F.pil_to_tensor(Image.open(file)), torch.float32, scale=True)[None],
        lambda file: np.asarray(Image.open(file))[None],
        lambda file: (path for path in [file]),
        lambda file: np.array([str(file)]),
    ],
    ids=[
        "str",
        "Path",
        "bytes",
        "bytearray",
        "PIL",
        "array",
        "uint8",
        "float",
        "batch",
        "arrays",
        "iterator",
        "str_",
    ],
)
def test_a_single_image_in_any_form_is_one_image(
    model: X2VLM, tmp_path: Path, form: Callable[[Path], Any]
) -> None:
    rng = np.random.default_rng(0)
    file = tmp_path / "image.png"
    Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).save(file)
    assert_close(model.read(form(file)), model.read([file]), rtol=0, atol=0)


def test_a_batch_of_tensors_is_as_many_images(model: X2VLM) -> None:
    batch = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    assert_close(model.read(batch), batch, rtol=0, atol=0.5 / 255)
    assert_close(model.read(list(batch)), model.read(batch), rtol=0, atol=0)


def test_no_images_or_no_texts_give_empty_tensors(model: X2VLM) -> None:
    assert model.read([]).shape == (0, 3, 16, 16)
    assert [tuple(found.shape) for found in model.tokenize([])] == [(0, 0), (0, 0)]


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (None, "NoneType"),
        (b"the sun", "bytes"),
        ({"en": "the sun"}, "dict"),
        (["the sun", 3], r"texts\[1\].* int"),
        ([["the sun"]], r"texts\[0\].* list"),
    ],
)
def test_other_types_than_texts_are_refused(model: X2VLM, texts: Any, found: str) -> None:
    with pytest.raises(DataError, match=found):
        model.tokenize(texts)


@pytest.mark.parametrize(
    ("images", "found"), [(None, "NoneType"), (3, "int"), ([3], "int"), ({"a": 1}, "dict")]
)
def test_other_types_than_images_are_refused(model: X2VLM, images: Any, found: str) -> None:
    with pytest.raises(DataError, match=found):
        model.read(images)


def test_a_normalised_tensor_is_refused_with_its_range(model: X2VLM) -> None:
    with pytest.raises(DataError, match=r"\[0, 1\], found -2 to 0.5"):
        model.read(torch.tensor([-2.0, 0.0, 0.5])[:, None, None].expand(3, 16, 16))
