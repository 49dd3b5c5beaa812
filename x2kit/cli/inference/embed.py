"""`x2kit embed`: write embeddings of images and texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import jsonargparse

from x2kit.cli.inference.inputs import Item, batched, read_items
from x2kit.cli.inference.options import (
    INPUTS,
    add_batch_arguments,
    add_model_arguments,
    add_output_arguments,
    add_text_arguments,
    load_model,
    stream_images,
    texts_of,
)
from x2kit.cli.inference.output import Output
from x2kit.cli.inference.vector_files import check_output, vector_file
from x2kit.errors import X2KitError
from x2kit.terminal import TaskProgress

if TYPE_CHECKING:
    from x2kit.inference import Embeddings, Model

SHOWN = 4
TEXT_BATCHES = 16
"""Batches of texts sorted by length together."""
HELP = "write embeddings of images and texts, which have one space"
EXAMPLES = f"""\
examples:
  x2kit embed photos --model runs/first --output photos.npy          # names in photos.jsonl
  x2kit embed photos --model runs/first --output photos.parquet --dtype float16
  x2kit embed --model runs/first --text "a dog" --text "ein Hund" --json
  x2kit embed - --model runs/first --json < lines.jsonl

Vectors have unit length: their dot product is the similarity. Without --output a line an input is printed;
--json has all numbers. Files appear when complete; existing ones are not replaced.
{INPUTS}"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add inputs, model, texts and output."""
    add_model_arguments(parser, inputs="*")
    add_text_arguments(parser, "text", "a text to embed")
    parser.add_argument(
        "--output",
        type=str,
        metavar="FILE",
        help="FILE.npy with names in FILE.jsonl, or FILE.parquet with columns image, text, vector",
    )
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="of the numbers in the file"
    )
    add_batch_arguments(parser, 64, workers=True)
    add_output_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Embed all texts and images; raises X2KitError if there is none, or the output file exists."""
    texts, output = texts_of(options, "text"), Output(options.json)
    if not texts and not options.inputs:
        raise X2KitError("nothing to embed; give files, folders, -, --text TEXT or --texts FILE")
    path = None if options.output is None else check_output(options.output)
    model = load_model(options)
    batches = _embeddings(model, _inputs(texts, options.inputs, output), options)
    readable = ((kind, output.readable(found)) for kind, found in batches)
    if path is None:
        _print(readable, output)
    else:
        _save(readable, model, path, options.dtype)
    return output.status


def _print(batches: Iterable[tuple[str, Embeddings]], output: Output) -> None:
    for kind, found in batches:
        for name, vector in zip(found.names, found.vectors.astype(float).round(7).tolist(), strict=True):
            first = " ".join(f"{value:.4f}" for value in vector[:SHOWN])
            output.write({kind: name, "vector": vector}, [(name, f"{first} … ({len(vector)})")])


def _save(batches: Iterable[tuple[str, Embeddings]], model: Model, path: Path, dtype: str) -> None:
    facts = {"x2kit.model": model.name, "x2kit.fingerprint": model.fingerprint}
    done = 0
    with vector_file(path, model.dim, dtype, facts) as file, TaskProgress() as progress:
        for kind, found in batches:
            file.add(kind, found.names, found.vectors)
            done += len(found)
            progress("embedding", done, None)


def _inputs(texts: list[str], inputs: list[str], output: Output) -> Iterator[tuple[str, str]]:
    """Yield the kind and the value of all inputs; a line with image and text is two."""
    items: Iterable[Item] = read_items(inputs, (), output.fail)
    yield from (("text", text) for text in texts)
    for item in items:
        if item.image is not None:
            yield "image", item.image
        yield from (("text", text) for text in item.texts)


def _embeddings(
    model: Model, inputs: Iterable[tuple[str, str]], options: jsonargparse.Namespace
) -> Iterator[tuple[str, Embeddings]]:
    """Yield batches of embeddings of consecutive inputs of a kind."""
    for kind, group in groupby(inputs, lambda pair: pair[0]):
        values = (value for _, value in group)
        if kind == "image":
            batches = stream_images(model, values, options)
        else:
            size = options.batch_size * TEXT_BATCHES
            batches = (
                model.embed_texts(batch, batch_size=options.batch_size, progress=False)
                for batch in batched(values, size)
            )
        yield from ((kind, found) for found in batches)
