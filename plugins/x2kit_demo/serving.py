"""Load what the page shows and serve it."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image

import x2kit
from x2kit.plugin import HeadError
from x2kit_demo.app import Demo, build_app
from x2kit_demo.examples import read_examples
from x2kit_demo.searching import index_examples
from x2kit_demo.tasks import find_missing

FROM_INDEX = 12
"""Number of examples from an index."""
NO_INDEX = """\
there is no index; make one and restart:
x2kit search index FOLDER --model MODEL --index DIR
x2kit demo MODEL --index DIR"""


def load_demo(name: str, index: str | None, examples: Path | None, max_upload: int, **loading: Any) -> Demo:
    """Load the model and the index, and try every task once.

    Args:
        name: as for `x2kit.load`.
        index: directory of an index; None for no search.
        examples: as for `read_examples`; by default some images of the index.
        max_upload: bytes of an uploaded image.
        loading: further arguments of `x2kit.load`.
    Raises: X2KitError if something cannot be loaded.
    """
    chosen = read_examples(examples) if examples else []
    model = x2kit.load(name, **loading)
    trusted = {key: loading[key] for key in ("plugins", "trust_plugins")}
    opened = x2kit.open_index(index, model, **trusted) if index else None
    if opened is not None and not examples:
        chosen = list(index_examples(opened, FROM_INDEX))
    missing = find_missing(model, Image.new("RGB", (64, 64), "gray"), HeadError)
    if opened is None:
        missing["search"] = NO_INDEX
    facts = {"device": str(model.device), "precision": model.precision}
    return Demo(model, opened, chosen, missing, facts, max_upload)


def serve(demo: Demo, listening: socket.socket, hosts: Sequence[str]) -> None:
    """Serve until Ctrl-C.

    Args:
        demo: what the page shows.
        listening: the open socket.
        hosts: allowed host names.
    """
    config = uvicorn.Config(
        build_app(demo, hosts),
        log_level="warning",
        access_log=False,
        server_header=False,
        lifespan="off",
        limit_concurrency=200,
        timeout_graceful_shutdown=3,
    )
    uvicorn.Server(config).run(sockets=[listening])
