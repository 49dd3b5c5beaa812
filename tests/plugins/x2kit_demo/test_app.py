"""The JSON API: facts, uploads, tasks, errors."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from starlette.testclient import TestClient
from x2kit_demo.app import MAX_JSON, Demo, build_app

from x2kit.inference import Model

from .conftest import MAX_UPLOAD, png

UNKNOWN = "this image is no longer in memory; choose it again"


def bomb() -> bytes:
    """A PNG of some hundred bytes that claims 60,000 x 60,000 pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(10_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_the_page_starts_with_facts_about_model_and_examples(client: TestClient) -> None:
    found = client.get("/api/model").json()
    assert (found["name"], found["images"], found["max_upload"]) == ("tiny", None, MAX_UPLOAD)
    first, second = found["examples"]
    assert (first["label"], second["label"]) == ("0.png", "second")
    assert first["texts"] == {"en": ["a red dog", "dog"], "de": ["ein roter hund"]}
    assert client.get(f"/api/images/{first['image']}").status_code == 200


def test_an_upload_is_answered_with_an_id_and_shown_as_jpeg(client: TestClient) -> None:
    done = client.post("/api/images", content=png(size=(30, 20)))
    assert done.status_code == 201
    assert (done.json()["width"], done.json()["height"]) == (30, 20)
    shown = client.get(f"/api/images/{done.json()['image']}")
    assert shown.headers["content-type"] == "image/jpeg"
    assert Image.open(io.BytesIO(shown.content)).size == (30, 20)


def test_a_thumbnail_is_small(client: TestClient) -> None:
    grey = io.BytesIO()
    Image.new("L", (1000, 500)).save(grey, "PNG")
    image = client.post("/api/images", content=grey.getvalue()).json()["image"]
    shown = client.get(f"/api/images/{image}/thumbnail")
    assert Image.open(io.BytesIO(shown.content)).size == (256, 128)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "an image of 0 bytes"),
        (bomb(), "pixels"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "of none of the formats"),
        (b"<!doctype html><script>alert(1)</script>", "of none of the formats"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "of none of the formats"),
        (png()[:600], "not a readable image"),
        (b"/etc/passwd", "of none of the formats"),
    ],
    ids=["empty", "bomb", "svg", "html", "postscript", "truncated", "a path"],
)
def test_a_hostile_upload_is_refused_with_a_message(client: TestClient, content: bytes, said: str) -> None:
    done = client.post("/api/images", content=content)
    assert done.status_code == 400
    assert said in done.json()["error"]


def test_an_image_with_a_page_behind_it_is_encoded_again(client: TestClient) -> None:
    polyglot = png() + b"<script>alert(1)</script>"
    image = client.post("/api/images", content=polyglot).json()["image"]
    assert b"script" not in client.get(f"/api/images/{image}").content


