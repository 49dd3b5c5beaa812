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
  x2kit search remove photos.index --where "modified < '2010'" --dry-run
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the index and the conditions."""
    add_index_argument(parser)
    parser.add_argument(
        "--where", type=str, metavar="SQL", help='condition on the columns; "TRUE" for all rows'
    )
    parser.add_argument("--gone", action="store_true", help="rows of files that no longer exist")
    parser.add_argument("--dry-run", action="store_true", help="count the rows, delete none")


def run(options: jsonargparse.Namespace) -> int:
    """Delete, free the space, and print the number of rows."""
    if (options.where is None) == (not options.gone):
        raise X2KitError("give one of --where SQL and --gone")
    where = "gone IS NOT NULL" if options.gone else options.where
    with open_index(options) as index:
        if options.dry_run:
            print(f"{options.index}: {index.table.count(where)} rows would be deleted")
            return 0
        count = index.remove(where)
        index.compact()
    print(f"{options.index}: {count} rows deleted")
    return 0
