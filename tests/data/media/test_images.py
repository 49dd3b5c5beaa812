"""Reading images: what is refused, and what reading at reduced size does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from x2kit.data.media.images import REDUCTIONS, ImageLike, decode
from x2kit.errors import DataError


def noise(width: int = 20, height: int = 10, mode: str = "RGB") -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind)
    return buffer.getvalue()


def test_an_image_is_the_same_from_memory_bytes_and_path(tmp_path: Path) -> None:
    image = noise()
    file = tmp_path / "noise.png"
    file.write_bytes(encoded(image))
    for given_as in (image, encoded(image), file, str(file)):
        assert decode(given_as).tobytes() == image.tobytes()


def test_channels_are_those_of_the_encoder() -> None:
    assert decode(noise(mode="L")).mode == "RGB"
    assert decode(noise(), channels=1).mode == "L"
    assert decode(noise().convert("P")).mode == "RGB"
    with pytest.raises(DataError, match="13 channels"):
        decode(noise(), channels=13)


def _cut(kind: str) -> bytes:
    return encoded(noise(200, 200), kind)[:2000]


@pytest.mark.parametrize(
    ("one_image", "reason"),
    [
        (b"", "image empty"),
        (b"no image", "image not readable"),
        (_cut("PNG"), "image not readable"),
        (_cut("JPEG"), "image not readable"),
        (Path("/nowhere/at/all.png"), "file missing"),
        (17, "field of a wrong type"),
        (None, "field of a wrong type"),
        (Image.new("I;16", (4, 4)), "image too deep"),
        (Image.new("F", (4, 4)), "image too deep"),
        (Image.new("RGB", (0, 4)), "image empty"),
    ],
)
def test_a_bad_image_is_refused_with_its_reason(one_image: Any, reason: str) -> None:
    with pytest.raises(DataError) as found:
        decode(one_image)
    assert found.value.reason == reason


def test_a_decompression_bomb_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)  # 200 pixels only make PIL warn
    with pytest.raises(DataError, match="more than 150 pixels"):
        decode(encoded(noise()))


@pytest.mark.parametrize("by", REDUCTIONS)
def test_a_jpeg_is_read_at_reduced_size(by: int) -> None:
    one_image = ImageLike(encoded(noise(200, 100), "JPEG"))
    assert one_image.size == (200, 100)
    assert one_image.load(by).size == (200 // by, -(-100 // by))
    assert one_image.size == (200, 100)


def test_other_formats_keep_their_size() -> None:
    assert ImageLike(encoded(noise())).load(2).size == (20, 10)


def test_a_pil_image_of_the_caller_is_not_reduced() -> None:
    theirs = Image.open(io.BytesIO(encoded(noise(200, 100), "JPEG")))
    assert ImageLike(theirs).load(2).size == (200, 100)
    assert theirs.size == (200, 100)


def test_damaged_pixels_are_found_on_load() -> None:
    one_image = ImageLike(_cut("JPEG"))
    with pytest.raises(DataError) as found:
        one_image.load(2)
    assert found.value.reason == "image not readable"


def phone_photo(orientation: int) -> tuple[bytes, Image.Image]:
    """Encode a picture that a viewer shows upright, stored as a phone stores it, and return it as shown."""
    shown = Image.new("RGB", (32, 16), "blue")
    shown.paste("red", (0, 0, 16, 16))
    undo = {
        1: None,
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
        8: Image.Transpose.ROTATE_270,
    }
    stored = shown if undo[orientation] is None else shown.transpose(undo[orientation])
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    stored.save(buffer, "PNG", exif=exif)
    return buffer.getvalue(), shown


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
def test_a_phone_photo_is_turned_upright_where_asked(orientation: int) -> None:
    content, shown = phone_photo(orientation)
    image = ImageLike(content, upright=True)
    assert image.size == shown.size
    assert np.array_equal(np.asarray(image.load()), np.asarray(shown))
    stored = Image.open(io.BytesIO(content))
    assert ImageLike(content).size == stored.size  # training: boxes refer to the stored pixels
    assert ImageLike(stored, upright=True).size == stored.size


def test_arrays_of_numbers_keep_their_orientation() -> None:
    content, _ = phone_photo(6)
    image = ImageLike(content, value_range=(0, 255), upright=True)
    assert image.size == ImageLike(content).size
    assert image.load().shape == (32, 16, 3)  # type: ignore[union-attr]


def test_a_turned_jpeg_is_reduced_before_it_is_turned() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.new("RGB", (64, 32), "red").save(buffer, "JPEG", exif=exif)
    image = ImageLike(buffer.getvalue(), upright=True)
    assert image.size == (32, 64)
    assert image.load(2).size == (16, 32)  # type: ignore[union-attr]


def test_a_damaged_orientation_leaves_an_image_as_stored() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 4)).save(buffer, "JPEG", exif=b"Exif\x00\x00no directory at all")
    assert ImageLike(buffer.getvalue(), upright=True).size == (8, 4)


def photo(mode: str = "RGB", **options: Any) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, "JPEG", **options)
    return file.getvalue()


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"mode": "L"}])
def test_planes_of_a_jpeg_equal_its_pixels(options: dict[str, Any]) -> None:
    content = photo(**options)
    planes = ImageLike(content).load_planes()
    assert planes is not None
    assert np.array_equal(planes.permute(1, 2, 0).numpy(), np.asarray(ImageLike(content).load()))


def test_files_that_only_pil_decodes_have_no_planes(tmp_path: Path) -> None:
    damaged = photo()[:-400]
    assert ImageLike(damaged).load_planes() is None
    with pytest.raises(DataError, match="truncated"):
        ImageLike(damaged).load()
    assert ImageLike(photo("CMYK")).load_planes() is None
    assert ImageLike(photo(), channels=1).load_planes() is None
    Image.open(io.BytesIO(photo())).save(tmp_path / "image.png")
    assert ImageLike(tmp_path / "image.png").load_planes() is None


def test_planes_are_read_from_a_file_that_load_can_still_read(tmp_path: Path) -> None:
    file = tmp_path / "image.jpg"
    file.write_bytes(photo())
    image = ImageLike(file)
    planes = image.load_planes()
    assert planes is not None
    assert np.array_equal(planes.permute(1, 2, 0).numpy(), np.asarray(image.load()))
