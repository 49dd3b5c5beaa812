"""Which images of a recipe are cached, and the faults of recipes whose images cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.data.stub_tasks import Pairs
from tests.data.stubs import stream
from x2kit.data.config import DataConfig, StreamConfig
from x2kit.data.features.rules import CachedImages, cached_images, feature_faults

RANDOM = {"crop_scale": (0.5, 1.0), "flip": 0.5, "augment_operations": 2, "random_convolution": 0.5}
COLOURS = {"augment_operations": 2, "random_convolution": 0.5}


def data(views: int | None = None, cache: str | None = "features", **streams: StreamConfig) -> DataConfig:
    return DataConfig(
        streams=streams, feature_cache=None if cache is None else Path(cache), feature_views=views
    )


def faults(data: DataConfig, frozen: bool = True) -> dict[str, str]:
    return dict(feature_faults(data, frozen))


def test_images_are_cached_once_for_the_streams_that_share_them() -> None:
    """Boxes keep the shape of their images; texts have none, and a task may read several."""
    found = cached_images(
        data(
            views=3,
            images=stream("ImageText", transform=COLOURS),
            regions=stream("RegionText", images_from="images"),
            alone=stream("ImageText", transform=COLOURS),
            fixed=stream("RegionText"),
            task=stream(Pairs()),
            pairs=stream("ParallelText", pivot="en"),
        )
    )
    assert found == {
        "images": CachedImages(1, 3, keep_shape=True),
        "alone": CachedImages(1, 3, keep_shape=False),
        "fixed": CachedImages(1, 1, keep_shape=False),
        "task": CachedImages(2, 1, keep_shape=False),
    }
    assert cached_images(data(cache=None, images=stream("ImageText"))) == {}


@pytest.mark.parametrize(
    "streams",
    [
        {"images": stream("ImageText"), "regions": stream("RegionText", images_from="images")},
        {"task": stream(Pairs()), "pairs": stream("ParallelText", pivot="en")},
    ],
)
def test_fixed_views_have_no_fault(streams: dict[str, StreamConfig]) -> None:
    assert faults(data(**streams)) == {}


def test_random_views_need_a_number_of_views() -> None:
    random = {"images": stream("ImageText", transform=RANDOM)}
    found = faults(data(**random))
    assert set(found) == {f"data.streams.images.transform.{name}" for name in RANDOM}
    assert "found (0.5, 1.0); set it to null, or data.feature_views to a number of views" in next(
        iter(found.values())
    )
    assert faults(data(views=2, **random)) == {}


@pytest.mark.parametrize(
    ("found", "key", "message"),
    [
        (faults(data(images=stream("ImageText")), frozen=False), "data.feature_cache", "vision: none"),
        (
            faults(data(pairs=stream("ParallelText", pivot="en"))),
            "data.feature_cache",
            "no stream has images",
        ),
        (faults(data(2, images=stream("ImageText"))), "data.feature_views", "all views are equal"),
        (faults(data(2, None, images=stream("ImageText"))), "data.feature_views", "no effect without"),
        (faults(data(films=stream("VideoText"))), "data.streams.films.task", "VideoText reads videos"),
        (
            faults(data(2, own=stream("RegionText", transform={"crop_scale": (0.5, 1.0)}))),
            "data.streams.own.transform.crop_scale",
            "draws a crop around a box",
        ),
        (
            faults(data(2, task=stream(Pairs(), transform={"flip": 0.5}))),
            "data.streams.task.transform.flip",
            "no flipped view is cached",
        ),
    ],
)
def test_each_fault_names_its_key(found: dict[str, str], key: str, message: str) -> None:
    assert list(found) == [key]
    assert message in found[key]
