"""Both components keep their contracts, check by check."""

from __future__ import annotations

from typing import Any

import pytest
from x2kit.plugin import SettingError

from x2kit_bands import BandViT, DomainText

TILE: dict[str, Any] = {"image_size": 32, "patch_size": 8, "width": 16, "depth": 1, "heads": 2}
TEXT: dict[str, Any] = {"width": 16, "layers": 1, "heads": 2}
REPORTS = ["small left pleural effusion", "Nodule in the right upper zone.", "no acute process", "heart"]
TILES = ["forest in the north west", "a river delta", "Snow and bare soil", "buildings"]


@pytest.mark.conformance(BandViT(channels=8, value_range=(0, 10000), colours=(4, 2, 1), **TILE))
def test_eight_bands(conformance):
    conformance()


@pytest.mark.conformance(BandViT(channels=1, value_range=(0, 4095), mean=(0.4,), std=(0.2,), **TILE))
def test_one_channel_of_twelve_bits(conformance):
    conformance()


@pytest.mark.conformance(DomainText(domain="radiology", **TEXT), texts=REPORTS)
def test_radiology(conformance):
    conformance()


@pytest.mark.conformance(DomainText(domain="remote-sensing", **TEXT), texts=TILES)
def test_remote_sensing(conformance):
    conformance()


@pytest.mark.conformance(DomainText(vocab_size=80, **TEXT), texts=TILES)
def test_a_vocabulary_of_the_runs_texts(conformance):
    conformance()


@pytest.mark.parametrize(
    ("component", "setting"),
    [
        (BandViT(image_size=30, patch_size=16), "patch_size"),
        (BandViT(width=10, heads=3), "heads"),
        (DomainText(width=10, heads=3), "heads"),
    ],
)
def test_settings_that_cannot_be_are_named(component, setting):
    with pytest.raises(SettingError) as found:
        component.describe()
    assert found.value.setting == setting
