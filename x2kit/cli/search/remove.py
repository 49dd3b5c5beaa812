"""`x2kit search remove`: delete rows of an index; the files stay."""

from __future__ import annotations

import jsonargparse

from x2kit.cli.search.opening import add_index_argument, open_index
from x2kit.errors import X2KitError

HELP = "delete rows by a condition, or those of files that no longer exist; the files stay"
EXAMPLES = """\
examples:
  x2kit search remove photos.index --where "path LIKE '/home/me/photos/private/%'"
  x2kit search remove photos.index --gone
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the index and the conditions."""
    add_index_argument(parser)
    parser.add_argument(
        "--where", type=str, metavar="SQL", help='condition on the columns; "TRUE" for all rows'
    )
    parser.add_argument("--gone", action="store_true", help="rows of files that no longer exist")


def run(options: jsonargparse.Namespace) -> int:
    """Delete, free the space, and print the number of rows."""
    if (options.where is None) == (not options.gone):
        raise X2KitError("give one of --where SQL and --gone")
    with open_index(options) as index:
        count = index.remove("gone IS NOT NULL" if options.gone else options.where)
        index.compact()
    print(f"{options.index}: {count} rows deleted")
    return 0
