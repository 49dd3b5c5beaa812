"""Images and index of a store that speaks S3, served by a process of its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from tests.data.test_s3_server import bucket, put, server
from tests.search.conftest import OPTIONS
from x2kit.inference import Model
from x2kit.search import index_folders, open_index

__all__ = ["bucket", "server"]
pytest.importorskip("lancedb")


def test_images_and_index_may_be_in_a_bucket(
    bucket: str, server: str, photos: Path, model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT", server)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    for file in photos.rglob("*.png"):
        put(f"{bucket}/photos/{file.name}", file.read_bytes())
    options = replace(OPTIONS, store="LanceDB")
    place = f"{bucket}/photos.index"
    assert index_folders([f"{bucket}/photos"], place, model, options).added == 8
    put(f"{bucket}/photos/0.png", (photos / "2.png").read_bytes())
    fsspec.filesystem("s3").rm(f"{bucket}/photos/4.png")
    report = index_folders([f"{bucket}/photos"], place, model, options)
    assert (report.unchanged, report.updated, report.gone, report.broken) == (6, 1, 1, [])
    with open_index(place, model) as opened:
        results = opened.query("a red dog", k=8, rerank=3)
        assert len(results.hits) == 7
        assert results.notes == []
        assert opened.query(photos / "6.png", k=1).hits[0].path == f"{bucket}/photos/6.png"
