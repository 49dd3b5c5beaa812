"""Every source with paths in its records keeps them in `root`: by default where they come from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from x2kit.data.media.images import decode
from x2kit.data.sources.annotation_config import AnnotationFiles, CocoAnnotations, VisualGenomeAnnotations
from x2kit.data.sources.config import HuggingFaceDataset, JsonLines
from x2kit.errors import DataError, MissingFileError, Reason
from x2kit.plugin.components import SourceConfig

from .conftest import Write

Make = Callable[..., SourceConfig]
"""From a folder of files, the path of an image and further settings to a source of one record."""


def json_lines(at: Callable[[str, str], str], path: str, **settings: Any) -> SourceConfig:
    return JsonLines(files=(at("a.jsonl", json.dumps({"image": path, "caption": "a"})),), **settings)


def videos(at: Callable[[str, str], str], path: str, **settings: Any) -> SourceConfig:
    return JsonLines(files=(at("v.jsonl", json.dumps({"video": [path], "caption": "a"})),), **settings)


def annotations(at: Callable[[str, str], str], path: str, **settings: Any) -> SourceConfig:
    return AnnotationFiles(files=(at("a.json", json.dumps([{"image": path, "caption": "a"}])),), **settings)


def coco(at: Callable[[str, str], str], path: str, **settings: Any) -> SourceConfig:
    content = {
        "images": [{"id": 1, "file_name": path}],
        "annotations": [{"id": 1, "image_id": 1, "caption": "a"}],
    }
    return CocoAnnotations(files=(at("coco.json", json.dumps({**content, "categories": []})),), **settings)


def visual_genome(at: Callable[[str, str], str], path: str, **settings: Any) -> SourceConfig:
    regions = [{"region_id": 1, "x": 0, "y": 0, "width": 9, "height": 9, "phrase": "a"}]
    return VisualGenomeAnnotations(
        images=at("image_data.json", json.dumps([{"image_id": 1, "url": f"https://a.org/{path}"}])),
        files=(at("regions.json", json.dumps([{"id": 1, "regions": regions}])),),
        **settings,
    )


SOURCES = (json_lines, videos, annotations, coco, visual_genome)


@pytest.fixture
def all_images(tmp_path: Path, image: Write) -> str:
    """A folder of images beside an image that is not in it."""
    image("images/1.jpg")
    image("secret.jpg")
    return str(tmp_path / "images")


@pytest.fixture
def here(tmp_path: Path) -> Callable[[str, str], str]:
    """Writes a local file."""

    def write(name: str, content: str) -> str:
        (tmp_path / name).write_text(content)
        return str(tmp_path / name)

    return write


@pytest.fixture
def there(tmp_path: Path) -> Callable[[str, str], str]:
    """Writes a file of a remote store."""

    def write(name: str, content: str) -> str:
        fsspec.filesystem("memory").pipe_file(f"{tmp_path}/{name}", content.encode())
        return f"memory:/{tmp_path}/{name}"

    return write


def first(config: SourceConfig) -> Any:
    record: Any = config.open()[0]
    return record["video"][0] if "video" in record else record["image"]


@pytest.mark.parametrize("make", SOURCES)
def test_a_path_of_a_remote_record_stays_in_the_folder_of_images(
    make: Make, there: Callable[[str, str], str], all_images: str, tmp_path: Path
) -> None:
    assert Path(first(make(there, "1.jpg", image_root=all_images, root=None))).name == "1.jpg"
    with pytest.raises(DataError, match=r"secret.jpg, outside .*images") as error:
        first(make(there, "../secret.jpg", image_root=all_images))
    assert error.value.reason == Reason.ADDRESS_REFUSED
    for root in (False, str(tmp_path)):
        assert decode(first(make(there, "../secret.jpg", image_root=all_images, root=root))).size == (64, 48)


@pytest.mark.parametrize("make", SOURCES)
def test_a_path_of_a_local_record_is_limited_only_by_root(
    make: Make, here: Callable[[str, str], str], all_images: str
) -> None:
    assert decode(first(make(here, "../secret.jpg", image_root=all_images))).size == (64, 48)
    with pytest.raises(DataError, match=r"secret.jpg, outside .*images"):
        first(make(here, "../secret.jpg", image_root=all_images, root=True))


@pytest.mark.parametrize("make", SOURCES)
def test_a_missing_root_is_found_when_settings_are_checked(
    make: Make, here: Callable[[str, str], str], all_images: str, tmp_path: Path
) -> None:
    with pytest.raises(MissingFileError, match="root: no folder"):
        make(here, "1.jpg", image_root=all_images, root=str(tmp_path / "nowhere")).check()


@pytest.mark.parametrize("make", SOURCES)
def test_root_does_not_change_the_fingerprint(
    make: Make, here: Callable[[str, str], str], all_images: str
) -> None:
    one, other = (make(here, "1.jpg", image_root=all_images, root=root).open() for root in (None, True))
    assert one.fingerprint() == other.fingerprint()


@pytest.mark.parametrize("path", ["../secret.jpg", "/etc/passwd", "link/secret.jpg"])
def test_a_path_in_a_datasets_folder_stays_in_it(path: str, tmp_path: Path, image: Write) -> None:
    datasets = pytest.importorskip("datasets")
    image("secret.jpg")
    folder = tmp_path / "saved"
    datasets.Dataset.from_dict({"image": [path, "1.jpg"], "text": ["a", "b"]}).save_to_disk(str(folder))
    (folder / "link").symlink_to(tmp_path)
    source = HuggingFaceDataset(folder=folder, caption_column="text").open()
    assert source[1]["image"] == str(folder / "1.jpg")
    with pytest.raises(DataError, match=r"saved row 0: .*outside .*saved") as error:
        source[0]
    assert error.value.reason == Reason.ADDRESS_REFUSED
    free = HuggingFaceDataset(folder=folder, caption_column="text", root=False)
    assert free.open()[0]["image"] == str(folder / path)
