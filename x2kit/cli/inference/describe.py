"""`x2kit describe`: write captions for images."""

from __future__ import annotations

import jsonargparse
from jsonargparse.typing import PositiveInt

from x2kit.cli.inference.inputs import read_images
from x2kit.cli.inference.options import (
    INPUTS,
    add_model_arguments,
    add_output_arguments,
    load_model,
)
from x2kit.cli.inference.output import Output, number

HELP = "write captions for images, for models trained to write them"
EXAMPLES = f"""\
examples:
  x2kit describe photos --model runs/captions
  x2kit describe photo.jpg --model runs/captions --prompt "a picture of" --count 3
  find photos -name '*.jpg' | x2kit describe - --model runs/captions --json > captions.jsonl

A line a caption, best first, separated by tabs: log-likelihood in nats, caption, image. A "text" in a line of
standard input is its prompt.
{INPUTS}"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add inputs, model, prompt and output."""
    add_model_arguments(parser)
    parser.add_argument("--prompt", type=str, metavar="TEXT", help="first words of the caption")
    parser.add_argument("--count", type=PositiveInt, default=1, metavar="N", help="captions an image")
    add_output_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Describe every image."""
    output = Output(options.json)
    prompts = [] if options.prompt is None else [options.prompt]
    model = load_model(options)
    for item in read_images(options.inputs, prompts, output.fail):
        with output.failures(item):
            found = model.describe(item.image, item.texts[0] if item.texts else None, options.count)
            rows = [(number(scored.log_likelihood), scored.text, found.image) for scored in found.candidates]
            output.write(found.to_dict(), rows)
    return output.status
