"""Read web responses up to a size limit, with checked redirects. Imports no torch.

fsspec reads a whole body and follows every redirect, and aiohttp decompresses gzip and deflate without a limit. Here
the decompressed body is read in chunks, and the connection is closed when it is longer than requested.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin

from x2kit.data.storage.limits import size_error
from x2kit.data.storage.url_policy import AllowedUrl, is_allowed, url_error
from x2kit.errors import DataError, Reason

MAX_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PARTIAL = 206


def is_web(fs: Any) -> bool:
    """Return whether an fsspec file system reads from web servers."""
    return "https" in fs.protocol


def read_body(
    fs: Any,
    url: str,
    start: int = 0,
    end: int | None = None,
    *,
    limit: int | None = None,
    hosts: Sequence[str] | None,
) -> bytes:
    """Read the body from `start` up to, not including, `end`; None for its end.

    Args:
        fs: fsspec file system of web servers.
        url: URL of the file.
        start: first byte.
        end: byte after the last; fewer are returned if the body is shorter.
        limit: largest decompressed size of a whole body in bytes; None for no limit.
        hosts: allowed hosts of redirects, see `x2kit.data.storage.url_policy`; None allows all.
    Raises: DataError for a redirect to another host and above `limit`, FileNotFoundError, and errors of aiohttp.
    """
    from fsspec.asyn import sync

    content: bytes = sync(fs.loop, _body, fs, url, start, end, limit, hosts)
    return content


def final_url(fs: Any, url: str, hosts: Sequence[str]) -> AllowedUrl:
    """Follow the redirects of a URL, checking each. Raises as `read_body`."""
    from fsspec.asyn import sync

    return AllowedUrl(sync(fs.loop, _final_url, fs, url, hosts), hosts)


async def _body(
    fs: Any, url: str, start: int, end: int | None, limit: int | None, hosts: Sequence[str] | None
) -> bytes:
    whole = not start and end is None
    async with _response(fs, url, None if whole else (start, end), hosts) as response:
        skipped = (
            0 if response.status == _PARTIAL else start
        )  # servers without range support send the whole file
        bound = None if end is None else end - start + skipped
        chunks, size = [], 0
        async for chunk in response.content.iter_any():
            chunks.append(chunk)
            size += len(chunk)
            if limit is not None and size > limit:
                raise size_error(url)
            if bound is not None and size >= bound:
                break
        content = b"".join(chunks)
        return content if (skipped, bound) == (0, None) else content[skipped:bound]


async def _final_url(fs: Any, url: str, hosts: Sequence[str]) -> str:
    async with _response(fs, url, (0, 1), hosts) as response:
        return str(response.url)


@asynccontextmanager
async def _response(
    fs: Any, url: str, span: tuple[int, int | None] | None, hosts: Sequence[str] | None
) -> AsyncIterator[Any]:
    """Open the response after all redirects; its body is not read yet."""
    session = await fs.set_session()
    options = dict(fs.kwargs)
    headers = {**options.pop("headers", {}), "Accept-Encoding": "identity"}
    if span is not None:
        headers["Range"] = f"bytes={span[0]}-{'' if span[1] is None else span[1] - 1}"
    options.update(headers=headers, allow_redirects=hosts is None)
    for _ in range(MAX_REDIRECTS + 1):
        async with session.get(fs.encode_url(url), **options) as response:
            if hosts is None or response.status not in _REDIRECTS or "Location" not in response.headers:
                if response.status == 404:
                    raise FileNotFoundError(url)
                response.raise_for_status()
                yield response
                return
            target = urljoin(str(response.url), response.headers["Location"])
        if not is_allowed(target, hosts):
            raise url_error(f"{url} redirects to {target}", hosts)
        url = target
    raise DataError(f"{url}: more than {MAX_REDIRECTS} redirects", reason=Reason.REMOTE_UNREADABLE)
