"""Download a file over https: resumable, with retries, checked by size and hash. Imports no torch.

FILE.part        bytes received so far
FILE.part.json   address, size and version of the file that they belong to

An interrupted download is resumed by a range request with If-Range, so bytes of two versions are never joined. A file
gets its final name after its hash was checked.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from x2kit.errors import StorageError, WeightsError
from x2kit.io.atomic import format_bytes, make_folder, storage_errors
from x2kit.io.identity import Progress, no_progress, sha256_of

if TYPE_CHECKING:
    import httpx2

ATTEMPTS = 5
"""Attempts without a received byte; a connection that delivers any starts counting again."""
FIRST_WAIT = 1.0
"""Seconds before the second attempt; every further wait doubles."""
MAX_REDIRECTS = 10
CHUNK = 8 * 2**20
LOOPBACK = ("127.0.0.1", "::1", "localhost")
_sleep = time.sleep


class Expected(NamedTuple):
    """Published facts of a file, None if not published."""

    size: int | None = None
    sha256: str | None = None


UNKNOWN = Expected()
"""Nothing was published."""


class _Interrupted(Exception):
    """A transfer stopped early; another attempt may succeed."""


def require_address(address: str) -> None:
    """Raise WeightsError unless an address is https, or http on this machine."""
    parts = urlsplit(address)
    if parts.scheme == "https" and parts.hostname:
        return
    if parts.scheme != "http" or parts.hostname not in LOOPBACK:
        raise WeightsError(f"{address}: refused; expected an https address")


def part_of(target: Path) -> Path:
    """Return the file that holds the bytes received so far."""
    return target.with_name(f"{target.name}.part")


def download(
    address: str, target: Path, expected: Expected = UNKNOWN, progress: Progress = no_progress
) -> str:
    """Download a file, resuming an interrupted download of the same file.

    Args:
        address: https; redirects must be https too.
        target: file to write.
        expected: what is known of the file.
        progress: called after each chunk.
    Returns: the SHA-256.
    Raises: WeightsError if the file cannot be fetched, or differs from what is expected; StorageError for a full disk.
        On Ctrl-C and on errors of the network the received bytes are kept.
    """
    require_address(address)
    part = part_of(target)
    with storage_errors(target, expected.size):
        make_folder(target.parent)
        try:
            _receive_all(address, part, expected, progress)
        except KeyboardInterrupt as stopped:
            raise KeyboardInterrupt(
                f"interrupted: {format_bytes(_held(part))} of {target.name} are kept; the same command resumes"
            ) from stopped
        found = sha256_of(part, progress)
        if expected.sha256 is not None and found != expected.sha256:
            _discard(part)
            raise WeightsError(
                f"{address}: SHA-256 {found}, expected {expected.sha256}; the file was changed or damaged on the way, "
                "so it was deleted"
            )
        os.replace(part, target)  # noqa: PTH105
        _state_of(part).unlink(missing_ok=True)
    return found


def _receive_all(address: str, part: Path, expected: Expected, progress: Progress) -> None:
    import httpx2

    failures = 0
    with httpx2.Client(timeout=httpx2.Timeout(30.0)) as client:
        while True:
            before = _held(part)
            try:
                _receive(client, address, part, expected, progress)
                return
            except (httpx2.TransportError, httpx2.DecodingError, _Interrupted) as error:
                failures = 0 if _held(part) > before else failures + 1
                if failures == ATTEMPTS:
                    held = _held(part)
                    kept = f"; {format_bytes(held)} are kept, so the same command resumes" if held else ""
                    reason = str(error) or type(error).__name__
                    raise WeightsError(
                        f"{address}: cannot be fetched, tried {ATTEMPTS} times: {reason}{kept}"
                    ) from error
                _sleep(FIRST_WAIT * 2 ** max(failures - 1, 0))


def _receive(client: httpx2.Client, address: str, part: Path, expected: Expected, progress: Progress) -> None:
    """Send one request for the missing bytes and append them."""
    state = _read_state(part, address)
    held = _held(part)
    headers = {"Accept-Encoding": "identity"}
    if held:
        headers |= {"Range": f"bytes={held}-", "If-Range": state["version"]}
    with _response(client, address, headers) as response:
        if response.status_code == 416:  # nothing after the held bytes, or another file
            if held != state.get("size"):
                _discard(part)
                raise _Interrupted("the server refuses the range")
            return
        start = held if response.status_code == 206 else 0
        total = _total(response, start, address)
        if start and total != state.get("size"):
            _discard(part)
            raise _Interrupted("the file has changed on the server")
        if expected.size is not None and total is not None and total != expected.size:
            _discard(part)
            raise WeightsError(
                f"{address}: has {total} bytes, expected {expected.size}; the file was changed"
            )
        _require_space(part, (total or 0) - start)
        if not start:
            _write_state(part, {"address": address, "size": total, "version": _version(response)})
        with part.open("ab" if start else "wb") as file:
            for chunk in response.iter_raw():  # as they arrive, so that none is lost
                file.write(chunk)
                start += len(chunk)
                progress(f"downloading {part.name.removesuffix('.part')}", start, total)
        if total is not None and start != total:
            if start > total:
                _discard(part)
            raise _Interrupted(f"the connection ended after {start} of {total} bytes")


@contextmanager
def _response(client: httpx2.Client, address: str, headers: Mapping[str, str]) -> Iterator[httpx2.Response]:
    """Open the response after all redirects, each checked; its body is not read yet."""
    target = address
    for _ in range(MAX_REDIRECTS + 1):
        with client.stream("GET", target, headers=dict(headers), follow_redirects=False) as response:
            if not response.is_redirect:
                _require_file(response, target)
                yield response
                return
            target = urljoin(target, response.headers["Location"])
        require_address(target)
        if urlsplit(address).scheme == "https" and urlsplit(target).scheme != "https":
            raise WeightsError(f"{address}: redirects to {target}, refused; expected an https address")
    raise WeightsError(f"{address}: more than {MAX_REDIRECTS} redirects")


def _require_file(response: httpx2.Response, address: str) -> None:
    status = response.status_code
    if status in (408, 425, 429) or status >= 500:
        raise _Interrupted(f"the server answered {status} {response.reason_phrase}")
    if status not in (200, 206, 416):
        raise WeightsError(f"{address}: the server answered {status} {response.reason_phrase}")
    if response.headers.get("Content-Type", "").startswith("text/html"):
        raise WeightsError(f"{address}: the server answered a web page instead of the file")


def _total(response: httpx2.Response, start: int, address: str) -> int | None:
    """Return the size of the whole file. Raises _Interrupted for an answer that does not begin at `start`."""
    if response.status_code == 206:
        unit, _, rest = response.headers.get("Content-Range", "").partition(" ")
        span, _, size = rest.partition("/")
        if unit != "bytes" or span.partition("-")[0] != str(start):
            raise WeightsError(f"{address}: the server answered another range than bytes {start}-")
        return int(size) if size.isdecimal() else None
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() else None


def _version(response: httpx2.Response) -> str | None:
    """Return the validator of If-Range: a strong ETag, else the time of the last change."""
    tag: str | None = response.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else response.headers.get("Last-Modified")


def _read_state(part: Path, address: str) -> dict[str, Any]:
    """Read the state of the received bytes; discard them if they are from elsewhere or of an unknown version."""
    try:
        state: dict[str, Any] = json.loads(_state_of(part).read_text(encoding="utf-8"))
        if state["address"] == address and isinstance(state["version"], str):
            return state
    except (OSError, ValueError, KeyError, TypeError):
        pass  # no state, or one cut off by a killed process
    _discard(part)
    return {}


def _write_state(part: Path, state: Mapping[str, Any]) -> None:
    temporary = _state_of(part).with_suffix(".tmp")
    temporary.write_text(json.dumps(state) + "\n", encoding="utf-8")
    os.replace(temporary, _state_of(part))  # noqa: PTH105


def _state_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _held(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _state_of(part).unlink(missing_ok=True)


def _require_space(part: Path, needed: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if needed > free:
        raise StorageError(
            f"{part}: not written: disk full; {format_bytes(needed)} needed, {format_bytes(free)} free in "
            f"{part.parent}; another folder: X2KIT_CACHE"
        )
