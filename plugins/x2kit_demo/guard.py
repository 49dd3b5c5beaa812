"""ASGI middleware: allowed hosts, same-origin writes, limited bodies and security headers."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class Guard:
    """Refuse requests to unknown host names and from other sites.

    A web page elsewhere can point its own name at this address (DNS rebinding), so that its script reads the
    answers; its requests carry its name in `Host`. Addresses in numbers cannot be rebound and are accepted.

    Args:
        app: the application.
        names: further allowed host names, beside localhost and the name of this machine.
    """

    def __init__(self, app: ASGIApp, names: Sequence[str] = ()) -> None:
        self._app = app
        self._names = {"localhost", socket.gethostname().lower(), *(name.lower() for name in names)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request with an error; pass others on with security headers added to the response."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        error = self._refuse(scope) if scope["type"] == "http" else None
        app = JSONResponse({"error": error}, 403) if error else self._app
        await app(scope, receive, send_with_headers)

    def _refuse(self, scope: Scope) -> str | None:
        """Return why a request is refused; None if it is not."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._allowed(host):
            return f"host {host!r} is not allowed; start `x2kit demo` with --allow-host NAME"
        origin = headers.get("origin")
        if scope["method"] not in ("GET", "HEAD") and origin and urlsplit(origin).netloc != host:
            return f"requests from {origin} are not allowed"
        return None

    def _allowed(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
            return name in self._names or bool(ip_address(name))
        except ValueError:  # no number, or no host at all
            return False


async def read_body(request: Request, limit: int) -> bytes:
    """Read a request's body. Raises HTTPException with status 413 above the limit, before reading more.

    Args:
        request: the request.
        limit: bytes.
    """
    too_large = HTTPException(413, f"more than the {limit:,} bytes allowed")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit:
        raise too_large
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > limit:
            raise too_large
    return bytes(body)
