"""`x2kit classify`: rank labels for images without training."""

from __future__ import annotations

import jsonargparse
from jsonargparse.typing import PositiveInt

from x2kit.cli.inference.inputs import read_images
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
from x2kit.cli.inference.output import Output, number
from x2kit.errors import X2KitError

HELP = "rank labels for images, in any language of the model"
EXAMPLES = f"""\
examples:
  x2kit classify photos --model runs/first --label dog --label cat --label bird
  x2kit classify photos --model runs/first --labels labels.txt --template "a photo of a {{}}" --count 1
  x2kit classify photos --model runs/first --labels tiere.txt --template "ein Bild von {{}}" --json

A line a label, best first, separated by tabs: probability, label, image.
{INPUTS}"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add inputs, model, labels, templates and output."""
    add_model_arguments(parser)
    add_text_arguments(parser, "label", "a label")
    parser.add_argument(
        "--template",
        action="append",
        default=[],
        metavar="TEXT",
        help="text with {} for the label; embeddings of several are averaged; repeatable",
    )
    parser.add_argument("--count", type=PositiveInt, default=5, metavar="N", help="labels to print an image")
    add_batch_arguments(parser, 64, workers=True)
    add_output_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Classify every image; raises X2KitError without labels."""
    labels, output = texts_of(options, "label"), Output(options.json)
    if not labels:
        raise X2KitError("no labels; give --label TEXT or --labels FILE")
    model = load_model(options)
    from x2kit.inference.classifying import choose_templates, embed_labels, rank_labels  # imports torch

    vectors = embed_labels(model, labels, choose_templates(options.template or "{}", None))
    images = (item.image for item in read_images(options.inputs, (), output.fail))
    for batch in stream_images(model, images, options):
        for found in rank_labels(output.readable(batch), labels, vectors, model.temperature):
            best = found.labels[: options.count]
            fields = found.to_dict() | {"labels": [label.to_dict() for label in best]}
            output.write(fields, [(number(label.probability), label.text, found.image) for label in best])
    return output.status