def test_an_upload_above_the_limit_is_refused_before_it_is_read(client: TestClient) -> None:
    sent = 0

    def parts() -> Any:
        nonlocal sent
        for _ in range(10):
            sent += MAX_UPLOAD // 2
            yield bytes(MAX_UPLOAD // 2)

    for content in (bytes(MAX_UPLOAD + 1), parts()):  # with a declared length, and without
        done = client.post("/api/images", content=content)
        assert done.status_code == 413
        assert done.json() == {"error": "more than the 50,000 bytes allowed"}


def test_a_large_request_is_refused(client: TestClient) -> None:
    assert client.post("/api/match", content=bytes(MAX_JSON + 1)).status_code == 413


def test_the_oldest_upload_is_dropped_when_memory_is_full(client: TestClient) -> None:
    first, *others = (
        client.post("/api/images", content=png(seed, (120, 110))).json()["image"] for seed in range(5)
    )
    assert client.get(f"/api/images/{first}").json() == {"error": UNKNOWN}
    assert client.get(f"/api/images/{others[-1]}").status_code == 200


@pytest.mark.parametrize("key", ["%2Fetc%2Fpasswd", "..%2f0.png", "0" * 32])
def test_no_path_of_a_request_is_opened(client: TestClient, scenes: Path, key: str) -> None:
    assert client.get(f"/api/images/{key}").status_code == 404
    asked = {"image": str(scenes.parent / "0.png"), "texts": ["a"]}
    assert client.post("/api/match", json=asked | {"image": asked["image"][-64:]}).json() == {
        "error": UNKNOWN
    }


def test_match_gives_the_probabilities_of_the_model(client: TestClient, image: str, model: Model) -> None:
    found = client.post("/api/match", json={"image": image, "texts": ["a red dog", "the moon"]}).json()
    expected = {match.text: match.probability for match in model.match(png(), ["a red dog", "the moon"])}
    probabilities = [match["probability"] for match in found["matches"]]
    assert {match["text"]: match["probability"] for match in found["matches"]} == pytest.approx(expected)
    assert probabilities == sorted(probabilities, reverse=True)
    assert found["seconds"] >= 0


def test_locate_gives_a_box_for_each_text_in_pixels_and_shares(client: TestClient, image: str) -> None:
    found = client.post("/api/locate", json={"image": image, "texts": ["dog", "sun"], "candidates": 2}).json()
    assert [location["text"] for location in found["locations"]] == ["dog", "sun"]
    for location in found["locations"]:
        for box in location["boxes"]:
            assert box["pixels"] == pytest.approx(
                [
                    30 * box["relative"][0],
                    20 * box["relative"][1],
                    30 * box["relative"][2],
                    20 * box["relative"][3],
                ],
                abs=1e-3,
            )
            assert 0 <= box["probability"] <= 1


def test_explain_gives_a_map_for_the_text_and_each_word(client: TestClient, image: str) -> None:
    found = client.post("/api/explain", json={"image": image, "text": "a red dog"}).json()
    assert [each["word"] for each in found["words"]] == ["a", "red", "dog"]
    for heat in (found["heat"], *(each["heat"] for each in found["words"])):
        assert max(len(heat), len(heat[0])) <= 64
        assert all(0 <= value <= 1 for row in heat for value in row)


def test_classify_states_the_chance_level(client: TestClient, image: str) -> None:
    asked = {"image": image, "labels": ["dog", "cat", "sun", "moon"], "template": "a {}"}
    found = client.post("/api/classify", json=asked).json()
    assert sum(label["probability"] for label in found["labels"]) == pytest.approx(1)
    assert found["chance"] == 0.25


@pytest.mark.parametrize(("path", "asked"), [("answer", {"question": "a dog"}), ("describe", {})])
def test_a_task_that_the_model_lacks_says_what_adds_it(
    client: TestClient, image: str, path: str, asked: Any
) -> None:
    done = client.post(f"/api/{path}", json={"image": image, **asked})
    assert done.status_code == 400
    assert "recipes that train one" in done.json()["error"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"texts": ["a"]}, "image: Field required"),
        ({"image": "x", "texts": []}, "texts: List should have at least 1 item after validation, not 0"),
        (
            {"image": "x", "texts": ["a"] * 101},
            "texts: List should have at most 100 items after validation, not 101",
        ),
        ({"image": "x", "texts": [" "]}, "texts.0: String should have at least 1 character"),
        ({"image": "x", "texts": ["a"], "path": "/etc"}, "path: Extra inputs are not permitted"),
    ],
)
def test_an_invalid_request_names_the_field(client: TestClient, asked: Any, said: str) -> None:
    done = client.post("/api/match", json=asked)
    assert (done.status_code, done.json()) == (400, {"error": said})


def test_a_request_that_is_no_json_is_an_error(client: TestClient) -> None:
    assert "Invalid JSON" in client.post("/api/match", content=b"{").json()["error"]


def test_search_without_an_index_says_so(client: TestClient) -> None:
    done = client.post("/api/search", json={"text": "a"})
    assert (done.status_code, done.json()["error"]) == (404, "no index; start `x2kit demo` with --index DIR")


def test_unknown_addresses_and_methods_are_json_errors(client: TestClient) -> None:
    assert (client.get("/no").status_code, client.get("/no").json()) == (404, {"error": "Not Found"})
    assert client.get("/api/match").json() == {"error": "Method Not Allowed"}


def test_an_internal_error_shows_no_details_and_is_raised_for_the_log(demo: Demo) -> None:
    class Broken:
        name = "broken"

        def match(self, *_: Any) -> Any:
            raise RuntimeError("secret")

    demo.model = Broken()
    app = build_app(demo)
    image = TestClient(app, base_url="http://127.0.0.1").post("/api/images", content=png()).json()["image"]
    asked = {"image": image, "texts": ["a"]}
    with pytest.raises(RuntimeError, match="secret"):
        TestClient(app, base_url="http://127.0.0.1").post("/api/match", json=asked)
    done = TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False).post(
        "/api/match", json=asked
    )
    assert done.status_code == 500
    assert "secret" not in done.text
