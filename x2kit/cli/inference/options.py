"""Options that the subcommands share, and the model that they name. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import jsonargparse
from jsonargparse.typing import NonNegativeInt, PositiveInt

from x2kit.cli.inference.inputs import STDIN
from x2kit.cli.model_names import NAMES
from x2kit.cli.parser import add_plugin_argument
from x2kit.errors import X2KitError

if TYPE_CHECKING:
    from x2kit.inference import Embeddings, Model

FILES = {"bash": "_shtab_compgen_files", "zsh": "_files", "tcsh": "f"}
"""Completion of files by shtab."""
INPUTS = """
inputs: files, URLs, folders (searched for images and videos by suffix), patterns in quotes, or - for
standard input: a path a line, or a JSON object a line: {"image": PATH, "text": TEXT}
exit status: 0 all done, 1 some inputs failed (named on standard error), 2 wrong usage or no such model
"""
"""Last lines of every help."""


def add_model_arguments(parser: jsonargparse.ArgumentParser, inputs: str = "+") -> None:
    """Add inputs, the model and how it computes."""
    given = parser.add_argument(
        "inputs", nargs=inputs, type=str, metavar="INPUT", help="files, URLs, folders, patterns or -"
    )
    given.complete = FILES
    parser.add_argument(
        "--model",
        type=str,
        required=True,
        metavar="MODEL",
        help=NAMES,
    )
    add_device_arguments(parser)
    parser.add_argument(
        "--tokenizer",
        type=str,
        metavar="NAME_OR_DIR",
        help="of an official checkpoint, which has none; the usual one of its vocabulary by default",
    )
    add_plugin_argument(parser)
    parser.add_argument(
        "--trust-plugins", action="store_true", help="import the plugins that the weights name"
    )


def add_device_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add `--device` and `--precision`."""
    parser.add_argument(
        "--device", type=str, default="auto", metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps"
    )
    parser.add_argument(
        "--precision", choices=("auto", "fp32", "bf16", "fp16"), default="fp32", help="of matrix products"
    )


def add_batch_arguments(parser: jsonargparse.ArgumentParser, batch_size: int, workers: bool = False) -> None:
    """Add `--batch-size`, and `--workers` if the threads that decode images can be chosen."""
    parser.add_argument(
        "--batch-size",
        type=PositiveInt,
        default=batch_size,
        metavar="N",
        help="inputs computed together; their results are written together",
    )
    if workers:
        parser.add_argument(
            "--workers",
            type=NonNegativeInt,
            metavar="N",
            help="threads that decode images; by default one a core",
        )


def add_output_arguments(parser: jsonargparse.ArgumentParser, draws: str = "") -> None:
    """Add `--json`, and `--draw` if results are drawn.

    Args:
        draws: drawn on an image, for the help.
    """
    parser.add_argument("--json", action="store_true", help="print a JSON object a line, with every field")
    if draws:
        parser.add_argument("--draw", type=str, metavar="DIR", help=f"write a PNG a result: {draws}")


def add_text_arguments(parser: jsonargparse.ArgumentParser, name: str, what: str) -> None:
    """Add `--NAME TEXT`, repeatable, and `--NAMEs FILE`."""
    parser.add_argument(f"--{name}", action="append", default=[], metavar="TEXT", help=f"{what}; repeatable")
    parser.add_argument(f"--{name}s", type=str, metavar="FILE", help="a file with one a line")


def texts_of(options: jsonargparse.Namespace, name: str) -> list[str]:
    """Return the texts of `--NAME` and `--NAMEs`. Raises X2KitError for a file that cannot be read."""
    texts: list[str] = list(options[name])
    if (file := options[f"{name}s"]) is not None:
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise X2KitError(f"--{name}s: {file}: cannot be read: {error}") from error
        texts += [line for line in lines if line.strip()]
    return texts


def required_texts(options: jsonargparse.Namespace, name: str) -> list[str]:
    """Return the texts of `texts_of`; lines of standard input may bring their own.

    Raises: X2KitError if there is none.
    """
    texts = texts_of(options, name)
    if not texts and STDIN not in options.inputs:
        raise X2KitError(f"no text to use with the images; give --{name} TEXT or --{name}s FILE")
    return texts


def stream_images(
    model: Model, images: Iterable[str | None], options: jsonargparse.Namespace
) -> Iterator[Embeddings]:
    """Embed images batch by batch, with the batch size and the workers of the options."""
    return model.stream_images(images, batch_size=options.batch_size, workers=options.workers)


def load_model(options: jsonargparse.Namespace) -> Model:
    """Load the model that the options name. Imports torch."""
    import x2kit

    return x2kit.load(
        options.model,
        options.device,
        options.precision,
        tokenizer=options.tokenizer,
        plugins=options.plugin,
        trust_plugins=options.trust_plugins,
    )
