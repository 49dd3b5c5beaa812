"""Images and videos in every form, decoded ahead and in order, broken ones named."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from time import sleep
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch.testing import assert_close
from torchvision.transforms.v2 import functional as F

from x2kit.errors import DataError
from x2kit.inference import Model, inputs
from x2kit.inference.inputs import Decoded, Reader, is_video
from x2kit.inference.one_image import Picture

from .conftest import picture

SIDE = 16


@pytest.fixture
def reader(user: Model) -> Reader:
    return user.reader


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_inputs_keep_their_order_and_names(reader: Reader, files: list[Path], workers: int) -> None:
    given = [files[3], str(files[0]), picture(9), "absent.png", files[1].read_bytes()]
    found = list(reader.read(given, workers))
    assert [each.index for each in found] == [0, 1, 2, 3, 4]
    assert [each.name for each in found] == [
        str(files[3]),
        str(files[0]),
        "images[2]",
        "absent.png",
        "images[4]",
    ]
    assert [each.decoded is None for each in found] == [False, False, False, True, False]
    assert found[0].decoded is not None
    assert found[0].decoded.size == (30, 20)


@pytest.mark.parametrize(
    "form",
    [
        str,
        lambda file: file.read_bytes(),
        Image.open,
        lambda file: np.asarray(Image.open(file)),
        lambda file: F.pil_to_tensor(Image.open(file)),
        lambda file: F.to_dtype(F.pil_to_tensor(Image.open(file)), torch.float32, scale=True),
    ],
    ids=["str", "bytes", "PIL", "array", "uint8", "float"],
)
def test_every_form_of_an_image_is_decoded_as_its_file(
    user: Model, files: list[Path], form: Callable[[Path], Any]
) -> None:
    _, found = user.reader.read_one(form(files[0]))
    assert_close(found.tensor(), user.module.read(files[0])[0], rtol=0, atol=0)


def test_a_photo_stored_sideways_is_seen_and_drawn_upright(user: Model, tmp_path: Path) -> None:
    upright = picture(3)
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "phone.png", exif=exif)
    _, found = user.reader.read_one(tmp_path / "phone.png")
    assert found.size == upright.size
    assert np.array_equal(found.pixels, user.reader.read_one(upright)[1].pixels)
    assert Picture(tmp_path / "phone.png", user.reader.spec).open().size == upright.size


def test_an_iterator_is_read_no_further_than_needed(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inputs, "AHEAD", 4)
    taken = []

    def endless() -> Iterator[Image.Image]:
        while True:
            taken.append(len(taken))
            yield picture(len(taken))

    stream = reader.read(endless(), workers=2)
    for _ in range(3):
        next(stream)
    assert len(taken) == 6
    stream.close()  # type: ignore[attr-defined]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("x2kit-decode")]


def test_a_broken_input_is_refused_with_its_name(reader: Reader, tmp_path: Path) -> None:
    (tmp_path / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(DataError, match=r"cut\.png: not a readable image"):
        reader.read_one(tmp_path / "cut.png")
    with pytest.raises(DataError, match=r"images\[0\]: .* found int"):
        reader.read_one(3)


def test_something_that_is_neither_an_image_nor_several_is_refused(reader: Reader) -> None:
    with pytest.raises(DataError, match="found int"):
        reader.read(3)


def test_videos_are_files_lists_of_frames_and_arrays() -> None:
    assert all(map(is_video, ["a.mp4", Path("b.WEBM"), "s3://bucket/c.mov", "frames.json", [picture(0)]]))
    assert is_video(np.zeros((2, 4, 4, 3), np.uint8))
    assert not any(map(is_video, ["a.png", "b", b"mp4", picture(0), np.zeros((4, 4, 3), np.uint8)]))


def test_frames_are_those_of_evaluation(filming: Model) -> None:
    frames = [picture(seed) for seed in range(4)]
    _, found = filming.reader.read_one(frames)
    expected = filming.module.read([frames[0], frames[2]])
    assert found.frames == 2
    assert_close(found.tensor(), expected, rtol=0, atol=0)


def test_frames_may_be_arrays_or_tensors(filming: Model) -> None:
    frames = np.stack([np.asarray(picture(seed)) for seed in range(4)])
    _, expected = filming.reader.read_one([picture(seed) for seed in range(4)])
    for given in (frames, list(frames), torch.from_numpy(frames).permute(0, 3, 1, 2)):
        assert np.array_equal(filming.reader.read_one(given)[1].pixels, expected.pixels)


def test_a_model_without_frame_positions_names_what_a_video_needs(user: Model) -> None:
    with pytest.raises(DataError, match=r"images\[0\]: a video, .*model\.heads\.frames"):
        user.reader.read_one([picture(0), picture(1)])


def test_numbers_with_a_value_range_stay_float() -> None:
    pixels = np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(SIDE, SIDE, 1)
    assert_close(Decoded(pixels, (SIDE, SIDE)).tensor(), torch.from_numpy(pixels).permute(2, 0, 1))


def test_threads_leave_the_filters_of_warnings_as_they_were(
    reader: Reader, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers are read under a filter for large images, and all threads share the filters."""
    plain = Image.open

    def slow(*arguments: Any, **named: Any) -> Image.Image:
        sleep(0.001)  # other threads run
        return plain(*arguments, **named)

    monkeypatch.setattr(Image, "open", slow)
    before = list(warnings.filters)
    list(reader.read(files * 4, workers=8))
    assert warnings.filters == before


def test_an_image_above_the_pixel_limit_is_refused_in_threads(
    reader: Reader, files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 400)  # the files have 600
    found = list(reader.read(files * 20, workers=8))
    assert all(each.error and "more than 400 pixels" in each.error.message for each in found)
