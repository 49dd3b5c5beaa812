"""`x2kit locate`: find the boxes that phrases name."""

from __future__ import annotations

from pathlib import Path

import jsonargparse
from jsonargparse.typing import PositiveInt

from x2kit.cli.inference.inputs import read_images
from x2kit.cli.inference.options import (
    INPUTS,
    add_model_arguments,
    add_output_arguments,
    add_text_arguments,
    load_model,
    required_texts,
)
from x2kit.cli.inference.output import Output, box_cell, number

HELP = "find the boxes of phrases in images, with their probabilities"
EXAMPLES = f"""\
examples:
  x2kit locate photo.jpg --model runs/first --text "the dog on the left"
  x2kit locate photos --model runs/first --text "a dog" --text "a red ball" --draw boxes
  x2kit locate photo.jpg --model runs/first --text "a dog" --candidates 3 --json

A line a box, best first, separated by tabs: probability, box (left, top, width, height in pixels), image, phrase.
{INPUTS}"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add inputs, model, phrases and output."""
    add_model_arguments(parser)
    add_text_arguments(parser, "text", "a phrase to find in every image")
    parser.add_argument("--candidates", type=PositiveInt, default=1, metavar="N", help="boxes a phrase")
    add_output_arguments(parser, "the boxes on the image")


def run(options: jsonargparse.Namespace) -> int:
    """Locate all phrases of an image in one vision pass."""
    texts, output = required_texts(options, "text"), Output(options.json, options.draw)
    model = load_model(options)
    for item in read_images(options.inputs, texts, output.fail):
        with output.failures(item):
            for found in model.locate_all(item.image, item.texts, options.candidates):
                rows = [
                    (number(box.probability), box_cell(box.pixels), found.image, found.text)
                    for box in found.boxes
                ]
                output.write(found.to_dict(), rows, found.draw, (Path(found.image).stem, found.text))
    return output.status
