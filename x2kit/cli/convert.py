"""`x2kit convert`: official checkpoints to weights directories, and back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import jsonargparse

from x2kit.errors import X2KitError
from x2kit.plugin.loading.file_modules import is_path, locate
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.loading.trust import remember

if TYPE_CHECKING:
    from x2kit.interop.convert import Converted

HELP = "read an official checkpoint of X²-VLM, CCLM or X-VLM, or write one"
READING = ("tokenizer", "image_size", "heads", "json")
EXAMPLES = """\
examples:
  x2kit convert x2vlm_base_4m.th weights/x2vlm-base --tokenizer bert-base-uncased
  x2kit convert cclm_x2vlm_base.th weights/cclm-384 --tokenizer xlm-roberta-base --image-size 384
  x2kit convert weights/x2vlm-base x2vlm_base.th --to official

The file is read without running code. Every key is accounted for: in the terminal by number, in
account.json of the weights directory one by one. Nothing is written unless all of it fits.
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """What is read, what is written."""
    parser.add_argument(
        "source", help="an official checkpoint; with --to official a weights or run directory"
    )
    parser.add_argument("target", help="the new weights directory; with --to official the new file")
    parser.add_argument(
        "--to",
        choices=("x2kit", "official"),
        default="x2kit",
        help="the layout that is written",
    )
    parser.add_argument(
        "--tokenizer",
        type=str,
        metavar="NAME_OR_DIR",
        help="the text encoder's tokenizer, which the checkpoint does not hold; without it the model reads ids only",
    )
    parser.add_argument(
        "--image-size", type=int, metavar="PIXELS", help="another image size; positions are interpolated"
    )
    parser.add_argument(
        "--heads",
        type=int,
        metavar="N",
        help="attention heads of text and fusion encoder, which no shape tells; by default 64 wide each",
    )
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE_OR_MODULE",
        help="a plugin with encoders of yours",
    )
    parser.add_argument("--json", action="store_true", help="print the account as JSON")


def run(options: jsonargparse.Namespace) -> int:
    """Convert, and say what became of what."""
    source, target = Path(options.source), Path(options.target)
    if options.to == "official":
        surplus = [name for name in READING if getattr(options, name)]
        if surplus:
            given = ", ".join(f"--{name.replace('_', '-')}" for name in surplus)
            raise X2KitError(f"{given}: of no use with --to official, which writes the weights as they are")
        from x2kit.interop.convert import to_official

        layout = to_official(source, target, options.plugin)
        print(f"{target}: {layout.describe()}")
        return 0
    plugins = load_plugins(options.plugin)
    plugins.require(options.plugin)
    from x2kit.interop.convert import from_official  # torch enters here

    files = [str(locate(name, Path())) if is_path(name) else name for name in options.plugin]
    found = from_official(
        source, target, plugins.registry, options.tokenizer, options.image_size, options.heads, files
    )
    if warning := remember(files, target):
        print(warning, file=sys.stderr)
    if options.json:
        print(json.dumps(found.account.to_json(), indent=2))
        return 0
    _report(found, target, options)
    return 0


def _report(found: Converted, target: Path, options: jsonargparse.Namespace) -> None:
    model = found.config
    names = ", ".join(part.component_name() for part in (model.vision, model.text, model.fusion))
    print(f"layout: {found.layout.describe()}")
    print(f"model: {names}; heads {', '.join(model.heads.built) or 'none'}")
    for line in found.account.lines():
        print(line)
    if options.heads is None:
        print(
            f"attention heads of the text encoder: {getattr(model.text, 'heads', '?')} (a guess: see --heads)"
        )
    if options.tokenizer is None:
        print("no tokenizer: the model reads ids, but no texts, until you convert with --tokenizer")
    print(f"weights: {target}")
    print(f'next: python -c "import x2kit; model = x2kit.load({str(target)!r})"')
