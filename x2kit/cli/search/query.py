"""`x2kit search query`: print the files most similar to texts, images and regions."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse

from x2kit.cli.search.opening import add_index_argument, add_model_arguments, open_index
from x2kit.errors import X2KitError

if TYPE_CHECKING:
    from x2kit.search.results import SearchResults

HELP = "print the files most similar to texts, images or regions"
EXAMPLES = """\
examples:
  x2kit search query photos.index "ein Affe neben einem Klavier"
  x2kit search query photos.index "a beach^2" --minus "people^0.5"          # weights
  x2kit search query photos.index "in the snow" --image dog.jpg -k 20       # text and image
  x2kit search query photos.index --region dog.jpg:40,30,120,90             # x,y,width,height in pixels
  x2kit search query photos.index "a red car" --where "modified > '2024' AND path LIKE '%/trips/%'"
  x2kit search query photos.index "a red car" --rerank 50 --locate --html cars.html
  x2kit search query photos.index "a red car" --paths --null | xargs -0 -I{} cp {} cars
"""
_WEIGHT = re.compile(r"(.*)\^(-?[0-9]*\.?[0-9]+)", re.DOTALL)
_REGION = re.compile(r"(.+):([0-9.]+),([0-9.]+),([0-9.]+),([0-9.]+)", re.DOTALL)


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the parts of the query, filters and outputs."""
    add_index_argument(parser)
    parser.add_argument("words", nargs="*", help="texts, before the options; any part may end in ^WEIGHT")
    for option, meaning in {
        "--image": "an image like the ones to find",
        "--region": "a region of an image: PATH:x,y,width,height in pixels",
        "--minus": "a text to move away from",
        "--minus-image": "an image to move away from",
    }.items():
        parser.add_argument(
            option, action="append", default=[], metavar="PART", help=f"{meaning}; repeatable"
        )
    parser.add_argument("-k", type=int, default=10, metavar="N", help="number of hits")
    parser.add_argument("--where", type=str, default="", metavar="SQL", help="condition on the columns")
    parser.add_argument(
        "--rerank", type=int, default=0, metavar="N", help="order the first N hits by the matching head"
    )
    parser.add_argument("--locate", action="store_true", help="find the box of the first text in each hit")
    parser.add_argument("--exact", action="store_true", help="do not use the approximate index")
    parser.add_argument("--json", action="store_true", help="print a line of JSON for each hit")
    parser.add_argument("--paths", action="store_true", help="print paths alone")
    parser.add_argument(
        "--null", action="store_true", help="end each path with a null character, for xargs -0"
    )
    parser.add_argument("--html", type=str, metavar="FILE", help="write a page with thumbnails")
    add_model_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Query and print; 1 if a hit could not be opened."""
    parts = _parts(options)
    with open_index(options) as index:
        results = index.query(
            *parts,
            k=options.k,
            where=options.where,
            rerank=options.rerank,
            locate=options.locate,
            exact=options.exact,
        )
        if options.html:
            file = Path(options.html)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(results.to_html(f"{options.index}, {len(index)} files"), encoding="utf-8")
    _print(results, options)
    for note in results.notes:
        print(note, file=sys.stderr)
    return 1 if results.notes else 0


def _parts(options: jsonargparse.Namespace) -> list[Any]:
    """Build the parts of the query from the options. Raises X2KitError without any."""
    from x2kit.search.queries import Region, Weighted

    parts: list[Any] = []
    for text in options.words:
        parts.append(Weighted(*_weighted(text)))
    for text in options.minus:
        word, weight = _weighted(text)
        parts.append(Weighted(word, -weight))
    for sign, paths in ((1, options.image), (-1, options.minus_image)):
        for text in paths:
            path, weight = _weighted(text)
            parts.append(Weighted(Path(path), sign * weight))
    for text in options.region:
        place, weight = _weighted(text)
        if (found := _REGION.fullmatch(place)) is None:
            raise X2KitError(f"--region: expected PATH:x,y,width,height, found {text}")
        x, y, width, height = map(float, found.groups()[1:])
        parts.append(Weighted(Region(Path(found[1]), (x, y, width, height)), weight))
    if not parts:
        raise X2KitError("no query: give words, --image PATH or --region PATH:x,y,width,height")
    return parts


def _weighted(text: str) -> tuple[str, float]:
    """Split `words^2` into words and weight."""
    found = _WEIGHT.fullmatch(text)
    return (found[1], float(found[2])) if found else (text, 1.0)


def _print(results: SearchResults, options: jsonargparse.Namespace) -> None:
    from x2kit.search.results import name

    if options.json:
        for hit in results.hits:
            print(json.dumps(hit.to_dict(), ensure_ascii=False))
    elif options.paths or options.null:
        sys.stdout.write("".join(hit.path + ("\0" if options.null else "\n") for hit in results.hits))
    else:
        for number, hit in enumerate(results.hits, 1):
            match = "" if hit.probability is None else f"  match {hit.probability:.2f}"
            box = ""
            if hit.box is not None:
                box = f"  at {','.join(f'{side:.0f}' for side in hit.box.pixels)}"
            print(f"{number:>3}  {hit.similarity:.3f}{match}  {name(hit)}{box}")
