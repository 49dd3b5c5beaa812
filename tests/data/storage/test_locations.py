"""Locations are joined, split and named alike for local paths and URLs."""

from __future__ import annotations

from x2kit.data.storage.locations import folder_of, is_url, join, name_of, relative_names


def test_locations_are_joined_and_split() -> None:
    assert join("s3://bucket/a/", "./b.jpg") == "s3://bucket/a/b.jpg"
    assert join("/a", "b/c.jpg") == "/a/b/c.jpg"
    assert join("s3://bucket", "https://x.org/b.jpg") == join("/a", "https://x.org/b.jpg")
    assert folder_of("s3://bucket/a/b.tar") == "s3://bucket/a"
    assert name_of("https://x.org/a/b.tar?key=c/d") == "b.tar"
    assert relative_names(["/a/x/1.tar", "/a/y/1.tar"]) == ["x/1.tar", "y/1.tar"]
    assert relative_names(["s3://bucket/a/1.tar"]) == ["1.tar"]
    assert not any(map(is_url, ("/a/b", "a:b", "C:/a", "")))
