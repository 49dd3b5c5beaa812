"""`x2kit answer`: answer questions about images."""

from __future__ import annotations

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
    texts_of,
)
from x2kit.cli.inference.output import Output, number

HELP = "answer questions about images"
EXAMPLES = f"""\
examples:
  x2kit answer photo.jpg --model runs/questions --question "What is on the sofa?"
  x2kit answer photos --model runs/questions --question "Is it day?" --answer yes --answer no
  x2kit answer photos --model runs/first --question "Is it day?" --answer yes --answer no --matching
  x2kit answer - --model runs/questions --json < questions.jsonl

A line an answer, best first, separated by tabs: probability, answer, image, question.
{INPUTS}"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add inputs, model, questions, answers and output."""
    add_model_arguments(parser)
    add_text_arguments(parser, "question", "a question about every image")
    add_text_arguments(parser, "answer", "an answer to choose from; without any the model writes its own")
    parser.add_argument("--count", type=PositiveInt, default=5, metavar="N", help="answers a question")
    parser.add_argument(
        "--matching",
        action="store_true",
        help="rank the answers by the matching head, which any model with one can; few were trained for it",
    )
    add_output_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Ask every question of every image."""
    questions, output = required_texts(options, "question"), Output(options.json)
    answers = texts_of(options, "answer") or None
    model = load_model(options)
    for item in read_images(options.inputs, questions, output.fail):
        with output.failures(item):
            for question in item.texts:
                found = model.answer(item.image, question, answers, options.count, matching=options.matching)
                rows = [
                    (number(scored.probability), scored.text, found.image, found.question)
                    for scored in found.candidates
                ]
                output.write(found.to_dict(), rows)
    return output.status
