"""Options that the actions of `x2kit search` share, and the index that they open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jsonargparse

from x2kit.cli.parser import add_plugin_argument

if TYPE_CHECKING:
    from x2kit.search.index import SearchIndex


def add_index_argument(parser: jsonargparse.ArgumentParser) -> None:
    """Add the index and plugins."""
    parser.add_argument("index", help="folder or URL of the index")
    add_plugin_argument(parser)


def add_model_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the model and the device that encode a query."""
    parser.add_argument(
        "--model", type=str, metavar="M", help="the model of the index, if it has moved since indexing"
    )
    parser.add_argument(
        "--device", type=str, default="auto", help="device of the model: auto, cpu, cuda, cuda:1, mps"
    )
    parser.add_argument(
        "--roots",
        action="append",
        default=[],
        metavar="FOLDER",
        help="folder or URL whose files may be opened, in addition to those that you have indexed; repeatable",
    )


def open_index(options: jsonargparse.Namespace) -> SearchIndex:
    """Open the index of the options."""
    from x2kit.search.index import open_index

    return open_index(
        options.index,
        getattr(options, "model", None),
        roots=getattr(options, "roots", ()),
        device=getattr(options, "device", "auto"),
        plugins=options.plugin,
    )
