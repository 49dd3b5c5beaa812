"""Images that are arrays of numbers: which are read, how they become [0, 1], and what is refused before reading."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from x2kit.data.media import pixel_arrays
from x2kit.data.media.images import ImageLike, decode
from x2kit.data.media.pixel_arrays import to_unit
from x2kit.errors import DataError, Reason

DEEP = (0.0, 65535.0)


def numbers(*shape: int, dtype: Any = np.uint16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60000, shape).astype(dtype)


def npy(array: np.ndarray) -> bytes:
    packed = io.BytesIO()
    np.save(packed, array)
    return packed.getvalue()


def tiff(array: np.ndarray, **options: Any) -> bytes:
    packed = io.BytesIO()
    tifffile.imwrite(packed, array, **options)
    return packed.getvalue()


def deep_png(array: np.ndarray) -> bytes:
    packed = io.BytesIO()
    Image.fromarray(array).save(packed, "PNG")
    return packed.getvalue()


def refused(image: Any, *encoder: Any) -> tuple[Reason, str]:
    with pytest.raises(DataError) as found:
        decode(image, *encoder)
    return found.value.reason, str(found.value)


@pytest.mark.parametrize("written", [npy, tiff, deep_png, Image.fromarray, lambda array: array])
def test_one_channel_of_sixteen_bits_is_read_whole(written: Any) -> None:
    array = numbers(10, 20)
    image = ImageLike(written(array), 1, DEEP)
    assert image.size == (20, 10)
    assert np.array_equal(image.load()[..., 0], array)


@pytest.mark.parametrize("ending", [".npy", ".tif", ".png"])
def test_paths_and_bytes_are_read_alike(ending: str, tmp_path: Path) -> None:
    array = numbers(10, 20)
    content = {".npy": npy, ".tif": tiff, ".png": deep_png}[ending](array)
    file = tmp_path / f"image{ending}"
    file.write_bytes(content)
    assert np.array_equal(decode(str(file), 1, DEEP), decode(content, 1, DEEP))


@pytest.mark.parametrize("dtype", [np.uint16, np.int16, np.uint32, np.float32, np.float64, ">u2"])
@pytest.mark.parametrize("written", [npy, tiff])
def test_bands_are_found_on_the_last_axis_or_the_first(written: Any, dtype: Any) -> None:
    array = numbers(10, 20, 8, dtype=dtype)
    for given in (array, np.ascontiguousarray(array.transpose(2, 0, 1))):
        image = ImageLike(written(given), 8, (0, 10000))
        assert image.size == (20, 10)
        assert np.array_equal(image.load(), array)


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "minisblack", "planarconfig": "contig"},
        {"compression": "deflate", "predictor": True},
        {"compression": "lzw"},
        {"bigtiff": True},
        {"byteorder": ">"},
    ],
)
def test_tiffs_of_all_layouts_are_read(options: dict[str, Any]) -> None:
    array = numbers(10, 20, 8)
    assert np.array_equal(decode(tiff(array, **options), 8, DEEP), array)


def test_pages_of_a_tiff_are_bands() -> None:
    array = numbers(8, 10, 20)
    packed = io.BytesIO()
    with tifffile.TiffWriter(packed) as writer:
        for band in array:
            writer.write(band, contiguous=True)
    assert np.array_equal(decode(packed.getvalue(), 8, DEEP), array.transpose(1, 2, 0))


def test_colour_of_sixteen_bits_keeps_them_in_npy_and_tiff_and_is_refused_in_png() -> None:
    array = numbers(10, 20, 3)
    for content in (npy(array), tiff(array, photometric="rgb")):
        assert np.array_equal(decode(content, 3, DEEP), array)
    png = bytearray(deep_png(array[..., 0]))
    png[25] = 2  # the colour type; PIL opens it and would read 8 of the 16 bits
    png[29:33] = zlib.crc32(png[12:29]).to_bytes(4, "big")
    reason, message = refused(bytes(png), 3, DEEP)
    assert reason == Reason.IMAGE_TOO_DEEP
    assert ".npy or .tif" in message


def test_arrays_of_eight_bits_are_images_like_any_other() -> None:
    colour, grey = numbers(10, 20, 3, dtype=np.uint8), numbers(10, 20, dtype=np.uint8)
    for written in (npy, tiff, lambda array: array):
        assert decode(written(colour)).tobytes() == Image.fromarray(colour).tobytes()
        assert decode(written(grey), 1).tobytes() == Image.fromarray(grey).tobytes()
    bands = numbers(10, 20, 8, dtype=np.uint8)
    for written in (npy, tiff):
        assert np.array_equal(decode(written(bands), 8), bands)
    rgba = Image.fromarray(numbers(10, 20, 4, dtype=np.uint8))
    assert np.array_equal(decode(rgba, 4), np.asarray(rgba))


def test_the_value_range_is_scaled_to_0_and_1_and_clipped() -> None:
    array = np.array([[-5, 0, 2500, 10000, 60000]], np.int32)
    assert to_unit(array, (0, 10000)).tolist() == [[0, 0, 0.25, 1, 1]]
    assert to_unit(array.astype(np.float64), (-5, 5)).tolist() == [[0, 0.5, 1, 1, 1]]
    assert to_unit(np.array([65535], np.uint16), DEEP).dtype == np.float32


@pytest.mark.parametrize(
    ("array", "encoder", "reason", "fact"),
    [
        ((10, 20, 8), (13, DEEP), Reason.IMAGE_CHANNELS, "of shape [10, 20, 8]; the encoder needs 13 channels"),
        ((10, 20), (8, DEEP), Reason.IMAGE_CHANNELS, "an image of 1 channel; the encoder needs 8 channels"),
        ((10, 20, 3), (1, DEEP), Reason.IMAGE_CHANNELS, "of shape [10, 20, 3]; the encoder needs 1 channel"),
        ((20,), (1, DEEP), Reason.IMAGE_CHANNELS, "of shape [20]; expected [H, W], [H, W, C] or [C, H, W]"),
        ((2, 3, 4, 5), (5, DEEP), Reason.IMAGE_CHANNELS, "shape [2, 3, 4, 5]"),
        ((0, 20), (1, DEEP), Reason.IMAGE_EMPTY, "an image of 20 x 0 pixels"),
        ((10, 20), (1,), Reason.IMAGE_TOO_DEEP, "pixels of type uint16 have more than the 8 bits"),
        ((10, 20, 8), (8,), Reason.IMAGE_TOO_DEEP, "8 bits of the encoder"),
    ],
)  # fmt: skip
def test_an_unsuitable_array_is_refused_with_shape_and_requirement(
    array: tuple[int, ...], encoder: Any, reason: Reason, fact: str
) -> None:
    found, message = refused(npy(numbers(*array)), *encoder)
    assert found == reason
    assert fact in message


def test_eight_bits_are_refused_for_a_larger_value_range() -> None:
    array = numbers(10, 20, dtype=np.uint8)
    reason, message = refused(array, 1, DEEP)
    assert reason == Reason.IMAGE_TOO_SHALLOW
    assert message == "pixels of 8 bits; the encoder needs values from 0 to 65535"
    assert np.array_equal(decode(array, 1, (0, 255))[..., 0], array)


def test_every_reader_refuses_other_channels() -> None:
    reason, message = refused(Image.new("RGB", (4, 4)), 8, DEEP)
    assert (reason, message) == (
        Reason.IMAGE_CHANNELS, "an image of shape [4, 4, 3]; the encoder needs 8 channels"
    )  # fmt: skip
    bands = tiff(numbers(10, 20, 8, dtype=np.uint8), photometric="minisblack", planarconfig="contig")
    assert refused(bands)[0] == Reason.IMAGE_CHANNELS
    assert refused(Image.new("P", (4, 4)), 1, (0, 255))[0] == Reason.IMAGE_CHANNELS


@pytest.mark.parametrize("hole", [np.nan, np.inf])
def test_non_finite_pixels_are_refused(hole: float) -> None:
    array = numbers(10, 20, dtype=np.float32)
    array[3, 4] = hole
    assert refused(npy(array), 1, DEEP)[0] == Reason.IMAGE_NOT_FINITE


def test_nothing_in_a_file_is_unpickled() -> None:
    packed = io.BytesIO()
    np.save(packed, np.array([[object()]]), allow_pickle=True)
    assert refused(packed.getvalue(), 1, DEEP) == (
        Reason.IMAGE_UNREADABLE, "pixels of type object are not numeric"
    )  # fmt: skip


@pytest.mark.parametrize("written", [npy, tiff, lambda array: array])
def test_images_above_the_pixel_limit_are_refused_by_their_header(
    written: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 200)
    content = written(numbers(20, 10, 3))
    reason, message = refused(content, 3, DEEP)
    assert reason == Reason.IMAGE_TOO_LARGE
    assert "10 x 20 pixels with 3 channels of 16 bits; the limit is 200 pixels and 600 bytes" in message
    assert refused(written(numbers(21, 10)), 1, DEEP)[0] == Reason.IMAGE_TOO_LARGE
    assert decode(written(numbers(20, 10)), 1, DEEP).shape == (20, 10, 1)


def test_a_wrong_header_costs_no_memory() -> None:
    packed = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        packed, {"descr": "<u2", "fortran_order": False, "shape": (10**6, 10**6)}
    )
    assert refused(packed.getvalue(), 1, DEEP)[0] == Reason.IMAGE_TOO_LARGE


@pytest.mark.parametrize("written", [npy, tiff])
@pytest.mark.parametrize("length", [9, 60, 350])
def test_a_truncated_file_is_refused(written: Any, length: int) -> None:
    reason, message = refused(written(numbers(10, 20))[:length], 1, DEEP)
    assert reason == Reason.IMAGE_UNREADABLE
    assert "not a readable image" in message


def test_a_tiff_without_its_reader_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tifffile", None)
    reason, message = refused(tiff(numbers(10, 20, 8)), 8, DEEP)
    assert reason == Reason.IMAGE_UNREADABLE
    assert 'pip install "x2kit[tiff]"' in message


@pytest.mark.parametrize("to", [0, 1])
def test_a_cycle_of_tiff_pages_is_refused(to: int) -> None:
    packed = io.BytesIO()
    with tifffile.TiffWriter(packed) as writer:
        for _ in range(2):
            writer.write(numbers(10, 20))
    content = bytearray(packed.getvalue())
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        pages = [page.offset for page in file.pages]
    (entries,) = struct.unpack_from("<H", content, pages[1])
    struct.pack_into("<I", content, pages[1] + 2 + 12 * entries, pages[to])
    reason, message = refused(bytes(content), 1, DEEP)
    assert reason == Reason.IMAGE_UNREADABLE
    assert "page 2 repeats an earlier page" in message


def test_a_tiff_of_too_many_pages_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pixel_arrays, "MAX_PAGES", 7)
    packed = io.BytesIO()
    with tifffile.TiffWriter(packed) as writer:
        for band in numbers(8, 10, 20):
            writer.write(band, metadata=None)
    assert "more than 7 pages" in refused(packed.getvalue(), 8, DEEP)[1]
