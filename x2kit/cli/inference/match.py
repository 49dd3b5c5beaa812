"""`x2kit match`: score image-text pairs with the matching head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jsonargparse

from x2kit.cli.inference.inputs import Item, batched, read_images
from x2kit.cli.inference.options import (
    INPUTS,
    add_batch_arguments,
    add_model_arguments,
    add_output_arguments,
    add_text_arguments,
    load_model,
    required_texts,
)
from x2kit.cli.inference.output import Output, number

if TYPE_CHECKING:
    from x2kit.inference import Match

HELP = "print the probability that a text describes an image, for pairs of them"
EXAMPLES = f"""\
examples:
  x2kit match photos --model runs/first --text "a dog on a sofa"
  x2kit match photo.jpg --model runs/first --text "a dog" --text "ein Hund" --text "犬"
  find photos -name '*.jpg' | x2kit match - --model runs/first --text "a dog" | sort -rn | head
  x2kit match - --model runs/first --json < pairs.jsonl

A line a pair, separated by tabs: probability, similarity, image, text.
{INPUTS}"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add inputs, model, texts and output."""
    add_model_arguments(parser)
    add_text_arguments(parser, "text", "a text to match with every image")
    add_batch_arguments(parser, 32)
    add_output_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Match every image with every text, or with the text of its line."""
    texts, output = required_texts(options, "text"), Output(options.json)
    model = load_model(options)

    def match(items: list[Item]) -> list[Match]:
        pairs = [(item.image, text) for item in items for text in item.texts]
        return model.match([image for image, _ in pairs], [text for _, text in pairs])

    for batch in batched(read_images(options.inputs, texts, output.fail), options.batch_size):
        for found in output.each(batch, match):
            cells = number(found.probability), number(found.similarity), found.image, found.text
            output.write(found.to_dict(), [cells])
    return output.status
