"""`x2kit search build`: build the approximate index of a large table, and print its recall."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict

import jsonargparse

from x2kit.cli.search.opening import add_index_argument, open_index

HELP = "build the approximate index of a large table and print its recall against exact search"
EXAMPLES = """\
examples:
  x2kit search build photos.index
  x2kit search build photos.index --json
  x2kit search query photos.index "a dog" --exact      # without the approximate index

`x2kit search index` starts this in the background when a tenth of a large table is not in the approximate index.
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the index and the output."""
    add_index_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the report as JSON")


def run(options: jsonargparse.Namespace) -> int:
    """Build, printing each stage to standard error, and print the report."""
    with open_index(options) as index:
        report = index.build(lambda stage: print(stage, file=sys.stderr))
    if options.json:
        print(json.dumps(asdict(report)))
        return 0
    print(f"{options.index}: {report.kind}, {report.rows} rows in {report.seconds:.1f} s")
    if report.recall is not None:
        print(f"recall@10 against exact: {report.recall:.3f} ({report.queries} stored vectors as queries)")
    return 0
