"""Write the fixtures of a version: weights, a run, a checkpoint and an index that later versions must read.

    python -m tests.upgrade.write VERSION

Run once for each release, from its commit, and commit the folder; it is never written again. Nothing in it is of
this machine: `@FOLDER@` stands for the folder of the fixture in recipes, results and the index.

    data/shapes/       images and records of tests/release/own_files.py
    data/tokenizer/    tokenizer.json of the text encoder
    run/               a finished run: recipe, metrics, weights, evaluation, the checkpoint of its middle
    index/             a search index of the images, in the store that needs no library
    plugin-weights/    weights of a model whose encoders are a plugin of one file, copied beside them
    expected.json      numbers of this version
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

import x2kit
from tests.model import conftest as tiny_model
from tests.release import own_files
from tests.upgrade.fixtures import HERE, PLACE, embeddings, measured, numbers, place_in
from x2kit.cli import main as command
from x2kit.model import save_weights

RECIPE = """\
description: Coloured shapes
model:
  vision:
    class_path: TimmViT
    init_args: {image_size: 16, patch_size: 8, width: 8, depth: 1, heads: 1, mlp_ratio: 1.0, class_token: false}
  text:
    class_path: Bert
    init_args:
      {width: 8, layers: 1, heads: 1, mlp_ratio: 1.0, max_length: 16, published_tokenizer: data/tokenizer}
  fusion: {class_path: CrossBert, init_args: {layers: 1, heads: 1, mlp_ratio: 1.0, dropout: 0.0}}
  heads: {embed_dim: 8}
data:
  num_workers: 0
  streams:
    shapes:
      task: ImageText
      source: &source
        class_path: JsonLines
        init_args: {files: ["data/shapes/{split}.jsonl"], languages_held: [en, de]}
      batch_size: 4
      max_tokens: 12
      languages: [en]
    regions:
      task: {class_path: RegionText, init_args: {images_from: shapes}}
      source: *source
      batch_size: 4
      max_tokens: 12
      languages: [en]
training:
  {steps: 4, lr: 1.0e-2, warmup: 1, precision: fp32, device: cpu, threads: 1, log_every: 1, checkpoint_every: 2}
evaluation:
  source: *source
  tasks: {retrieval: Retrieval, grounding: Grounding}
"""
LEFT_OUT = ("lock", "report.html", "bad-records.jsonl")


def main(version: str) -> int:
    """Write the folder of a version."""
    target = HERE / version
    if version != x2kit.__version__ or target.exists():
        print(f"{target} exists, or x2kit has another version: {x2kit.__version__}", file=sys.stderr)
        return 2
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve() / version
        write(folder)
        clean(folder)
        shutil.copytree(folder, target)
    size = sum(file.stat().st_size for file in target.rglob("*") if file.is_file())
    print(f"{target}: {size / 1000:.0f} kB")
    return 0


def write(folder: Path) -> None:
    """Write data, train, evaluate and index below a folder."""
    own_files.write_files(folder / "data")
    (folder / "data/shapes.yaml").unlink()
    write_tokenizer(folder / "data")
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE, encoding="utf-8")
    run = folder / "run"
    x2kit_command("train", str(recipe), "--run-dir", str(run))
    x2kit_command("evaluate", str(run))
    with contextlib.chdir(folder):
        images = "data/shapes/images"
        x2kit_command("search", "index", images, "--model", "run", "--index", "index", "--store", "Exact")
    save_weights(tiny_model.build(), tiny_model.RECIPE, folder / "plugin-weights")
    expected = {
        "evaluation": measured(run),
        "metrics": numbers(run),
        "embeddings": embeddings(folder),
        "plugin_sum": sum(p.double().sum().item() for p in tiny_model.build().parameters()),
    }
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


def write_tokenizer(data: Path) -> None:
    """Write BERT's tokenizer with the words of the captions, so that no two texts are equal."""
    lines = "".join(
        file.read_text(encoding="utf-8") for file in sorted(data.glob("shapes/*.jsonl"))
    ).splitlines()
    captions = [text for line in lines for text in json.loads(line)["caption"].values()]
    special = {name: f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
    words = [*special.values(), *sorted({word for caption in captions for word in caption.split()})]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    named = {f"{name}_token": token for name, token in special.items()}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(data / "tokenizer")


def x2kit_command(*arguments: str) -> None:
    """Run a command in this process. Raises RuntimeError if it fails."""
    if status := command(arguments):
        raise RuntimeError(f"x2kit {' '.join(arguments)}: exit status {status}")


def clean(folder: Path) -> None:
    """Remove what is not read again, and replace the folder's path. Raises RuntimeError if a file still has it."""
    for path in [*folder.rglob("*")]:
        if path.name in LEFT_OUT or path.name == "step-0000004":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    (folder / "recipe.yaml").unlink()
    place_in(folder, str(folder), PLACE)
    for path in folder.rglob("*"):
        if path.is_file() and (found := [word for word in machine(folder) if word in path.read_bytes()]):
            raise RuntimeError(f"{path} has {found[0].decode()}, which is of this machine")


def machine(folder: Path) -> Sequence[bytes]:
    """List paths of this machine."""
    return [str(path).encode() for path in (folder.parent, HERE.parents[1], Path.home())]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m tests.upgrade.write",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("version")
    torch.set_num_threads(1)
    sys.exit(main(parser.parse_args().version))
