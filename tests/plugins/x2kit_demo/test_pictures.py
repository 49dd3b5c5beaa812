"""Images by id: uploads within a memory limit, others opened when asked for."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from x2kit_demo.pictures import Pictures, encode
from x2kit_demo.tasks import reduce_map

from .conftest import png


def test_the_least_recently_used_upload_is_dropped() -> None:
    contents = [png(seed) for seed in range(3)]
    pictures = Pictures(memory=sum(map(len, contents)) - 1)
    first, second = (pictures.upload(content)[0] for content in contents[:2])
    pictures.get(first)
    third, _ = pictures.upload(contents[2])
    with pytest.raises(KeyError):
        pictures.get(second)
    assert pictures.get(first)() == contents[0]
    assert pictures.get(third)() == contents[2]


def test_the_same_image_is_kept_once() -> None:
    pictures = Pictures(memory=2 * len(png()))
    keys = {pictures.upload(png())[0] for _ in range(5)}
    assert len(keys) == 1
    assert pictures.get(keys.pop())() == png()


def test_ids_of_another_server_are_different() -> None:
    ids = [{pictures.upload(png())[0], pictures.add("a", bytes)} for pictures in (Pictures(), Pictures())]
    assert ids[0].isdisjoint(ids[1])


def test_an_image_elsewhere_is_opened_when_it_is_asked_for(tmp_path: Path) -> None:
    pictures = Pictures()
    key = pictures.add("later", lambda: tmp_path / "later.png")
    (tmp_path / "later.png").write_bytes(png())
    assert Image.open(io.BytesIO(encode(pictures.get(key), 256))).size == (30, 20)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
def test_a_large_image_is_reduced_with_its_shape(name: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (1600, 900), "teal").save(buffer, name)
    assert Image.open(io.BytesIO(encode(buffer.getvalue, 160))).size == (160, 90)


def test_an_image_of_the_caller_is_not_changed() -> None:
    image = Image.new("RGB", (400, 300))
    encode(lambda: image, 100)
    assert image.size == (400, 300)


def test_a_map_is_averaged_over_blocks() -> None:
    heat = np.zeros((130, 65), dtype=np.float32)
    heat[0, 0] = 1
    reduced = reduce_map(heat)
    assert (len(reduced), len(reduced[0])) == (44, 22)  # blocks of 3
    assert reduced[0][0] == pytest.approx(1 / 9, abs=5e-4)
    assert reduce_map(heat[:2, :2]) == [[1, 0], [0, 0]]
