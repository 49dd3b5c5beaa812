"""Image statistics beside weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from x2kit.plugin import ImageSpec, WeightsError
from x2kit.plugin.toolkit.pretrained import load_image_spec, save_image_spec


def test_statistics_are_read_as_they_were_written(tmp_path: Path) -> None:
    spec = ImageSpec(96, 4, (0.25,) * 4, (0.5,) * 4, "nearest", (0.0, 10000.0), (2, 1, 0))
    save_image_spec(spec, tmp_path)
    assert load_image_spec(tmp_path) == spec


def test_missing_and_damaged_statistics_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="cannot be read as an image specification"):
        load_image_spec(tmp_path)
    (tmp_path / "image_spec.json").write_text('{"size": 3}')
    with pytest.raises(WeightsError, match=r"image_spec\.json"):
        load_image_spec(tmp_path)


def test_statistics_from_before_there_were_ranges_are_of_eight_bits(tmp_path: Path) -> None:
    (tmp_path / "image_spec.json").write_text(
        '{"size": 8, "channels": 1, "mean": [0.5], "std": [0.5], "interpolation": "bilinear"}'
    )
    assert load_image_spec(tmp_path) == ImageSpec(8, 1, (0.5,), (0.5,), "bilinear", None, None)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        (ImageSpec(8), None),
        (ImageSpec(8, 1, (0.5,), (0.5,), value_range=(0, 4095)), None),
        (ImageSpec(8, 1), "image.mean needs one number for each of 1 channels, found 3"),
        (ImageSpec(8, 3, std=(1.0,)), "image.std needs one number for each of 3 channels, found 1"),
        (ImageSpec(8, value_range=(1, 1)), "image.value_range must rise, found (1, 1)"),
        (
            ImageSpec(8, colours=(0, 1, 3)),
            "image.colours must be among its channels, 0 to 2, found (0, 1, 3)",
        ),
    ],
)
def test_what_cannot_be_is_said(spec: ImageSpec, said: str | None) -> None:
    assert spec.fault() == said


def test_an_interpolation_that_nobody_knows_is_told() -> None:
    spec = ImageSpec(32, interpolation="random")  # type: ignore[arg-type]
    assert spec.fault() == "image.interpolation must be one of bicubic, bilinear, nearest, found 'random'"
