"""`x2kit search export`: write the rows of an index to a Parquet file."""

from __future__ import annotations

import jsonargparse

from x2kit.cli.search.opening import add_index_argument, open_index

HELP = "write ids, columns and vectors to a Parquet file, for Spark, Ray, DuckDB, Milvus and others"
EXAMPLES = """\
examples:
  x2kit search export photos.index --to photos.parquet
  x2kit search export photos.index --to new.parquet --where "modified > '2024'"
  x2kit search export photos.index --to names.parquet --columns path,size --no-vectors

the file: id, the columns, and vector as a list of fixed size, float16 or float32; the metadata of its schema names
the model and the hash of its weights
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the index, the file and the condition."""
    add_index_argument(parser)
    parser.add_argument("--to", type=str, required=True, metavar="FILE", help="Parquet file to write")
    parser.add_argument("--where", type=str, default="", metavar="SQL", help="condition on the columns")
    parser.add_argument("--columns", type=str, metavar="NAME,…", help="columns to write; all by default")
    parser.add_argument("--no-vectors", action="store_true", help="write ids and columns alone")


def run(options: jsonargparse.Namespace) -> int:
    """Write the file and print the number of rows."""
    with open_index(options) as index:
        count = index.export(
            options.to,
            options.where,
            columns=None if options.columns is None else options.columns.split(","),
            vectors=not options.no_vectors,
        )
    print(f"{options.to}: {count} rows")
    return 0
