"""Answer queries over HTTP with JSON: a Starlette application.

GET  /search?q=TEXT&k=10&where=SQL&rerank=0   hits of a text
POST /search                                  {"parts": [{"text": …} or {"image": base64}, each with weight and, for an
                                              image, box], "k": …, "where": …, "rerank": …, "locate": …}
GET  /image?id=ID&side=320                    JPEG of a row
GET  /status                                  counts and model

Errors have the status 400 and {"error": message}.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from x2kit.errors import DataError, X2KitError
from x2kit.search.index import SearchIndex
from x2kit.search.manifest import quoted
from x2kit.search.queries import Region, Weighted
from x2kit.search.results import SearchHit, thumbnail

MAX_BODY = 32 * 2**20
"""Bytes of a request."""
MAX_HITS = 1000
MAX_SIDE = 2048


def application(index: SearchIndex, hosts: Sequence[str] = ("127.0.0.1", "localhost")) -> Starlette:
    """Build the application.

    Args:
        index: open, with its model.
        hosts: accepted values of the header Host, so that other web pages cannot reach a local server by a name of
            their own; ["*"] accepts all.
    """

    def route(path: str, answer: Callable[[SearchIndex, Request, bytes], Response], *methods: str) -> Route:
        async def handle(request: Request) -> Response:
            body = await _body(request)
            return await run_in_threadpool(answer, index, request, body)

        return Route(path, handle, methods=list(methods))

    return Starlette(
        routes=[
            route("/search", _search, "GET", "POST"),
            route("/image", _image, "GET"),
            route("/status", _status, "GET"),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))],
        exception_handlers={X2KitError: _refuse},
    )


async def _refuse(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, status_code=400)


async def _body(request: Request) -> bytes:
    """Read the body up to the limit."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise HTTPException(413, f"a request has at most {MAX_BODY} bytes")
        parts.append(part)
    return b"".join(parts)


def _search(index: SearchIndex, request: Request, body: bytes) -> Response:
    if request.method == "GET":
        given: Mapping[str, Any] = request.query_params
        parts: list[Any] = [given["q"]] if given.get("q") else []
    else:
        given = _object(body)
        parts = [_part(each) for each in _list(given.get("parts"))]
    results = index.query(
        *parts,
        k=min(_integer(given, "k", 10), MAX_HITS),
        where=str(given.get("where", "")),
        rerank=min(_integer(given, "rerank", 0), MAX_HITS),
        locate=str(given.get("locate", "")).lower() in ("true", "1"),
    )
    return JSONResponse(results.to_dict())


def _status(index: SearchIndex, request: Request, body: bytes) -> Response:
    return JSONResponse(index.status())


def _image(index: SearchIndex, request: Request, body: bytes) -> Response:
    """Return a thumbnail of a row; its file is opened by the rules of the index."""
    name = request.query_params.get("id", "")
    side = max(16, min(_integer(request.query_params, "side", 320), MAX_SIDE))
    columns = list(index.table.spec.columns)
    for rows in index.table.scan(columns, f"id = {quoted(name)}"):
        if len(rows):
            values = {column: rows.columns[column][0] for column in columns}
            image = index.open(SearchHit(values["path"], 0.0, columns=values))
            return Response(thumbnail(image, side), media_type="image/jpeg")
    raise DataError(f"no row {name!r}")


def _part(value: Any) -> Weighted:
    if not isinstance(value, dict) or ("text" in value) == ("image" in value):
        raise DataError('a part is {"text": …} or {"image": base64}')
    weight = value.get("weight", 1)
    if isinstance(weight, bool) or not isinstance(weight, int | float):
        raise DataError(f"weight: expected a number, found {weight!r}")
    if "text" in value:
        return Weighted(str(value["text"]), weight)
    try:
        image = base64.b64decode(value["image"], validate=True)
    except (binascii.Error, TypeError, ValueError) as error:
        raise DataError(f"image: not base64: {error}") from error
    if "box" not in value:
        return Weighted(image, weight)
    box = _list(value["box"])
    if len(box) != 4 or not all(isinstance(side, int | float) for side in box):
        raise DataError(f"box: expected [x, y, width, height] in pixels, found {box!r}")
    return Weighted(Region(image, (box[0], box[1], box[2], box[3])), weight)


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        found = json.loads(body)
    except ValueError as error:
        raise DataError(f"the body is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise DataError("the body should be a JSON object")
    return found


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise DataError(f"expected a list, found {value!r}")
    return value


def _integer(values: Mapping[str, Any], name: str, default: int) -> int:
    try:
        return int(values.get(name, default))
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: expected an integer, found {values.get(name)!r}") from error
