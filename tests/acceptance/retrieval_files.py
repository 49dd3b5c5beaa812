"""Small annotation files for retrieval, in the layouts and under the names of the published ones."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WORDS = ("a", "dog", "cat", "red", "house", "on", "the", "sofa", "and", "bird", "runs", "sleeps")
TRAINED, MEASURED = 8, 6
"""Images of a training file and of any other."""
MULTI30K = {"en": 5, "de": 5, "fr": 1, "cs": 1}
XFLICKR = ("en", "de", "es", "id", "ja", "ru", "tr", "zh")
WIT = ("en", "ar", "bg", "da", "el", "et", "id", "ja", "ko", "tr", "vi")


def jpeg(number: int) -> bytes:
    """Noise that follows from a number."""
    pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    return file.getvalue()


def sentence(number: int, which: int, code: str = "en") -> str:
    """A caption that no other image has."""
    chosen = np.random.default_rng([number, which]).choice(WORDS, 5)
    return f"{code} {number} {which} {' '.join(chosen)}."


def sentences(number: int, count: int, code: str = "en") -> list[str]:
    return [sentence(number, which, code) for which in range(count)]


def write(path: str, content: Any) -> None:
    """Write JSON, or JSON Lines where the name says so."""
    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps(each, ensure_ascii=False) for each in content] if path.endswith("l") else []
    file.write_text("\n".join(lines) if lines else json.dumps(content, ensure_ascii=False), encoding="utf-8")


def numbers(split: str) -> range:
    """The images of a split; no two splits share one."""
    start = {"train": 0, "test": 200}.get(split, 100)
    return range(start, start + (TRAINED if split == "train" else MEASURED))


def pictures(folder: str, names: Iterable[tuple[int, str]]) -> None:
    for number, name in names:
        file = Path(folder) / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(jpeg(number))


def entries(
    split: str, names: Sequence[str], count: int, code: str = "en", key: str = "image"
) -> list[dict[str, Any]]:
    """Training has an entry for each caption, evaluation one for each image with a list of captions."""
    found = []
    for number, name in zip(numbers(split), names, strict=True):
        texts = sentences(number, count, code)
        each: list[Any] = texts if split == "train" else [texts]
        found += [{key: name, "caption": caption, "image_id": number} for caption in each]
    return found


def write_images(prefix: str, root: str, splits: Sequence[str], languages: dict[str, int], path: str) -> None:
    """Write one file for each split and language; `path` has {split} and {code}."""
    for split in splits:
        kind = "train" if split == "train" else "test" if "test" in split else "val"
        names = [f"{prefix}{number}.jpg" for number in numbers(kind)]
        pictures(root, zip(numbers(kind), names, strict=True))
        for code, count in languages.items():
            write(path.format(split=split, code=code), entries(kind, names, count, code))


def write_coco() -> None:
    path = "data/finetune/coco_{split}.json"
    write_images("val2014/", "images/coco", ("train", "val", "test"), {"en": 5}, path)


def write_flickr30k() -> None:
    path = "data/finetune/flickr30k_{split}.json"
    write_images("flickr30k-images/", "images", ("train", "val", "test"), {"en": 5}, path)


def write_multi30k() -> None:
    path = "data/finetune/multi30k/{split}.{code}.json"
    write_images("flickr30k-images/", "images", ("train", "val", "test_2016_flickr"), MULTI30K, path)


def write_mscoco() -> None:
    write_images(
        "coco/", "images", ("train",), {"en": 5, "ja": 5, "zh": 1}, "data/finetune/mscoco/{code}.train.json"
    )
    for split, code, count in (
        *(("valid", "en", 5), ("1k_test", "en", 5), ("valid", "ja", 5), ("1k_test", "ja", 5)),
        *(("val", "zh", 1), ("test", "zh", 1)),
    ):
        write_images("coco/", "images", (split,), {code: count}, "data/finetune/mscoco/{code}.{split}.json")


def write_videos(name: str, splits: Sequence[str], captions: int) -> None:
    """A video is a JSON list of frames in base64."""
    for split in splits:
        names = [f"{name}/video_{number}.json" for number in numbers(split)]
        for number, video in zip(numbers(split), names, strict=True):
            write(f"images/{video}", [base64.b64encode(jpeg(9 * number + f)).decode() for f in range(4)])
        write(f"data/finetune/{name}_{split}.json", entries(split, names, captions, key="video"))


def write_msrvtt() -> None:
    write_videos("msrvtt", ("train", "test"), 1)


def write_msvd() -> None:
    write_videos("msvd", ("train", "val", "test"), 3)


def xflickr_lines(kind: str, code: str, count: int) -> list[dict[str, Any]]:
    lines = []
    for number in numbers(kind):
        coco = kind == "test" and number % 2
        name = f"COCO_val2014_{number:012d}.jpg" if coco else f"{number}.jpg"
        pictures("images/val2014" if coco else "images/flickr30k-images", [(number, name)])
        lines.append({"id": str(number), "img_path": name, "sentences": sentences(number, count, code)})
    return lines


def write_xflickrco() -> None:
    for kind, split in (("train", "train"), ("val", "valid")):
        write(f"iglue/datasets/flickr30k/annotations/{split}_ann.jsonl", xflickr_lines(kind, "en", 5))
    for code in XFLICKR:
        lines = xflickr_lines("test", code, 1)
        if code in ("de", "id"):
            lines[0]["sentences"] = [""]  # as in the published files
        write(f"iglue/datasets/xFlickrCO/annotations/{code}/test.jsonl", lines)


def wit_lines(kind: str, code: str) -> list[dict[str, Any]]:
    return [
        {
            "image_url": f"https://example.org/{number // 2}.jpg",  # two texts of one image
            "image_content": base64.b64encode(jpeg(number // 2)).decode(),
            "caption_reference_description": sentence(number, 0, code),
        }
        for number in numbers(kind)
    ]


def write_wit() -> None:
    for kind, code in (("train", "en"), ("val", "en"), *(("test", code) for code in WIT)):
        write(f"data/wit/annotations-bs64/{kind}_{code}.jsonl", wit_lines(kind, code))
