"""Web responses are read up to a limit, and redirects are followed only to allowed hosts."""

from __future__ import annotations

import gzip
import io
import pickle
import resource
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from x2kit.data.media.images import decode
from x2kit.data.storage import files, locations
from x2kit.data.storage.limits import LimitsConfig
from x2kit.data.storage.url_policy import AllowedUrl
from x2kit.data.storage.web_files import MAX_REDIRECTS
from x2kit.errors import DataError, Reason

pytest.importorskip("aiohttp", reason="the extra http")
MIB = 2**20
BOMB = gzip.compress(bytes(300 * MIB), 9)


def image() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Answers by path and counts what it was asked for; `/to/URL` redirects to a URL, `/round` to itself."""

    asked: list[str] = []  # noqa: RUF012

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.asked.append(self.path)
        if self.path.startswith(("/to/", "/round")):
            self.send_response(302)
            self.send_header("Location", self.path.removeprefix("/to/"))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        bodies = {
            "/bomb": BOMB,
            "/packed": gzip.compress(image()),
            "/photos/a.png": image(),
            "/empty": b"",
        }
        body = bodies.get(self.path)
        if body is None:
            self.send_error(404)
            return
        self.send_response(200)
        if self.path in ("/bomb", "/packed"):
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Says nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        Handler.asked = []
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


@pytest.fixture
def four_mebibytes() -> None:
    LimitsConfig(max_record_bytes=4 * MIB).apply()


def allowed(url: str, *hosts: str) -> AllowedUrl:
    return AllowedUrl(url, hosts or (url.partition("/to/")[0],))


def test_a_compressed_body_is_read_up_to_the_limit(server: str, four_mebibytes: None) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=f"{server}/bomb .*data.limits.max_record_bytes = {4 * MIB}") as error:
        decode(f"{server}/bomb")
    assert error.value.reason == Reason.BYTES_TOO_MANY
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert grown < 150  # MiB; aiohttp unpacks what it has received at once, at most a quarter of a MiB packed


def test_a_compressed_body_below_the_limit_is_decompressed(server: str) -> None:
    assert decode(f"{server}/packed").size == (4, 4)


def test_ranges_are_cut_from_the_body_if_the_server_supports_none(server: str) -> None:
    assert files.read(f"{server}/photos/a.png", 1, 4) == b"PNG"
    with files.open_file(f"{server}/photos/a.png") as file:
        assert file.read() == image()


def test_an_empty_body_is_an_empty_image(server: str) -> None:
    with pytest.raises(DataError) as error:
        decode(f"{server}/empty")
    assert error.value.reason == Reason.IMAGE_EMPTY


def test_a_404_is_a_missing_file(server: str) -> None:
    with pytest.raises(locations.FileMissing):
        files.read(f"{server}/nothing")


def test_a_redirect_within_the_hosts_is_followed(server: str) -> None:
    url = allowed(f"{server}/to/{server}/photos/a.png", server)
    assert decode(url).size == (4, 4)
    with files.open_file(url) as file:
        assert file.read() == image()


@pytest.mark.parametrize(
    "target", ["http://localhost:{port}/photos/a.png", "/photos/%2e%2e/secret", "file:///etc/passwd"]
)
@pytest.mark.parametrize("read", [files.read, files.read_limited, files.open_file])
def test_a_redirect_elsewhere_is_refused_before_it_is_followed(
    server: str, target: str, read: object
) -> None:
    port = server.rpartition(":")[2]
    url = f"{server}/to/{target.format(port=port)}"
    with pytest.raises(DataError, match="redirects to") as error:
        read(allowed(url, f"{server}/to", f"{server}/photos"))  # type: ignore[operator]
    assert error.value.reason == Reason.ADDRESS_REFUSED
    assert all(path.startswith("/to/") for path in Handler.asked)


def test_a_cycle_of_redirects_ends(server: str) -> None:
    with pytest.raises(DataError, match=f"more than {MAX_REDIRECTS} redirects"):
        files.read(allowed(f"{server}/round", server))
    assert len(Handler.asked) == MAX_REDIRECTS + 1


def test_a_url_of_the_recipe_follows_every_redirect(server: str) -> None:
    other = server.replace("127.0.0.1", "localhost")
    assert files.read(f"{server}/to/{other}/photos/a.png") == image()


def test_an_allowed_url_keeps_its_hosts(tmp_path: Path) -> None:
    url = allowed("https://a.org/b.png", "https://a.org")
    for same in (str(url), pickle.loads(pickle.dumps(url))):
        assert isinstance(same, AllowedUrl)
        assert same == "https://a.org/b.png"
        assert same.hosts == ("https://a.org",)
