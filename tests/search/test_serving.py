"""The JSON API answers queries, refuses wrong ones with a message, and listens to known hosts alone."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.search.conftest import Index
from x2kit.inference import Model
from x2kit.search import open_index

pytest.importorskip("starlette")
pytest.importorskip("httpx")

from starlette.testclient import TestClient

from x2kit.search.serving import MAX_BODY, application


@pytest.fixture
def client(index: Index, place: Path, model: Model) -> Iterator[TestClient]:
    index()
    with open_index(place, model) as opened:
        yield TestClient(application(opened), base_url="http://127.0.0.1")


def test_a_text_is_a_get(client: TestClient) -> None:
    answer = client.get("/search", params={"q": "a red dog", "k": 2}).json()
    assert answer["query"] == "a red dog"
    assert len(answer["hits"]) == 2
    assert client.get("/status").json()["rows"] == 8


def test_images_regions_and_weights_are_a_post(client: TestClient, photos: Path) -> None:
    image = base64.b64encode((photos / "0.png").read_bytes()).decode()
    parts = [{"image": image}, {"image": image, "box": [0, 0, 16, 16], "weight": 0.1}]
    answer = client.post("/search", json={"parts": parts, "k": 1}).json()
    assert answer["hits"][0]["path"] == str(photos / "0.png")
    assert client.post("/search", json={"parts": [{"text": "a dog", "weight": -1}]}).status_code == 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"parts": []}, "needs a text"),
        ({"parts": "a dog"}, "expected a list"),
        ({"parts": [{"text": "a", "weight": "x"}]}, "weight"),
        ({"parts": [{"image": "%%"}]}, "not base64"),
        ({"parts": [{"image": "AAAA"}]}, "not a readable image"),
        ({"parts": [{"image": "AAAA", "box": [1]}]}, "box"),
        ({"parts": [{"text": "a"}], "k": "many"}, "expected an integer"),
        ({"parts": [{"text": "a"}], "where": "nonsense = 1"}, "nonsense"),
    ],
)
def test_a_wrong_request_has_a_message(client: TestClient, body: dict[str, object], message: str) -> None:
    answer = client.post("/search", json=body)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


def test_thumbnails_are_those_of_rows_alone(client: TestClient, photos: Path) -> None:
    answer = client.get("/image", params={"id": str(photos / "0.png")})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "image/jpeg")
    assert client.get("/image", params={"id": "/etc/hostname"}).status_code == 400


def test_other_hosts_and_large_bodies_are_refused(client: TestClient) -> None:
    assert client.get("/status", headers={"Host": "attacker.example"}).status_code == 400
    assert client.post("/search", content=bytes(MAX_BODY + 1)).status_code == 413
