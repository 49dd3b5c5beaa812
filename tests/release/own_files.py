"""Train, evaluate, report and embed on files of a user: images, a JSON Lines file for each split, and a recipe."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

from PIL import Image, ImageDraw

from tests.release.environments import Environment

COLOURS = {"red": "rot", "green": "grün", "blue": "blau", "white": "weiß"}
SHAPES = {"circle": "ein {} Kreis", "square": "ein {} Quadrat", "bar": "ein {} Balken"}
SIZE = 32
RECIPE = """\
description: Coloured shapes
model:
  vision: {class_path: TimmViT, init_args: {image_size: 32, patch_size: 8, width: 32, depth: 1, heads: 2}}
  text: {class_path: Bert, init_args: {width: 32, layers: 1, heads: 2, tokenizer: {vocab_size: 80}}}
  fusion: {class_path: CrossBert, init_args: {layers: 1, heads: 2}}
  heads: {embed_dim: 16}
data:
  num_workers: 1
  streams:
    shapes:
      task: ImageText
      source: &source {class_path: JsonLines, init_args: {files: ["shapes/{split}.jsonl"], languages_held: [en, de]}}
      batch_size: 6
      languages: [en]
    regions:
      task: {class_path: RegionText, init_args: {images_from: shapes}}
      source: *source
      batch_size: 6
      languages: [en]
training: {steps: 4, device: cpu, log_every: 1}
evaluation:
  source: *source
  tasks: {retrieval: Retrieval, grounding: Grounding}
"""


def write_files(folder: Path) -> None:
    """Write shapes.yaml, shapes/train.jsonl, shapes/test.jsonl and shapes/images/*.png into a folder."""
    images = folder / "shapes/images"
    images.mkdir(parents=True)
    lines = []
    for number, ((colour, german), shape) in enumerate(product(COLOURS.items(), SHAPES)):
        bbox = draw(images / f"{number}.png", colour, shape)
        caption = {"en": f"a {colour} {shape}", "de": SHAPES[shape].format(german)}
        record = {"id": str(number), "image": f"images/{number}.png", "caption": caption}
        lines.append(
            json.dumps({**record, "regions": [{"bbox": bbox, "caption": caption}]}, ensure_ascii=False)
        )
    for split, chosen in {"train": lines[:8], "test": lines[8:]}.items():
        (folder / f"shapes/{split}.jsonl").write_text("\n".join(chosen) + "\n", encoding="utf-8")
    (folder / "shapes.yaml").write_text(RECIPE, encoding="utf-8")


def draw(file: Path, colour: str, shape: str) -> list[int]:
    """Draw a shape on grey. Returns: its box, [x, y, width, height] in pixels."""
    image = Image.new("RGB", (SIZE, SIZE), "grey")
    box = (4, 12, 28, 20) if shape == "bar" else (8, 8, 24, 24)
    brush = ImageDraw.Draw(image)
    (brush.ellipse if shape == "circle" else brush.rectangle)(box, fill=colour)
    image.save(file)
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def use(environment: Environment) -> str:
    """Run the four commands on the files, and load the model in Python.

    Returns: a line for the table of the release.
    Raises: CommandFailed; AssertionError if a result is not there.
    """
    run = environment.work / "runs/shapes"
    write_files(environment.work)
    environment.x2kit("data", "check", "shapes.yaml")
    environment.x2kit("train", "shapes.yaml", "--run-dir", str(run))
    environment.x2kit("evaluate", str(run))
    environment.x2kit("report", str(run))
    environment.x2kit("embed", "shapes/images", "--model", str(run), "--output", "shapes.npy")
    languages = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))["languages"]
    assert sorted(languages) == ["de", "en"], languages
    assert "<svg" in (run / "report.html").read_text(encoding="utf-8")
    shape = environment.python("-c", "import numpy; print(*numpy.load('shapes.npy').shape)").split()
    assert shape == ["12", "16"], shape
    loading = "import x2kit; print(x2kit.load('runs/shapes').match('shapes/images/0.png', 'a red circle'))"
    assert environment.python("-c", loading)
    return "train, evaluate, report, embed and load on 12 images of one's own"
