"""Picture statistics beside weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from x2kit.plugin import ImageSpec, WeightsError
from x2kit.plugin.image_spec import load_image_spec, save_image_spec


def test_statistics_are_read_as_they_were_written(tmp_path: Path) -> None:
    spec = ImageSpec(96, 1, (0.25,), (0.5,), "nearest")
    save_image_spec(spec, tmp_path)
    assert load_image_spec(tmp_path) == spec


def test_missing_and_damaged_statistics_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not readable as an encoder's picture statistics"):
        load_image_spec(tmp_path)
    (tmp_path / "image_spec.json").write_text('{"size": 3}')
    with pytest.raises(WeightsError, match=r"image_spec\.json"):
        load_image_spec(tmp_path)
