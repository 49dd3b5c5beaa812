"""`x2kit search serve`: answer queries over HTTP with JSON."""

from __future__ import annotations

import jsonargparse

from x2kit.cli.search.opening import add_index_argument, add_model_arguments, open_index
from x2kit.errors import X2KitError

HELP = "answer queries over HTTP with JSON, on this machine unless told otherwise"
EXAMPLES = """\
examples:
  x2kit search serve photos.index --port 8000
  curl 'http://127.0.0.1:8000/search?q=ein+Affe&k=5'
  curl http://127.0.0.1:8000/search --json '{"parts": [{"text": "a dog"}, {"text": "snow", "weight": -1}]}'
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the index and the address."""
    add_index_argument(parser)
    parser.add_argument("--host", type=str, default="127.0.0.1", help="address to listen on; 0.0.0.0 for all")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on")
    add_model_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Serve until interrupted."""
    try:
        import uvicorn

        from x2kit.search.serving import application
    except ImportError as error:
        raise X2KitError(f"serve needs the extra search ({error}): pip install 'x2kit[search]'") from error
    with open_index(options) as index:
        _ = index.model  # the first query should not wait for it
        hosts = ["*"] if options.host not in ("127.0.0.1", "localhost") else ["127.0.0.1", "localhost"]
        print(f"http://{options.host}:{options.port}", flush=True)
        uvicorn.run(application(index, hosts), host=options.host, port=options.port, log_level="warning")
    return 0
