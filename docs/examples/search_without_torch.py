"""Search a folder of images by text with `x2kit export --to onnx`: onnxruntime, numpy, pillow, tokenizers; no torch.

python search_without_torch.py EXPORTED PHOTOS "a dog under a tree" "ein Hund" ...      (- reads queries, one a line)
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps
from tokenizers import Tokenizer

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif"}


class Towers:
    def __init__(self, exported: Path, kind: str = "") -> None:
        self.spec = json.loads((exported / "preprocessing.json").read_text(encoding="utf-8"))
        self.tokenizer = Tokenizer.from_file(str(exported / "tokenizer.json"))
        self.image = onnxruntime.InferenceSession(exported / f"image{kind}.onnx")
        self.text = onnxruntime.InferenceSession(exported / f"text{kind}.onnx")

    def pixels(self, file: Path) -> np.ndarray:
        """Read an image as float32 [C, S, S] in [0, 1], by the steps of preprocessing.json."""
        image = ImageOps.exif_transpose(Image.open(file)).convert(self.spec["mode"])
        size = (self.spec["size"],) * 2
        if image.size != size:
            image = image.resize(size, Image.Resampling[self.spec["interpolation"].upper()])
        values = np.asarray(image, np.float32).reshape(*size, self.spec["channels"])
        return values.transpose(2, 0, 1) / 255

    def images(self, files: list[Path], batch: int = 32) -> np.ndarray:
        parts = (np.stack([*map(self.pixels, files[at : at + batch])]) for at in range(0, len(files), batch))
        return np.concatenate([self.image.run(["image_vector"], {"images": part})[0] for part in parts])

    def texts(self, texts: list[str]) -> np.ndarray:
        found = self.tokenizer.encode_batch(texts)  # cleaned, cut and padded as in training
        ids = np.array([each.ids for each in found], np.int64)
        mask = np.array([each.attention_mask for each in found], bool)
        return self.text.run(["text_vector"], {"ids": ids, "mask": mask})[0]


parser = argparse.ArgumentParser()
parser.add_argument("exported", type=Path)
parser.add_argument("photos", type=Path)
parser.add_argument("queries", nargs="+")
parser.add_argument("--count", type=int, default=10)
options = parser.parse_args()
queries = sys.stdin.read().splitlines() if options.queries == ["-"] else options.queries
towers = Towers(options.exported)
files = sorted(file for file in options.photos.rglob("*") if file.suffix.lower() in SUFFIXES)
similarity = towers.texts(queries) @ towers.images(files).T
for query, row in zip(queries, similarity, strict=True):
    best = np.argsort(-row, kind="stable")[: options.count]
    print(json.dumps({"query": query, "hits": [[str(files[at]), float(row[at])] for at in best]}))
