"""Embed images, texts and regions batch by batch, in order, on one or several devices. Imports torch.

n inputs, E embedding width, L tokens.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING, Literal, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import box_convert

from x2kit.data.transforms.boxes import read_boxes
from x2kit.data.transforms.text import clean, clean_or_empty
from x2kit.errors import DataError
from x2kit.inference.inputs import Input, stack_decoded
from x2kit.inference.results import Embeddings, InputError, Rectangle
from x2kit.model.inputs import ImageInput, pad_ids, text_list
from x2kit.terminal import TaskProgress

if TYPE_CHECKING:
    from x2kit.inference.model import Model
    from x2kit.model.x2vlm import X2VLM

T = TypeVar("T")
R = TypeVar("R")
Vectors: TypeAlias = NDArray[np.float32]
OutputType: TypeAlias = Literal["float32", "float16"]
Devices: TypeAlias = Sequence[str | torch.device] | None
Report: TypeAlias = Callable[[int, int | None], None]
"""Called with the number of finished and of all inputs, None if unknown."""
Progress: TypeAlias = Report | bool | None
"""A callback; True for a bar; None for a bar on a terminal."""


def stream_images(
    model: Model,
    images: ImageInput | Iterable[ImageInput],
    batch_size: int,
    workers: int | None,
    devices: Devices,
    dtype: OutputType,
) -> Iterator[Embeddings]:
    """Embed images batch by batch; see `Model.stream_images`."""

    def embed(module: X2VLM, inputs: Sequence[Input]) -> Embeddings:
        vectors = project_inputs(model, module, inputs).astype(dtype)
        return Embeddings(vectors, [each.name for each in inputs], [e.error for e in inputs if e.error])

    batches = batched(model.reader.read(images, workers), batch_size)
    return compute_in_order(model.replicas(devices), batches, embed)


def embed_images(
    model: Model,
    images: ImageInput | Iterable[ImageInput],
    batch_size: int,
    workers: int | None,
    devices: Devices,
    dtype: OutputType,
    progress: Progress,
) -> Embeddings:
    """Embed all images; see `Model.embed_images`."""
    total = len(images) if isinstance(images, list | tuple) else None
    parts: list[Embeddings] = []
    done = 0
    with reporting(progress, "embedding images") as report:
        for part in stream_images(model, images, batch_size, workers, devices, dtype):
            parts.append(part)
            done += len(part)
            report(done, total)
    return concatenate(parts, model.dim, dtype)


def concatenate(parts: Sequence[Embeddings], dim: int, dtype: OutputType) -> Embeddings:
    """Concatenate embeddings; without parts the result is [0, dim]."""
    vectors = [part.vectors for part in parts] or [np.empty((0, dim), dtype)]
    return Embeddings(
        np.concatenate(vectors),
        [name for part in parts for name in part.names],
        [error for part in parts for error in part.errors],
    )


def project_inputs(model: Model, module: X2VLM, inputs: Sequence[Input]) -> Vectors:
    """Encode and project one batch to [n, E] float32, NaN for unreadable inputs."""
    vectors = np.full((len(inputs), model.dim), np.nan, np.float32)
    shapes: dict[tuple[int, ...], list[int]] = {}
    for row, each in enumerate(inputs):
        if each.decoded is not None:
            shapes.setdefault(each.decoded.pixels.shape, []).append(row)
    for rows in shapes.values():
        pixels = stack_decoded([inputs[row].require() for row in rows], module.device)
        with model.computing(module):
            features = module.encode_video(pixels) if pixels.ndim == 5 else module.encode_images(pixels)
            vectors[rows] = module.project_images(features.summary).cpu().numpy()
    return vectors


def embed_texts(
    model: Model,
    texts: str | Iterable[str],
    batch_size: int,
    devices: Devices,
    dtype: OutputType,
    progress: Progress,
    allow_empty: bool = False,
) -> Embeddings:
    """Embed texts, equal ones once, in batches of similar length; see `Model.embed_texts`."""
    texts = text_list(texts)
    cleaned, errors = clean_texts(texts, allow_empty)
    distinct = {text: row for row, text in enumerate(dict.fromkeys(cleaned.values()))}
    encoded = model.tokenize(list(distinct))
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))
    batches = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]

    def embed(module: X2VLM, rows: Sequence[int]) -> tuple[Sequence[int], Vectors]:
        ids, mask = pad_ids([encoded[row] for row in rows], module.tokenizer.special.pad, module.device)
        with model.computing(module):
            return rows, module.project_texts(module.encode_texts(ids, mask)).cpu().numpy()

    unique = np.empty((len(distinct), model.dim), np.float32)
    done = 0
    with reporting(progress, "embedding texts") as report:
        for rows, vectors in compute_in_order(model.replicas(devices), batches, embed):
            unique[rows] = vectors
            done += len(rows)
            report(done, len(distinct))
    found = np.full((len(texts), model.dim), np.nan, dtype)
    found[list(cleaned)] = unique[[distinct[text] for text in cleaned.values()]]
    return Embeddings(found, texts, errors)


def embed_regions(
    model: Model, image: ImageInput, boxes: Sequence[Rectangle], dtype: OutputType
) -> Embeddings:
    """Embed regions of one image; see `Model.embed_regions`."""
    name, shown = model.reader.read_one(image)
    bbox = box_convert(torch.from_numpy(read_boxes(boxes, shown.size)), "xywh", "cxcywh")
    bbox = (bbox / torch.tensor(shown.size * 2)).to(model.module.device, torch.float32)
    module = model.module
    with model.computing(module):
        pixels = stack_decoded([shown], module.device)
        features = module.encode_video(pixels) if pixels.ndim == 5 else module.encode_images(pixels)
        rows = torch.zeros(len(bbox), dtype=torch.int64, device=module.device)
        vectors = module.project_images(module.encode_regions(features, rows, bbox)[0])
    return Embeddings(vectors.cpu().numpy().astype(dtype), [f"{name}{list(box)}" for box in boxes])


def clean_texts(texts: Sequence[str], allow_empty: bool = False) -> tuple[dict[int, str], list[InputError]]:
    """Clean texts as in training; those that are empty afterwards become errors, or "" if `allow_empty`."""
    cleaner = clean_or_empty if allow_empty else clean
    cleaned: dict[int, str] = {}
    errors: list[InputError] = []
    for index, text in enumerate(texts):
        try:
            cleaned[index] = cleaner(text)
        except DataError as error:
            errors.append(InputError(index, text, str(error)))
    return cleaned, errors


def batched(inputs: Iterable[Input], batch_size: int) -> Iterator[list[Input]]:
    """Yield consecutive inputs, at most `batch_size` images a batch; a video counts its frames."""
    batch: list[Input] = []
    images = 0
    for each in inputs:
        cost = each.decoded.frames if each.decoded else 1
        if batch and images + cost > batch_size:
            yield batch
            batch, images = [], 0
        batch.append(each)
        images += cost
    if batch:
        yield batch


def compute_in_order(
    modules: Sequence[X2VLM], batches: Iterable[T], compute: Callable[[X2VLM, T], R]
) -> Iterator[R]:
    """Compute batches in one thread a device while the next are read; yield results in order."""
    pools = [ThreadPoolExecutor(1, thread_name_prefix="x2kit-compute") for _ in modules]
    waiting: deque[Future[R]] = deque()
    try:
        for batch, module, pool in zip(batches, cycle(modules), cycle(pools)):
            waiting.append(pool.submit(compute, module, batch))
            if len(waiting) > len(modules):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for pool in pools:
            pool.shutdown(cancel_futures=True)


@contextmanager
def reporting(progress: Progress, name: str) -> Iterator[Report]:
    """Yield a callback for progress: the given one, a bar, or one that reports nothing."""
    if callable(progress):
        yield progress
    elif progress or (progress is None and sys.stderr.isatty()):
        with TaskProgress() as bar:
            yield lambda done, total: bar(name, done, total)
    else:
        yield _no_report


def _no_report(done: int, total: int | None) -> None:
    """Report nothing."""
