"""`x2kit convert`: convert official checkpoints to weights directories, and back."""

from __future__ import annotations

import json
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import jsonargparse
import yaml

from x2kit.cli.model_names import NAMES, directory_of
from x2kit.cli.parser import add_plugin_argument
from x2kit.distributed.processes import ALONE
from x2kit.errors import X2KitError
from x2kit.hub.catalogue import catalogue
from x2kit.hub.published import fetch_published
from x2kit.plugin.loading.file_modules import is_path, locate
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.loading.trust import remember
from x2kit.terminal import ByteProgress

if TYPE_CHECKING:
    from x2kit.interop.convert import Converted
    from x2kit.model.config import HeadsConfig

HELP = "convert official checkpoints of X²-VLM, CCLM and X-VLM to weights directories, or back"
READING = ("tokenizer", "image_size", "heads", "code_dir", "json")
EXAMPLES = """\
examples:
  x2kit convert x2vlm_base_4m.th weights/x2vlm-base --tokenizer bert-base-uncased
  x2kit convert x2vlm-base-4m weights/x2vlm-base                  # downloaded first; see x2kit models list
  x2kit convert cclm_x2vlm_base.th weights/cclm-384 --tokenizer xlm-roberta-base --image-size 384
  x2kit convert weights/x2vlm-base x2vlm_base.th --to official

Checkpoints are loaded with weights_only, which runs no code. The terminal shows how many keys were
converted, account.json in the weights directory lists each. Nothing is written if any key does not fit.
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add source, target and conversion options."""
    parser.add_argument(
        "source",
        help=f"an official checkpoint, by path or published name; with --to official a model: {NAMES}",
    )
    parser.add_argument("target", help="weights directory to write; with --to official the file")
    parser.add_argument(
        "--to",
        choices=("x2kit", "official"),
        default="x2kit",
        help="layout to write",
    )
    parser.add_argument(
        "--tokenizer",
        type=str,
        metavar="NAME_OR_DIR",
        help="tokenizer of the text encoder, which checkpoints do not contain; without it the model takes ids only",
    )
    parser.add_argument(
        "--image-size",
        type=int,
        metavar="PIXELS",
        help="new image size; position embeddings are interpolated",
    )
    parser.add_argument(
        "--heads",
        type=int,
        metavar="N",
        help="attention heads of text and fusion encoder, unknown from the checkpoint; by default width / 64",
    )
    parser.add_argument(
        "--code-dir",
        type=str,
        metavar="DIR",
        help="checkout of the official code, which paths in the configuration of the file are relative to; the "
        "working directory by default",
    )
    add_plugin_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the converted keys as JSON")


def run(options: jsonargparse.Namespace) -> int:
    """Convert and print what was converted."""
    source, target = Path(options.source), Path(options.target)
    if options.to == "official":
        invalid = [name for name in READING if getattr(options, name)]
        if invalid:
            given = ", ".join(f"--{name.replace('_', '-')}" for name in invalid)
            raise X2KitError(f"{given}: not allowed with --to official, which writes the weights unchanged")
        from x2kit.interop.convert import to_official

        if not source.is_file():
            source = directory_of(options.source, options.plugin, ALONE)
        layout = to_official(source, target, options.plugin)
        print(f"{target}: {layout.describe()}")
        return 0
    plugins = load_plugins(options.plugin)
    plugins.require(options.plugin)
    source, tokenizer = _checkpoint(options.source, options.tokenizer)
    from x2kit.interop.convert import from_official  # imports torch

    files = [str(locate(name, Path())) if is_path(name) else name for name in options.plugin]
    found = from_official(
        source,
        target,
        plugins.registry,
        tokenizer,
        options.image_size,
        options.heads,
        files,
        Path(options.code_dir or ""),
    )
    if warning := remember(files, target):
        print(warning, file=sys.stderr)
    if options.json:
        print(json.dumps(found.account.to_json(), indent=2))
        return 0
    _report(found, target, options)
    return 0


def _checkpoint(name: str, tokenizer: str | None) -> tuple[Path, str | None]:
    """Return the file of a checkpoint, fetched if it is a published one, and its tokenizer, if that is known."""
    if Path(name).exists() or name not in catalogue():
        return Path(name), tokenizer
    model = catalogue()[name]
    with ByteProgress() as progress:
        return fetch_published(model, progress).file, tokenizer or model.tokenizer


def _report(found: Converted, target: Path, options: jsonargparse.Namespace) -> None:
    model = found.config
    names = ", ".join(part.component_name() for part in (model.vision, model.text, model.fusion))
    print(f"layout: {found.layout.describe()}")
    print(f"model: {names} at {model.vision.describe().image.size} pixels; heads {_heads(model.heads)}")
    if not model.text.ends_texts:
        print("texts have no end token, as in X-VLM")
    for line in found.account.lines():
        print(line)
    if found.recorded:
        print("configuration in the file:")
        print(
            textwrap.indent(
                yaml.safe_dump(found.recorded, sort_keys=False, allow_unicode=True).rstrip(), "  "
            )
        )
    if options.heads is None:
        print(
            f"attention heads of the text encoder: {getattr(model.text, 'heads', '?')} (assumed; see --heads)"
        )
    if found.tokenizer is None:
        named = found.recorded.get("text_encoder")
        hint = f" {Path(named).name}" if isinstance(named, str) else ""
        print(
            f"no tokenizer: the model takes ids but no texts; convert with --tokenizer{hint} to change this"
        )
    print(f"weights: {target}")
    if found.evaluation is None:
        print(f'next: python -c "import x2kit; model = x2kit.load({str(target)!r})"')
        return
    kind, settings = found.evaluation
    print(f"task: {kind}, measured as {', '.join(settings['tasks'])} on the test files of the configuration")
    print(f"next: x2kit evaluate {target}")


def _heads(heads: HeadsConfig) -> str:
    names: list[str] = [*heads.built]
    if heads.answers is not None:
        images = "image" if heads.answer_images == 1 else "images"
        names.append(f"answers ({heads.answers} classes of {heads.answer_images} {images})")
    if heads.decoder_layers is not None:
        names.append(f"answer decoder ({heads.decoder_layers} layers)")
    return ", ".join(names) or "none"
