"""`x2kit search index`: bring an index up to date with folders, and create it if there is none."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse
import yaml

from x2kit.cli.inference.options import add_batch_arguments, add_device_arguments
from x2kit.cli.model_names import NAMES
from x2kit.cli.parser import add_plugin_argument
from x2kit.errors import X2KitError

if TYPE_CHECKING:
    from x2kit.search import IndexOptions, IndexReport

HELP = "index folders, tar shards and lists of images and videos; later calls encode what has changed"
EXAMPLES = """\
examples:
  x2kit search index photos --model runs/mine --index photos.index
  x2kit search index photos more.tar captions.jsonl --index photos.index      # what is new or changed
  x2kit search index s3://bucket/photos --model runs/mine --index s3://bucket/photos.index
  x2kit search index clips --model runs/mine --index clips.index --frames 8   # rows of single frames
  torchrun --nproc-per-node 8 -m x2kit search index photos --model runs/mine --index photos.index

exit status: 0 all files are indexed, 1 some are broken (each is named), 2 nothing was done
"""
BUILD_FROM = 100_000
"""Rows from which the approximate index is built in the background; below, an exact search takes milliseconds."""
_SHOWN = 20


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add sources, index, model and settings."""
    parser.add_argument(
        "sources", nargs="+", help="folders, files, .tar shards, .jsonl or .parquet lists; paths or URLs"
    )
    parser.add_argument("--index", type=str, required=True, metavar="DIR", help="folder or URL of the index")
    parser.add_argument(
        "--model",
        type=str,
        metavar="M",
        help=f"{NAMES}; needed once",
    )
    _add_table_arguments(parser)
    parser.add_argument(
        "--image-root", type=str, metavar="DIR", help="folder that paths of lists are relative to"
    )
    parser.add_argument(
        "--image-host",
        action="append",
        default=[],
        metavar="URL",
        help="scheme and host that URLs of lists may have",
    )
    parser.add_argument(
        "--part", type=str, default="1/1", metavar="K/N", help="index part K of N of the files"
    )
    parser.add_argument("--retry-broken", action="store_true", help="try unreadable files again")
    add_batch_arguments(parser, 64, workers=True)
    add_device_arguments(parser)
    parser.add_argument(
        "--no-build", action="store_true", help="build no approximate index in the background"
    )
    parser.add_argument("--json", action="store_true", help="print the report as JSON")
    add_plugin_argument(parser)


def _add_table_arguments(parser: jsonargparse.ArgumentParser) -> None:
    parser.add_argument(
        "--store",
        type=str,
        metavar="NAME",
        help="component of the table, see x2kit plugins list --kind index",
    )
    parser.add_argument(
        "--store-settings", type=str, default="{}", metavar="YAML", help="settings of the component"
    )
    parser.add_argument(
        "--dtype", choices=("float16", "float32"), default="float16", help="type of stored vectors"
    )
    parser.add_argument(
        "--columns",
        type=str,
        metavar="NAME:TYPE,…",
        help="metadata columns: text, integer, number or boolean",
    )
    parser.add_argument(
        "--frames", type=int, default=0, metavar="N", help="frames of each video with a row each"
    )
    parser.add_argument("--regions", action="store_true", help="a row for each box in the lists")


def run(options: jsonargparse.Namespace) -> int:
    """Index and print the report; 1 if files are broken."""
    settings = _options(options)
    from x2kit.distributed.processes import started_processes
    from x2kit.search.indexing import index_folders
    from x2kit.terminal import TaskProgress

    with started_processes() as processes:
        with TaskProgress() as bar:
            report = index_folders(
                options.sources,
                options.index,
                options.model,
                settings,
                progress=(lambda done, total: bar("encoding", done, total))
                if processes.is_rank_zero
                else None,
                processes=processes,
            )
        if processes.is_rank_zero:
            _print(report, options)
            if not options.no_build and report.added + report.updated:
                _build_in_background(options)
    return 1 if report.broken else 0


def _options(options: jsonargparse.Namespace) -> IndexOptions:
    from x2kit.search.binding import LoadOptions
    from x2kit.search.changes import Part
    from x2kit.search.indexing import IndexOptions
    from x2kit.search.lists import ListOptions

    try:
        number, count = (int(part) for part in options.part.split("/"))
    except ValueError:
        number, count = 0, 0
    if not 1 <= number <= count:
        raise X2KitError(f"--part: expected K/N with K from 1 to N, such as 2/8, found {options.part}")
    return IndexOptions(
        store=options.store,
        settings=_settings(options.store_settings),
        dtype=options.dtype,
        columns=_columns(options.columns),
        frames=options.frames,
        regions=options.regions,
        lists=ListOptions(options.image_root, tuple(options.image_host)),
        part=Part(number - 1, count),
        retry_broken=options.retry_broken,
        batch_size=options.batch_size,
        workers=options.workers,
        load=LoadOptions(options.device, options.precision, tuple(options.plugin)),
    )


def _settings(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise X2KitError(f"--store-settings: not YAML: {error}") from error
    if not isinstance(found, dict):
        raise X2KitError(f"--store-settings: expected a mapping such as '{{url: …}}', found {text}")
    return found


def _columns(text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    pairs = [part.strip().partition(":") for part in text.split(",") if part.strip()]
    return {name: kind or "text" for name, _, kind in pairs}


def _print(report: IndexReport, options: jsonargparse.Namespace) -> None:
    if options.json:
        print(json.dumps(report.to_dict(), ensure_ascii=False))
        return
    from x2kit.search.results import printable

    print(f"{options.index}: {report}")
    if report.skipped_columns:
        print(f"  no column in this index: {', '.join(report.skipped_columns)}")
    for error in report.broken[:_SHOWN]:
        print(f"  broken: {printable(error.name)}: {printable(error.message)}", file=sys.stderr)
    if len(report.broken) > _SHOWN:
        print(f"  and {len(report.broken) - _SHOWN} more broken files: --json lists all", file=sys.stderr)


def _build_in_background(options: jsonargparse.Namespace) -> None:
    """Start a process that builds the approximate index, if a tenth of a large table is not in it."""
    from x2kit.data.storage.locations import is_url
    from x2kit.search.index import open_index

    with open_index(options.index, plugins=options.plugin) as index:
        stats = index.table.stats()
    pending = stats.rows if stats.kind == "exact" else stats.unindexed
    if stats.rows < BUILD_FROM or pending * 10 < stats.rows:
        return
    command = [sys.executable, "-m", "x2kit", "search", "build", options.index]
    command += [word for plugin in options.plugin for word in ("--plugin", plugin)]
    log = Path("x2kit-build.log") if is_url(options.index) else Path(options.index) / "x2kit-build.log"
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
    print(f"building the approximate index in process {process.pid}; its recall will be in {log}")
