"""`x2kit export`: write a model as programs that run without x2kit."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jsonargparse

from x2kit.cli.key_help import print_help
from x2kit.cli.recipe_keys import add_overlay_arguments
from x2kit.cli.run_directory import require_same_model, stored_recipe
from x2kit.errors import X2KitError
from x2kit.io.atomic import format_bytes

if TYPE_CHECKING:
    from x2kit.inference import Model
    from x2kit.recipe.schema import Recipe

HELP = "export a model to ONNX or torch.export: image tower, text tower, matching pair"
RECIPE_KEYS = ("evaluation",)
EXAMPLES = """\
examples:
  x2kit export runs/mine --to onnx --output exported
  x2kit export runs/mine --to torch --output exported-torch
  x2kit export runs/mine --to onnx --output small --int8            # and the recall that int8 costs
  x2kit export weights/x2vlm-base --to onnx --output small --int8 --recipe evaluate/retrieval-coco
  x2kit export x2vlm_base.th --to onnx --output exported --tokenizer bert-base-uncased

Each file is run on samples and compared with the model; nothing is written if one differs by more than 1e-4.
manifest.json in the folder has the names and shapes of inputs and outputs, and all that was measured.
"""


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add model, format, folder, int8 and overlay options."""
    parser.add_argument(
        "model",
        type=str,
        help="a run or weights directory, an official checkpoint, or hf-hub:ORGANISATION/NAME",
    )
    parser.add_argument(
        "--to", choices=("onnx", "torch"), required=True, help="onnx, or torch for torch.export's .pt2 files"
    )
    parser.add_argument("--output", type=str, required=True, metavar="DIR", help="folder to create")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="onnx: also write int8 weights, and measure recall with both on the recipe's evaluation",
    )
    parser.add_argument(
        "--recipe",
        type=str,
        metavar="NAME",
        help="--int8: a recipe whose evaluation replaces that of the weights",
    )
    parser.add_argument(
        "--tokenizer", type=str, metavar="NAME_OR_DIR", help="of an official checkpoint, which has none"
    )
    parser.add_argument(
        "--trust-plugins", action="store_true", help="import the plugins that the weights name"
    )
    parser.add_argument("--json", action="store_true", help="print the manifest")
    add_overlay_arguments(parser)


def run(options: jsonargparse.Namespace) -> int:
    """Export and print what was written and measured."""
    if options.recipe_keys.help:
        return print_help(options, [_saved_recipe_file(options.model)], saved=True)
    if not options.int8 and (options.recipe or options.config or options.recipe_keys.values):
        raise X2KitError("--recipe, --config and recipe keys change the evaluation of --int8; add it")
    from x2kit.export.folder import export_model  # imports torch
    from x2kit.inference import load
    from x2kit.terminal import TaskProgress

    model = load(
        options.model,
        "cpu",
        tokenizer=options.tokenizer,
        plugins=options.plugin,
        trust_plugins=options.trust_plugins,
    )
    recipe = _recipe(model, options) if options.int8 else None
    output = Path(options.output)
    with TaskProgress() as progress:
        manifest = export_model(
            model, options.to, output, int8=options.int8, recipe=recipe, progress=progress
        )
    print(json.dumps(manifest, ensure_ascii=False, indent=2) if options.json else _summary(output, manifest))
    return 0


def _saved_recipe_file(model: str) -> Path:
    for file in (Path(model) / "recipe.yaml", Path(model) / "weights" / "recipe.yaml"):
        if file.is_file():
            return file
    raise X2KitError(f"{model}: no run or weights directory, so its recipe's keys are unknown")


def _recipe(model: Model, options: jsonargparse.Namespace) -> Recipe:
    """Resolve the recipe of the weights, with the evaluation that the options choose."""
    if model.tasks is None or not Path(model.tasks.where).is_file():
        raise X2KitError(
            f"{model.name}: --int8 reads the recipe of a weights directory; write one: x2kit convert"
        )
    folder = Path(model.tasks.where).parent
    keys = options.recipe_keys.values
    resolved = stored_recipe(folder, options.config, keys, options.plugin, evaluation_of=options.recipe)
    require_same_model(stored_recipe(folder, plugins=options.plugin, checks="none"), resolved)
    return resolved.recipe


def _summary(output: Path, manifest: Mapping[str, Any]) -> str:
    lines = [_program(name, program) for name, program in manifest["programs"].items()]
    lines += [f"left out: {name}: {reason}" for name, reason in manifest["left_out"].items()]
    text = manifest["text"]
    tokenizer = text["tokenizer"] or f"none: {text['without_tokenizer_json']}"
    lines.append(f"tokenizer: {tokenizer}; at most {text['max_length']} tokens")
    if "int8" in manifest:
        lines += _int8(manifest["int8"])
    lines.append(f"exported: {output}")
    return "\n".join(lines)


def _program(name: str, program: Mapping[str, Any]) -> str:
    size = format_bytes(sum(each["bytes"] for each in program["files"].values()))
    inputs, outputs = (
        ", ".join(f"{each['name']} {_shape(each['shape'])}" for each in program[key])
        for key in ("inputs", "outputs")
    )
    differences = program["largest_difference"].values()
    return (
        f"{name}: {', '.join(program['files'])} ({size}); {inputs} to {outputs}; "
        f"largest difference {max(differences):.1e}"
    )


def _shape(shape: list[str | int]) -> str:
    return f"[{', '.join(map(str, shape))}]"


def _int8(measured: Mapping[str, Any]) -> list[str]:
    """Table of recall with both kinds of weights, a row for each language."""
    on = measured["measured_on"]
    lines = [
        f"int8 beside float32 on {on['source']}, split {on['split']}; recall of similarity, float32 > int8"
    ]
    heads = [f"{name} {r}" for name in ("text>image", "image>text") for r in ("R@1", "R@5", "R@10")]
    lines.append(f"  {'':8}" + "".join(f"{head:>20}" for head in heads))
    float32, int8 = (measured["recall"][kind] for kind in ("float32", "int8"))
    for code, row in float32.items():
        cells = [
            f"{row[name][r]:.3f} > {int8[code][name][r]:.3f}"
            for name in ("text_to_image", "image_to_text")
            for r in ("r1", "r5", "r10")
        ]
        lines.append(f"  {code:8}" + "".join(f"{cell:>20}" for cell in cells))
    lost = measured["recall_lost"].values()
    lines.append(f"  {'lost':8}" + "".join(f"{value:>20.4f}" for value in lost))
    for name, program in measured["programs"].items():
        size = format_bytes(sum(each["bytes"] for each in program["files"].values()))
        lines.append(
            f"  {name}: {', '.join(program['files'])} ({size}); largest difference "
            f"{max(program['largest_difference'].values()):.1e}"
        )
    return lines
