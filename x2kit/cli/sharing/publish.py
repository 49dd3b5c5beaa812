"""`x2kit publish`: write a model with its card to a directory, or upload it to the Hugging Face Hub."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import jsonargparse

from x2kit.cli.parser import add_plugin_argument
from x2kit.errors import X2KitError

if TYPE_CHECKING:
    from x2kit.publishing import Publication

HELP = "write weights, recipe, results and a model card to a directory, or upload them to the Hub"
EXAMPLES = """\
examples:
  x2kit publish runs/mine --to build/card                                 # the folder, without a network
  x2kit publish runs/mine --to hf-hub:org/name --license apache-2.0 --private
  x2kit publish runs/mine --to hf-hub:org/name --pr --message "better weights"
  x2kit publish runs/mine --to hf-hub:org/name --dry-run                  # what would be uploaded
  x2kit publish weights/x2vlm-base --to build/base --without-results

The card is written from the records of the run. Its example runs in a fresh process without a network before anything
is published. Code is never published: the card names the plugins that a model needs. Paths of your machine are
shortened, and a card that you changed is kept. All files are one commit.
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add source, target and choices of the card."""
    parser.add_argument("source", metavar="RUN", help="a trained and evaluated run, or a weights directory")
    parser.add_argument(
        "--to", type=str, required=True, metavar="TARGET", help="a directory, or hf-hub:ORGANISATION/NAME"
    )
    parser.add_argument(
        "--license",
        type=str,
        metavar="ID",
        help="licence of the weights, such as apache-2.0; without it the card has none and says so",
    )
    parser.add_argument(
        "--text", action="append", default=[], metavar="TEXT", help="a text of the card's example; repeatable"
    )
    parser.add_argument(
        "--image", type=str, metavar="FILE", help="image of the example, published as example.png"
    )
    parser.add_argument(
        "--dataset",
        action="append",
        default=[],
        metavar="[TASK=]ORG/NAME",
        help="data set of the Hub that was measured, for .eval_results; repeatable",
    )
    parser.add_argument("--without-results", action="store_true", help="publish without an evaluation")
    parser.add_argument("--private", action="store_true", help="create a private repository")
    parser.add_argument("--revision", type=str, metavar="BRANCH", help="existing branch to commit to")
    parser.add_argument("--pr", action="store_true", help="open a pull request instead of changing main")
    parser.add_argument("--message", type=str, metavar="TEXT", help="message of the commit")
    parser.add_argument("--dry-run", action="store_true", help="do everything except writing and uploading")
    add_plugin_argument(parser)
    parser.add_argument(
        "--trust-plugins", action="store_true", help="import the plugins that the weights name"
    )
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


def run(options: jsonargparse.Namespace) -> int:
    """Publish, and print files and messages."""
    from x2kit.publishing import publish

    found = publish(
        options.source,
        options.to,
        licence=options.license,
        texts=options.text,
        image=options.image,
        datasets=_datasets(options.dataset),
        without_results=options.without_results,
        private=options.private,
        revision=options.revision,
        pull_request=options.pr,
        message=options.message,
        dry_run=options.dry_run,
        plugins=options.plugin,
        trust_plugins=options.trust_plugins,
        say=lambda text: print(text, file=sys.stderr),
    )
    if options.json:
        print(json.dumps(asdict(found), indent=2, ensure_ascii=False))
    else:
        _report(found, options)
    return 0


def _datasets(given: list[str]) -> dict[str, str]:
    """Parse `--dataset`. Raises X2KitError for what is no name of a data set."""
    found = {}
    for value in given:
        task, _, name = value.rpartition("=")
        if name.count("/") != 1 or not all(name.split("/")):
            raise X2KitError(f"--dataset {value}: expected ORG/NAME, or TASK=ORG/NAME")
        found[task] = name
    return found


def _report(found: Publication, options: jsonargparse.Namespace) -> None:
    from x2kit.io.atomic import format_bytes

    for name, size in found.files.items():
        print(f"{format_bytes(size):>12}  {name}")
    for message in found.messages:
        print(message)
    if options.dry_run:
        print(f"dry run: nothing was written to {found.address}")
        return
    print(f"published: {found.url or found.address}")
    if options.pr:
        print("next: merge the pull request")
        return
    print(f"next: python -c \"import x2kit; model = x2kit.load('{found.address}')\"")
