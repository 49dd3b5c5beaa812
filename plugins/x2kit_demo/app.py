"""Starlette application: the page, its JSON API, images. Imports no torch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from importlib.resources import files
from time import perf_counter
from typing import Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from pydantic import BaseModel, ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from x2kit.plugin import X2KitError
from x2kit_demo.examples import Example
from x2kit_demo.guard import Guard, read_body
from x2kit_demo.pictures import PREVIEW, THUMBNAIL, Opener, Pictures, encode
from x2kit_demo.searching import Search, search
from x2kit_demo.tasks import TASKS

MAX_JSON = 256 * 1024
DECODERS = 2
"""Images that are decoded at a time; each may need some hundred MB."""
TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
Body = TypeVar("Body", bound=BaseModel)


@dataclass
class Demo:
    """What the page shows.

    Attributes:
        model: a model of `x2kit.load`.
        index: an index of `x2kit.open_index`; None for no search.
        examples: images to choose from.
        missing: why a task is not possible, by name of the task.
        facts: name and value of what is said about the model.
        max_upload: bytes of an uploaded image.
        pictures: images by id.
    """

    model: Any
    index: Any = None
    examples: Sequence[Example] = ()
    missing: dict[str, str] = field(default_factory=dict)
    facts: dict[str, str] = field(default_factory=dict)
    max_upload: int = 10 * 10**6
    pictures: Pictures = field(default_factory=Pictures)

    def describe(self) -> dict[str, Any]:
        """Return what the page needs to start."""
        return {
            "name": self.model.name,
            "facts": self.facts,
            "languages": list(self.model.languages),
            "missing": self.missing,
            "columns": {} if self.index is None else dict(self.index.table.spec.columns),
            "images": None if self.index is None else len(self.index),
            "max_upload": self.max_upload,
            "examples": [
                {
                    "image": self.pictures.add(f"example {number}", each.opener),
                    "label": each.label,
                    "texts": each.texts,
                }
                for number, each in enumerate(self.examples)
            ],
        }


def build_app(demo: Demo, allowed_hosts: Sequence[str] = ()) -> Starlette:
    """Build the application.

    Args:
        demo: what it shows.
        allowed_hosts: host names that it answers to, beside localhost, this machine's name and addresses in numbers.
    """
    api = Api(demo)
    routes = [
        Route("/api/model", api.describe),
        Route("/api/images", api.upload, methods=["POST"]),
        Route("/api/images/{key}", partial(api.show, longest=PREVIEW)),
        Route("/api/images/{key}/thumbnail", partial(api.show, longest=THUMBNAIL)),
        Route("/api/search", api.search, methods=["POST"]),
        *(
            Route(f"/api/{name}", partial(api.compute, task=task), methods=["POST"])
            for name, task in TASKS.items()
        ),
        *_page_routes(),
    ]
    handlers: Any = {X2KitError: _user_error, HTTPException: _http_error, Exception: _internal_error}
    return Starlette(
        routes=routes, exception_handlers=handlers, middleware=[Middleware(Guard, names=allowed_hosts)]
    )


class Api:
    """Handlers of the JSON API. Models compute one request at a time, in a thread beside the event loop."""

    def __init__(self, demo: Demo) -> None:
        self._demo = demo
        self._computing, self._decoding = CapacityLimiter(1), CapacityLimiter(DECODERS)

    async def describe(self, request: Request) -> Response:
        """Answer with facts about the model, missing tasks, index and examples."""
        return JSONResponse(await run_sync(self._demo.describe, limiter=self._computing))

    async def upload(self, request: Request) -> Response:
        """Keep the image in the body and answer with its id and size."""
        content = await read_body(request, self._demo.max_upload)
        key, (width, height) = await run_sync(self._demo.pictures.upload, content, limiter=self._decoding)
        return JSONResponse({"image": key, "width": width, "height": height}, HTTPStatus.CREATED)

    async def show(self, request: Request, longest: int) -> Response:
        """Answer with an image, encoded again."""
        opener = self._picture(request.path_params["key"])
        content = await run_sync(encode, opener, longest, limiter=self._decoding)
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    async def compute(self, request: Request, task: type[Any]) -> Response:
        """Compute a task about one image."""
        wanted = await _parse(request, task)
        opener, model = self._picture(wanted.image), self._demo.model
        return await self._timed(lambda: wanted.compute(model, opener()))

    async def search(self, request: Request) -> Response:
        """Search the index."""
        wanted = await _parse(request, Search)
        if self._demo.index is None:
            raise HTTPException(404, "no index; start `x2kit demo` with --index DIR")
        opener = self._picture(wanted.image) if wanted.image else None
        return await self._timed(lambda: search(self._demo.index, wanted, opener, self._demo.pictures))

    async def _timed(self, call: Callable[[], dict[str, Any]]) -> Response:
        def measure() -> dict[str, Any]:
            started = perf_counter()
            found = call()
            return {**found, "seconds": round(perf_counter() - started, 4)}

        return JSONResponse(await run_sync(measure, limiter=self._computing))

    def _picture(self, key: str) -> Opener:
        try:
            return self._demo.pictures.get(key)
        except KeyError:
            raise HTTPException(404, "this image is no longer in memory; choose it again") from None


async def _parse(request: Request, kind: type[Body]) -> Body:
    content = await read_body(request, MAX_JSON)
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise HTTPException(400, f"{where}: {fault['msg']}" if where else fault["msg"]) from None


def _page_routes() -> list[Route]:
    """Make a route for each file of the page; no path of a request is opened."""
    page = {
        file.name: file.read_bytes() for file in (files("x2kit_demo") / "page").iterdir() if file.is_file()
    }
    return [
        Route(
            "/" if name == "index.html" else f"/{name}",
            _answer_with(content, TYPES[f".{name.split('.')[-1]}"]),
        )
        for name, content in page.items()
    ]


def _answer_with(content: bytes, media_type: str) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        return Response(content, media_type=media_type)

    return answer


async def _user_error(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, HTTPStatus.BAD_REQUEST)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


async def _internal_error(request: Request, error: Exception) -> Response:
    """Answer without details; starlette raises the error again, so that the server logs its traceback."""
    return JSONResponse({"error": "internal error; the terminal of `x2kit demo` shows it"}, 500)
