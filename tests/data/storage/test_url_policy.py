"""URLs of records are limited to allowed hosts and folders, paths to the root folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from x2kit.data.storage.url_policy import is_allowed, locate, require_allowed
from x2kit.errors import DataError, Reason

HOSTS = ("https://images.example.org/photos", "s3://bucket/photos", "memory://photos")


@pytest.mark.parametrize(
    "url",
    [
        "https://images.example.org/photos/a.jpg",
        "https://images.example.org/photos/a%20b.jpg?size=../2",
        "https://images.example.org/photos/b/../a.jpg",
        "https://images.example.org:443/photos/a.jpg",
        "HTTPS://Images.example.org/photos/a.jpg",
        "https://images.example.org/%70hotos/a.jpg",
        "s3://bucket/photos/my image.jpg",
        "memory://photos/a.jpg",
    ],
)
def test_a_url_within_the_folder_of_a_host_is_allowed(url: str) -> None:
    allowed = require_allowed(url, HOSTS)
    assert (allowed, allowed.hosts) == (url, HOSTS)


@pytest.mark.parametrize(
    "url",
    [
        "https://images.example.org/photos/../secret",
        "https://images.example.org/photos/%2e%2e/secret",
        "https://images.example.org/photos/..%2fsecret",
        "https://images.example.org/photos/%2E%2E%2Fsecret",
        "https://images.example.org/photos/%252e%252e/secret",
        "https://images.example.org/photos/..\\secret",
        "https://images.example.org/photos/..%5csecret",
        "https://images.example.org/photosets/a.jpg",
        "https://images.example.org/photos/a.jpg\t",
        "https://images.example.org:8443/photos/a.jpg",
        "https://images.example.org@example.com/photos/a.jpg",
        "https://example.com/photos/a.jpg",
        "http://images.example.org/photos/a.jpg",
        "s3://bucket/photos/../secret",
        "s3://bucket/photos/x?/../../secret",
        "memory://photos/x#/../../secret",
        "simplecache::https://images.example.org/photos/a.jpg",
        "https://images.example.org/photos/a.zip::s3://other/b",
        "file:///etc/passwd",
    ],
)
def test_a_url_outside_the_hosts_is_refused(url: str) -> None:
    with pytest.raises(DataError, match="image_hosts") as error:
        require_allowed(url, HOSTS)
    assert error.value.reason == Reason.ADDRESS_REFUSED


def test_a_host_without_a_folder_allows_all_of_its_paths() -> None:
    assert is_allowed("https://a.org/../b.jpg", ["https://a.org"])
    assert not is_allowed("https://a.org/b.jpg", [])


OUTSIDE = ("../secret.txt", "images/../../secret.txt", "/etc/passwd", "images/link/secret.txt")


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A folder of images beside a secret, with a link that leads out."""
    (tmp_path / "secret.txt").write_text("x")
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "images" / "link").symlink_to(tmp_path)
    return tmp_path / "data"


@pytest.mark.parametrize("name", OUTSIDE)
def test_paths_of_local_records_are_limited_only_by_root(name: str, start: Path) -> None:
    file = str(start / "a.jsonl")
    assert locate(name, str(start), (), None, file) == str(start / name)
    for root in (True, str(start)):
        with pytest.raises(DataError, match="outside") as error:
            locate(name, str(start), (), root, file)
        assert error.value.reason == Reason.ADDRESS_REFUSED


@pytest.mark.parametrize("name", OUTSIDE)
def test_paths_of_remote_records_are_limited_unless_root_is_false(name: str, start: Path) -> None:
    with pytest.raises(DataError, match="set root of the source"):
        locate(name, str(start), (), None, "s3://bucket/a.jsonl")
    assert locate(name, str(start), (), False, "s3://bucket/a.jsonl") == str(start / name)


def test_a_root_above_the_start_folder_allows_its_siblings(start: Path) -> None:
    root = str(start.parent)
    assert locate("../secret.txt", str(start), (), root, "a.jsonl") == str(start / "../secret.txt")
    with pytest.raises(DataError, match="outside"):
        locate("../../x", str(start), (), root, "a.jsonl")


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "%2e%2e/secret"])
def test_paths_below_a_remote_folder_stay_below_it(name: str) -> None:
    with pytest.raises(DataError, match="outside"):
        locate(name, "https://a.org/photos", (), None, "records.jsonl")
    assert (
        locate("b/a.jpg", "https://a.org/photos", (), None, "records.jsonl") == "https://a.org/photos/b/a.jpg"
    )


def test_a_local_path_is_outside_a_remote_root() -> None:
    with pytest.raises(DataError, match="outside"):
        locate("a.jpg", "images", (), "s3://bucket", "records.jsonl")
