"""Foreign host names and foreign pages are refused; every answer has the security headers."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient
from x2kit_demo.app import Demo, build_app


@pytest.mark.parametrize(
    "host", ["127.0.0.1:7860", "localhost", "192.168.1.7:80", "[::1]:7860", "demo.example.org"]
)
def test_addresses_localhost_and_allowed_names_are_answered(demo: Demo, host: str) -> None:
    client = TestClient(build_app(demo, ["demo.example.org"]), base_url="http://127.0.0.1")
    assert client.get("/api/model", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example.com", "evil.example.com:7860", "localhost.evil.com", "", "[::1", "127.0.0.1@evil.com"],
)
def test_another_host_name_is_refused(client: TestClient, host: str) -> None:
    done = client.get("/api/model", headers={"Host": host})
    assert done.status_code == 403
    assert "is not allowed" in done.json()["error"]


def test_a_write_from_another_site_is_refused(client: TestClient) -> None:
    asked = {"content": b"", "headers": {"Origin": "http://evil.example.com"}}
    done = client.post("/api/images", **asked)
    assert (done.status_code, done.json()) == (
        403,
        {"error": "requests from http://evil.example.com are not allowed"},
    )
    own = {"Origin": "http://127.0.0.1:7860"}
    assert client.post("/api/images", content=b"", headers=own).status_code == 400


@pytest.mark.parametrize("path", ["/", "/main.js", "/api/model", "/no"])
def test_every_answer_has_a_strict_policy_and_no_cors(client: TestClient, path: str) -> None:
    headers = client.get(path, headers={"Origin": "http://127.0.0.1:7860"}).headers
    policy = headers["content-security-policy"].split("; ")
    assert policy[0] == "default-src 'self'"
    assert "unsafe" not in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert not [name for name in headers if name.startswith("access-control")]
