"""`x2kit search build`: build the approximate index of a large table, and print its recall."""

from __future__ import annotations

import sys

import jsonargparse

from x2kit.cli.search.opening import add_index_argument, open_index

HELP = "build the approximate index of a large table and print its recall against exact search"
EXAMPLES = """\
examples:
  x2kit search build photos.index

`x2kit search index` starts this in the background when a tenth of a large table is not in the approximate index.
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the index."""
    add_index_argument(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Build and print the report."""
    with open_index(options) as index:
        report = index.build(lambda stage: print(stage, file=sys.stderr))
    print(f"{options.index}: {report.kind}, {report.rows} rows in {report.seconds:.1f} s")
    if report.recall is not None:
        print(f"recall@10 against exact: {report.recall:.3f} ({report.queries} stored vectors as queries)")
    return 0
