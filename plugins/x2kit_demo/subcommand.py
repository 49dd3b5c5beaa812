"""Subcommand `x2kit demo`: serve the page of a model. Imports neither torch nor starlette."""

from __future__ import annotations

import re
import socket
from argparse import ArgumentParser, Namespace
from importlib.util import find_spec
from pathlib import Path

from x2kit.plugin import SettingError

HELP = "use a model in the browser: search, match, locate, explain, classify, ask, describe"
EXAMPLES = """\
examples:
  $ x2kit demo runs/quickstart
  $ x2kit demo runs/quickstart --index pictures.index
  $ x2kit demo runs/quickstart --examples scenes/records.jsonl --port 0
  $ x2kit demo weights/x2vlm-base --host 0.0.0.0 --allow-host demo.example.org
"""
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def add_arguments(parser: ArgumentParser) -> None:
    """Declare the options of the subcommand."""
    parser.add_argument(
        "model",
        type=str,
        metavar="MODEL",
        help="a run or weights directory, an official checkpoint, hf-hub:ORGANISATION/NAME, or a name of x2kit "
        "models list",
    )
    parser.add_argument(
        "--index", type=str, metavar="DIR", help="index of `x2kit search index`, for the tab Search"
    )
    parser.add_argument(
        "--examples",
        type=str,
        metavar="PATH",
        help="images to choose from: a folder, or JSON Lines with `image` and `caption`; by default some "
        "images of the index",
    )
    parser.add_argument("--host", type=str, default="127.0.0.1", help="address to listen on")
    parser.add_argument("--port", type=int, default=7860, help="port to listen on; 0 for any free one")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="also answer requests to this host name; repeatable",
    )
    parser.add_argument(
        "--max-upload", type=str, default="10MB", metavar="SIZE", help="largest image that is accepted"
    )
    parser.add_argument(
        "--device", type=str, default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps"
    )
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "bf16", "fp16"), default="fp32", help="of matrix products"
    )
    parser.add_argument(
        "--tokenizer", type=str, metavar="NAME_OR_DIR", help="of an official checkpoint, which has none"
    )
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="PLUGIN",
        help="plugin file or module that may be imported; repeatable",
    )
    parser.add_argument(
        "--trust-plugins", action="store_true", help="import the plugins that the weights name"
    )


def run(options: Namespace) -> int:
    """Load the model, then serve until Ctrl-C."""
    for package in ("starlette", "uvicorn"):
        if find_spec(package) is None:
            raise SettingError("demo", f'needs {package}, which is not installed: pip install "x2kit[demo]"')
    max_upload = parse_size(options.max_upload)
    # Before the model is loaded, which takes a while.
    listening = listen(options.host, options.port)
    with listening:
        from x2kit_demo.serving import load_demo, serve

        demo = load_demo(
            options.model,
            options.index,
            Path(options.examples) if options.examples else None,
            max_upload,
            device=options.device,
            precision=options.precision,
            tokenizer=options.tokenizer,
            plugins=options.plugin,
            trust_plugins=options.trust_plugins,
        )
        host, port = listening.getsockname()[:2]
        print(
            f"{options.model}: http://{f'[{host}]' if ':' in host else host}:{port}/   (Ctrl-C stops)",
            flush=True,
        )
        if host not in ("127.0.0.1", "::1"):
            print(
                "anyone who reaches this address can use the model and see the images of the index",
                flush=True,
            )
        serve(demo, listening, [options.host, *options.allow_host])
    return 0


def parse_size(text: str) -> int:
    """Convert a size such as 10MB or 500kB to bytes. Raises SettingError for another text."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)b?", text.strip().lower())
    size = int(float(found[1]) * UNITS[found[2]]) if found else 0
    if size < 1:
        raise SettingError("--max-upload", f"expected a size such as 10MB or 500kB, found {text!r}")
    return size


def listen(host: str, port: int) -> socket.socket:
    """Open the listening socket. Raises SettingError if the address is in use or does not exist."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise SettingError(
            "--port", f"cannot listen on {host}:{port} ({error}); --port 0 takes any free port"
        ) from error
