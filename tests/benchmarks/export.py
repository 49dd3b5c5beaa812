"""Export the quickstart's model and the base model, measure both, and write docs/results/export.md.

    python -m tests.benchmarks.export RUN_OF_THE_QUICKSTART [--skip-base]

Differences and sizes are those of the manifests that `x2kit export` writes. The base model is that of the recipe
official/x2vlm-base with random weights. Needs 12 GB of memory and some minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tests.benchmarks.__main__ import machine
from tests.docs.shell import run_without_torch
from x2kit.export.folder import export_model
from x2kit.export.onnx_export import OnnxProgram
from x2kit.export.programs import Program, programs_of
from x2kit.export.samples import Case, inputs_of
from x2kit.export.torch_export import TorchProgram
from x2kit.inference import Model, load
from x2kit.io.atomic import format_bytes
from x2kit.model import save_weights
from x2kit.model.build import build_model
from x2kit.model.saving import recipe_of
from x2kit.recipe import read_recipe

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "results" / "export.md"
SCRIPT = ROOT / "docs" / "examples" / "search_without_torch.py"
REPEATS = 20
TEXT_TOKENS = 12
QUERIES, SCENES = 100, 500
BASE = "official/x2vlm-base"
HEAD = """# Exports

Written by `python -m tests.benchmarks.export RUN_OF_THE_QUICKSTART`. See [Deploy a model](../how-to/deploy-a-model.md).
"""


def best(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Return the fastest of some calls in milliseconds, after one that does not count."""
    work()
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return 1000 * min(seconds)


def one_of_each(model: Any) -> Case:
    """Return one image and one text of `TEXT_TOKENS` tokens."""
    spec, generator = model.image_spec, torch.Generator().manual_seed(0)
    ids = torch.randint(5, model.tokenizer.vocab_size - 1, (1, TEXT_TOKENS), generator=generator)
    images = torch.rand(1, spec.channels, spec.size, spec.size, generator=generator)
    return Case(images, ids, torch.ones(1, TEXT_TOKENS, dtype=torch.bool))


def times(program: Program, model: Any, folders: dict[str, Path]) -> list[float]:
    """Return milliseconds of one row by the model, the .pt2 file and the ONNX file, on one thread."""
    inputs = inputs_of(program, model, one_of_each(model))

    def eager() -> tuple[Tensor, ...]:
        with torch.inference_mode():
            return program.eager(*inputs)

    saved = TorchProgram(folders["torch"] / f"{program.name}.pt2")
    onnx = OnnxProgram(folders["onnx"] / f"{program.name}.onnx", threads=1)
    return [best(eager), best(lambda: saved(*inputs)), best(lambda: onnx(*inputs))]


