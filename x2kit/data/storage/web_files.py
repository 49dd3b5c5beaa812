"""Bodies from web servers: read up to a bound, each redirect checked before it is followed. Imports no torch.

fsspec reads a body whole and follows every redirect, and aiohttp unpacks whatever declares gzip or deflate. Here a
body is taken piece by piece as it is unpacked, and the connection is closed where there is more than was asked for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin

from x2kit.data.storage.limits import too_many_bytes
from x2kit.data.storage.url_policy import AllowedUrl, is_allowed, refused
from x2kit.errors import DataError, Reason

MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PARTIAL = 206


def is_web(fs: Any) -> bool:
    """Whether a file system of fsspec is that of web servers."""
    return "https" in fs.protocol


def read_body(
    fs: Any,
    url: str,
    start: int = 0,
    end: int | None = None,
    *,
    most: int | None = None,
    hosts: Sequence[str] | None,
) -> bytes:
    """The bytes of a body from `start` up to, not with, `end`; all if that is None.

    Args:
        fs: fsspec's file system of web servers.
        url: of the file.
        start: first byte.
        end: byte after the last; fewer are returned where the body is shorter.
        most: bytes that a whole body may unpack to; None for any number.
        hosts: that redirects may lead to, see `x2kit.data.storage.url_policy`; None follows all.
    Raises: DataError for a redirect to another host and for more than `most` bytes, FileNotFoundError, and what
        aiohttp raises.
    """
    from fsspec.asyn import sync

    content: bytes = sync(fs.loop, _body, fs, url, start, end, most, hosts)
    return content


def final_address(fs: Any, url: str, hosts: Sequence[str]) -> AllowedUrl:
    """Where redirects lead, each checked. Raises as `read_body`."""
    from fsspec.asyn import sync

    return AllowedUrl(sync(fs.loop, _followed, fs, url, hosts), hosts)


async def _body(
    fs: Any, url: str, start: int, end: int | None, most: int | None, hosts: Sequence[str] | None
) -> bytes:
    whole = not start and end is None
    async with _answer(fs, url, None if whole else (start, end), hosts) as answer:
        skipped = 0 if answer.status == _PARTIAL else start  # a server without ranges sends all of the file
        bound = None if end is None else end - start + skipped
        pieces, size = [], 0
        async for piece in answer.content.iter_any():
            pieces.append(piece)
            size += len(piece)
            if most is not None and size > most:
                raise too_many_bytes(url)
            if bound is not None and size >= bound:
                break
        content = b"".join(pieces)
        return content if (skipped, bound) == (0, None) else content[skipped:bound]


async def _followed(fs: Any, url: str, hosts: Sequence[str]) -> str:
    async with _answer(fs, url, (0, 1), hosts) as answer:
        return str(answer.url)


@asynccontextmanager
async def _answer(
    fs: Any, url: str, span: tuple[int, int | None] | None, hosts: Sequence[str] | None
) -> AsyncIterator[Any]:
    """The answer of the server at the end of all redirects, its body not read."""
    session = await fs.set_session()
    options = dict(fs.kwargs)
    headers = {**options.pop("headers", {}), "Accept-Encoding": "identity"}
    if span is not None:
        headers["Range"] = f"bytes={span[0]}-{'' if span[1] is None else span[1] - 1}"
    options.update(headers=headers, allow_redirects=hosts is None)
    for _ in range(MAX_REDIRECTS + 1):
        async with session.get(fs.encode_url(url), **options) as answer:
            if hosts is None or answer.status not in _REDIRECTS or "Location" not in answer.headers:
                if answer.status == 404:
                    raise FileNotFoundError(url)
                answer.raise_for_status()
                yield answer
                return
            target = urljoin(str(answer.url), answer.headers["Location"])
        if not is_allowed(target, hosts):
            raise refused(f"{url} redirects to {target}", hosts)
        url = target
    raise DataError(f"{url}: more than {MAX_REDIRECTS} redirects", reason=Reason.REMOTE_UNREADABLE)
