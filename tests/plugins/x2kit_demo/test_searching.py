"""Search on the page: text, image, minus, filter; hits carry ids of images that the index opens."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient
from x2kit_demo.app import Demo, build_app
from x2kit_demo.searching import index_examples

import x2kit
from tests.model import tiny
from tests.model.conftest import RECIPE, build
from x2kit.model import save_weights
from x2kit.search import IndexOptions, SearchIndex, index_folders

from .conftest import png

COUNT = 6


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(COUNT):
        (folder / f"{seed}.png").write_bytes(png(seed))
    return folder


@pytest.fixture(scope="module")
def index(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SearchIndex]:
    """An index of six images of a tiny model."""
    place = tmp_path_factory.mktemp("index")
    save_weights(build(), RECIPE, place / "weights")
    model = x2kit.load(place / "weights", "cpu", plugins=[tiny.__file__])
    index_folders([photos], place / "photos.index", model, IndexOptions(store="Exact"))
    with x2kit.open_index(place / "photos.index", model) as opened:
        yield opened


@pytest.fixture
def client(index: SearchIndex) -> TestClient:
    return TestClient(build_app(Demo(index.model, index)), base_url="http://127.0.0.1")


def search(client: TestClient, **asked: Any) -> list[dict[str, Any]]:
    done = client.post("/api/search", json=asked)
    assert done.status_code == 200, done.text
    hits: list[dict[str, Any]] = done.json()["hits"]
    return hits


def test_hits_are_those_of_the_index(client: TestClient, index: SearchIndex) -> None:
    expected = index.query("a red dog", x2kit.Weighted("the moon", -1.0), k=3).hits
    found = search(client, text="a red dog", minus=["the moon"], k=3)
    assert [hit["path"] for hit in found] == [hit.path for hit in expected]
    assert [hit["similarity"] for hit in found] == pytest.approx([hit.similarity for hit in expected])


def test_an_image_of_the_index_finds_itself(client: TestClient) -> None:
    hit = search(client, text="a red dog")[0]
    assert search(client, image=hit["image"])[0]["path"] == hit["path"]


def test_a_hit_is_shown_and_can_be_located_by_its_id(client: TestClient) -> None:
    hit = search(client, text="a red dog")[0]
    shown = client.get(f"/api/images/{hit['image']}")
    assert Image.open(io.BytesIO(shown.content)).size == (30, 20)
    assert client.post("/api/match", json={"image": hit["image"], "texts": ["a"]}).status_code == 200


def test_reranked_hits_have_probabilities(client: TestClient) -> None:
    found = search(client, text="a dog", k=3, rerank=2)
    assert [hit["probability"] is None for hit in found] == [False, False, True]


def test_a_filter_restricts_and_a_wrong_one_says_why(client: TestClient, photos: Path) -> None:
    found = search(client, text="a dog", where="path LIKE '%/3.png'")
    assert [hit["path"] for hit in found] == [str(photos / "3.png")]
    done = client.post("/api/search", json={"text": "a dog", "where": "colour = 'red'"})
    assert done.status_code == 400
    assert "colour" in done.json()["error"]


def test_a_filter_cannot_change_the_index(client: TestClient, index: SearchIndex) -> None:
    done = client.post("/api/search", json={"text": "a", "where": "TRUE); DELETE FROM rows; --"})
    assert done.status_code == 400
    assert len(index) == COUNT


def test_a_query_of_nothing_is_an_error(client: TestClient) -> None:
    done = client.post("/api/search", json={"minus": ["a"]})
    assert done.json()["error"] == "a search needs a text or an image"


def test_the_page_learns_size_and_columns(client: TestClient) -> None:
    found = client.get("/api/model").json()
    assert found["images"] == COUNT
    assert found["columns"]["path"] == "text"


def test_examples_come_from_the_index(index: SearchIndex) -> None:
    found = list(index_examples(index, 4))
    assert len({example.label for example in found}) == 4
    assert found[0].opener().size == (30, 20)
