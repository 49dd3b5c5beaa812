"""`x2kit explain`: show the image regions that a text matches."""

from __future__ import annotations

from pathlib import Path

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

HELP = "map the regions of images that texts match, by word"
EXAMPLES = f"""\
examples:
  x2kit explain photo.jpg --model runs/first --text "a dog next to a piano" --draw maps
  x2kit explain photos --model runs/first --text "ein Hund" --draw maps
  x2kit explain photo.jpg --model runs/first --text "a dog" --json

A line a text, separated by tabs: box of the heat map (left, top, width, height in pixels), image, text.
{INPUTS}"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add inputs, model, texts and output."""
    add_model_arguments(parser)
    add_text_arguments(parser, "text", "a text to explain on every image")
    add_output_arguments(parser, "the heat map over the image")


def run(options: jsonargparse.Namespace) -> int:
    """Explain every text on every image."""
    texts, output = required_texts(options, "text"), Output(options.json, options.draw)
    model = load_model(options)
    for item in read_images(options.inputs, texts, output.fail):
        with output.failures(item):
            for text in item.texts:
                found = model.explain(item.image, text)
                row = (box_cell(found.box.pixels), found.image, found.text)
                output.write(found.to_dict(), [row], found.draw, (Path(found.image).stem, text))
    return output.status
