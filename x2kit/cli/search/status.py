"""`x2kit search status`: print counts, size and model of an index."""

from __future__ import annotations

import json

import jsonargparse

from x2kit.cli.search.opening import add_index_argument, open_index
from x2kit.io.atomic import format_bytes

HELP = "print number of files, size, model, columns and the state of the approximate index"
EXAMPLES = """\
examples:
  x2kit search status photos.index
  x2kit search status photos.index --json
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the index and the output."""
    add_index_argument(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: jsonargparse.Namespace) -> int:
    """Print the status."""
    with open_index(options) as index:
        status = index.status()
    if options.json:
        print(json.dumps(status, ensure_ascii=False))
        return 0
    size = "size unknown" if status["bytes"] is None else format_bytes(status["bytes"])
    print(f"{status['rows']} rows, {status['gone']} of them gone, {size}, version {status['version']}")
    print(
        f"model: {status['model']} ({status['dim']} x {status['dtype']}, SHA-256 {status['fingerprint'][:12]}…)"
    )
    print(f"search: {status['kind']}, {status['unindexed']} rows searched exactly")
    if (built := status["last_build"]) and built.get("recall") is not None:
        print(f"recall@10 against exact: {built['recall']:.3f} ({built['queries']} queries)")
    print("columns: " + ", ".join(f"{name} ({kind})" for name, kind in status["columns"].items()))
    return 0