def measured(label: str, model: Model, folder: Path) -> list[str]:
    """Export a model in both formats and return its section."""
    folders = {to: folder / to for to in ("torch", "onnx")}
    manifests = {to: export_model(model, to, place) for to, place in folders.items()}  # type: ignore[arg-type]
    programs, _ = programs_of(model.module)
    rows = []
    for program in programs:
        found = [manifest["programs"][program.name] for manifest in manifests.values()]
        differences = [f"{max(one['largest_difference'].values()):.1e}" for one in found]
        sizes = [format_bytes(sum(each["bytes"] for each in one["files"].values())) for one in found]
        cells = [f"{value:.1f}" for value in times(program, model.module, folders)]
        rows.append(f"| {program.name} | {' | '.join([*differences, *sizes, *cells])} |")
    weights = sum(each.numel() * each.element_size() for each in model.module.parameters())
    return [
        f"## {label}",
        "",
        f"{manifests['onnx']['model']['parameters'] / 1e6:.1f} million parameters, {format_bytes(weights)} in float32; "
        f"images of {model.module.image_spec.size} pixels, a text of {TEXT_TOKENS} tokens.",
        "",
        "| program | largest difference, .pt2 | largest difference, ONNX | size, .pt2 | size, ONNX "
        "| torch eager, ms | .pt2, ms | onnxruntime, ms |",
        "|---|---|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def base_model(folder: Path) -> Model:
    """Build the base model with random weights and save it, with a tokenizer of BERT's kind."""
    recipe = read_recipe([BASE]).recipe
    texts = [f"a {number} b" for number in range(100)]
    torch.manual_seed(0)
    module = build_model(recipe.model, texts)
    save_weights(module.eval(), recipe_of(recipe.model, BASE), folder / "weights")
    del module
    return load(folder / "weights", "cpu")


def queries_of(records: Path, count: int) -> list[tuple[str, str]]:
    """Return language and caption of the first scenes, one of each, the languages in turn."""
    found = []
    for number, line in enumerate(islice(records.open(encoding="utf-8"), count)):
        captions = json.loads(line)["caption"]
        language = sorted(captions)[number % len(captions)]
        found.append((language, captions[language]))
    return found


def agreement(model: Model, exported: Path, scenes: Path, count: int = QUERIES) -> dict[str, Any]:
    """Search with the script and with x2kit, and count queries with the same first ten images."""
    queries = queries_of(scenes / "records.jsonl", count)
    texts = [text for _, text in queries]
    done = run_without_torch(scenes, [str(SCRIPT), str(exported.resolve()), "images", "-"], "\n".join(texts))
    assert done.returncode == 0, done.stderr
    script = [json.loads(line) for line in done.stdout.splitlines()]
    assert [one["query"] for one in script] == texts
    files = sorted((scenes / "images").iterdir())
    shown, words = model.embed_images(files, progress=False), model.embed_texts(texts, progress=False)
    similarity = np.asarray(words) @ np.asarray(shown).T
    same, alike, gaps, differences = 0, 0, [], []
    for row, one in zip(similarity, script, strict=True):
        order = np.argsort(-row, kind="stable")[:11]
        ours, theirs = [files[at].name for at in order[:10]], [Path(name).name for name, _ in one["hits"]]
        same += ours == theirs
        alike += set(ours) == set(theirs)
        gaps.append(-np.diff(row[order]).max())
        place = {file.name: row[at] for at, file in enumerate(files)}
        differences += [abs(place[Path(name).name] - value) for name, value in one["hits"]]
    return {
        "queries": len(queries),
        "languages": len({language for language, _ in queries}),
        "images": len(files),
        "same_order": same,
        "same_set": alike,
        "closest": float(min(gaps)),
        "difference": float(max(differences)),
    }


def write_scenes(folder: Path, count: int, image_size: int) -> None:
    """Write test scenes of the quickstart, with captions in every language."""
    from x2kit_emoji import LANGUAGES

    from x2kit.cli import main as command

    options = [
        "--records",
        str(count),
        "--split",
        "test",
        "--concepts",
        "200",
        "--image-size",
        str(image_size),
    ]
    assert command(["emoji", "--export", str(folder), *options, "--languages", ",".join(LANGUAGES)]) == 0


def search_section(model: Model, folder: Path) -> list[str]:
    """Return the section that compares the script with x2kit, for images of the model's size and for larger ones."""
    lines = [
        "## Search without torch",
        "",
        "The first ten images of each query by `docs/examples/search_without_torch.py`, in a process without "
        "torch, beside those of x2kit; one query of each scene in turn through the languages. Images of 64 pixels need "
        "no resizing; those of 160 pixels are resized by Pillow there and by torchvision here.",
        "",
        "| images | pixels | queries | languages | same ten in the same order | same ten | largest difference of a "
        "similarity | smallest distance of neighbours in a ranking |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for size in (64, 160):
        scenes = folder / f"scenes-{size}"
        write_scenes(scenes, SCENES, size)
        found = agreement(model, folder / "quickstart" / "onnx", scenes)
        lines.append(
            f"| {found['images']} | {size} | {found['queries']} | {found['languages']} | {found['same_order']} | "
            f"{found['same_set']} | {found['difference']:.1e} | {found['closest']:.1e} |"
        )
    return [*lines, ""]


def int8_section(run: Path, folder: Path) -> list[str]:
    """Return the section on int8 weights of the quickstart's model."""
    from x2kit.cli.run_directory import stored_recipe

    model = load(run, "cpu")
    manifest = export_model(model, "onnx", folder / "int8", int8=True, recipe=stored_recipe(run).recipe)
    measured = manifest["int8"]
    sizes = [
        format_bytes(sum(sum(each["bytes"] for each in one["files"].values()) for one in programs.values()))
        for programs in (manifest["programs"], measured["programs"])
    ]
    lines = [
        "## int8",
        "",
        f"The quickstart's model on its evaluation: {measured['measured_on']['source']}, split "
        f"{measured['measured_on']['split']}. Recall of similarity, float32 > int8. All programs: {sizes[0]} in "
        f"float32, {sizes[1]} in int8.",
        "",
        "| language | queries | " + " | ".join(f"{name}, {r}" for name, r in RECALLS) + " |",
        "|---|---|" + "---|" * len(RECALLS),
    ]
    both = measured["recall"]
    for code, row in both["float32"].items():
        cells = [f"{row[name][r]:.3f} > {both['int8'][code][name][r]:.3f}" for name, r in RECALLS]
        lines.append(f"| {code} | {row['queries']} | {' | '.join(cells)} |")
    lost = measured["recall_lost"]
    lines.append("| mean lost | | " + " | ".join(f"{lost[f'{name} {r}']:.4f}" for name, r in RECALLS) + " |")
    return [*lines, ""]


RECALLS = [(name, r) for name in ("text_to_image", "image_to_text") for r in ("r1", "r5", "r10")]


def main(arguments: Sequence[str]) -> int:
    """Measure and write the page."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--skip-base", action="store_true")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    with TemporaryDirectory() as name:
        folder = Path(name)
        sections = [HEAD, f"{machine()}; one thread. Times are the fastest of {REPEATS}.", ""]
        model = load(options.run, "cpu")
        sections += measured("The quickstart's model", model, folder / "quickstart")
        sections += search_section(model, folder)
        sections += int8_section(options.run, folder)
        if not options.skip_base:
            del model
            sections += measured(f"{BASE}, random weights", base_model(folder / "base"), folder / "base")
        sections.append(
            f"Load of the machine at the end: {os.getloadavg()[0]:.1f} programs on {os.cpu_count()} processors. Above "
            "that number other programs slow down what is timed: compare the columns of a row.\n"
        )
    PAGE.write_text("\n".join(sections), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
