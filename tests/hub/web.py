"""A web server on this machine with faults: cut connections, no ranges, another file, redirects."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Site:
    """Files of the server, and its faults.

    Attributes:
        files: by path.
        cut: bytes after which a connection is closed, one entry a request; None sends the whole.
        status: of the next answers in place of the file.
        piece: most bytes of a part.
        ranges: whether range requests are answered with a part.
        tag: whether answers have an ETag.
        kind: Content-Type.
        redirects: from path to address.
        slow: seconds between pieces.
        asked: path, Range and If-Range of every request.
    """

    files: dict[str, bytes]
    cut: list[int | None] = field(default_factory=list)
    status: list[int] = field(default_factory=list)
    piece: int = 2**30
    ranges: bool = True
    tag: bool = True
    kind: str = "application/octet-stream"
    redirects: dict[str, str] = field(default_factory=dict)
    slow: float = 0.0
    asked: list[tuple[str, str | None, str | None]] = field(default_factory=list)
    address: str = ""

    def of(self, path: str) -> str:
        """Address of a file."""
        return f"{self.address}/{path}"


@contextmanager
def serving(site: Site) -> Iterator[Site]:
    """Serve the files on a free port of 127.0.0.1."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *arguments: object) -> None: ...

        def do_GET(self) -> None:
            answer(self, site)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    site.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield site
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def answer(request: BaseHTTPRequestHandler, site: Site) -> None:
    path = request.path.lstrip("/")
    site.asked.append((path, request.headers.get("Range"), request.headers.get("If-Range")))
    if site.status:
        empty(request, site.status.pop(0))
    elif path in site.redirects:
        empty(request, 302, Location=site.redirects[path])
    elif path not in site.files:
        empty(request, 404)
    else:
        send(request, site, site.files[path])


def empty(request: BaseHTTPRequestHandler, status: int, **headers: str) -> None:
    request.send_response(status)
    for name, value in {**headers, "Content-Length": "0"}.items():
        request.send_header(name, value)
    request.end_headers()


def send(request: BaseHTTPRequestHandler, site: Site, content: bytes) -> None:
    tag = f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    asked, wanted = request.headers.get("Range"), request.headers.get("If-Range")
    start = 0
    if asked and site.ranges and wanted in (None, tag):
        start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(content):
            empty(request, 416, **{"Content-Range": f"bytes */{len(content)}"})
            return
    request.send_response(206 if start else 200)
    if start:
        end = min(len(content), start + site.piece)
        request.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        content = content[:end]
    if site.tag:
        request.send_header("ETag", tag)
    request.send_header("Content-Type", site.kind)
    request.send_header("Content-Length", str(len(content) - start))
    request.end_headers()
    cut = site.cut.pop(0) if site.cut else None
    body = content[start:] if cut is None else content[start : start + cut]
    for place in range(0, len(body), 2**16):
        try:
            request.wfile.write(body[place : place + 2**16])
            request.wfile.flush()
        except OSError:  # the other end was killed
            break
        time.sleep(site.slow)
    if cut is not None:
        request.close_connection = True
