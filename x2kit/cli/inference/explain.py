"""`x2kit explain`: show the image regions that a text matches."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import jsonargparse

from x2kit.cli.inference.inputs import read_images
from x2kit.cli.inference.options import (
    INPUTS,
    add_model_arguments,
    add_output_arguments,
    add_text_arguments,
    load_model,
    required_texts,
)
from x2kit.cli.inference.output import Output, box_cell

if TYPE_CHECKING:
    from x2kit.inference import Explanation, WordMap

HELP = "map the regions of images that texts match, by word"
EXAMPLES = f"""\
examples:
  x2kit explain photo.jpg --model runs/first --text "a dog next to a piano" --draw maps
  x2kit explain photos --model runs/first --text "ein Hund und ein Ball" --words --draw maps
  x2kit explain photo.jpg --model runs/first --text "a dog" --json

A line a text, separated by tabs: box of the heat map (left, top, width, height in pixels), image, text. With
--words a line a word: the maximum of its map (x and y in [0, 1]), word, image, text. Python has the maps as arrays.
{INPUTS}"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add inputs, model, texts and output."""
    add_model_arguments(parser)
    add_text_arguments(parser, "text", "a text to explain on every image")
    parser.add_argument("--words", action="store_true", help="a result for each word of the text")
    add_output_arguments(parser, "the heat map over the image")


def run(options: jsonargparse.Namespace) -> int:
    """Explain every text on every image."""
    texts, output = required_texts(options, "text"), Output(options.json, options.draw)
    write = _write_words if options.words else _write_text
    model = load_model(options)
    for item in read_images(options.inputs, texts, output.fail):
        with output.failures(item):
            for text in item.texts:
                write(model.explain(item.image, text), output)
    return output.status


def _write_text(found: Explanation, output: Output) -> None:
    fields = {"image": found.image, "text": found.text, "method": found.method, "box": found.box.to_dict()}
    row = box_cell(found.box.pixels), found.image, found.text
    output.write(fields, [row], found.draw, (Path(found.image).stem, found.text))


def _write_words(found: Explanation, output: Output) -> None:
    for place, each in enumerate(found.words):
        x, y = _peak(each)
        fields = {"image": found.image, "text": found.text, "method": found.method}
        row = f"{x:.2f} {y:.2f}", each.word, found.image, found.text
        draw = partial(found.overlay, word=place)
        names = Path(found.image).stem, found.text, each.word
        output.write({**fields, "word": each.word, "peak": [x, y]}, [row], draw, names)


def _peak(word: WordMap) -> tuple[float, float]:
    """Return the centre of the cell with the largest value, as shares of the image's width and height."""
    height, width = word.heat.shape
    row, column = divmod(int(word.heat.argmax()), width)
    return (column + 0.5) / width, (row + 0.5) / height
