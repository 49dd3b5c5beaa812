"""A loaded model with methods for images and texts. Imports torch.

I images, T texts, n inputs, E embedding width, R regions.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray

from x2kit.errors import X2KitError
from x2kit.evaluation.harness import RESULT, read_result
from x2kit.inference import answering, classifying, embedding, explaining, locating, matching
from x2kit.inference.classifying import Templates
from x2kit.inference.embedding import Devices, OutputType, Progress
from x2kit.inference.inputs import Reader
from x2kit.inference.matching import By, Images, Texts
from x2kit.inference.results import (
    Answer,
    Classification,
    Description,
    Embeddings,
    Explanation,
    Location,
    Match,
    Ranking,
    Rectangle,
)
from x2kit.inference.saved_tasks import SavedTasks
from x2kit.io.identity import sha256_of
from x2kit.io.run_directory import RECIPE
from x2kit.model.device import autocast, choose_device
from x2kit.model.inputs import ImageInput
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.tasks import Task

PARTS = {
    "itc": "vision_proj",
    "itm": "itm_head",
    "bbox": "bbox_head",
    "mlm": "mlm_head",
    "frames": "frame_positions",
    "answers": "answer_head",
    "decoder": "decoder",
}
"""Optional parts of a model by their names in `model.heads`, with their attributes."""


class Model:
    """A loaded model; safe to use from several threads.

    Images are paths, URLs, bytes of encoded files, PIL images, arrays or tensors; one, several or an iterator. For
    models with frame positions also videos: files, lists of frames, or arrays of four axes in a list.

    Args:
        module: in evaluation mode, on its device.
        name: that the user gave.
        weights: file of the weights; None for a model in memory.
        precision: "fp32", "bf16" or "fp16" of matrix products.
        tasks: of its recipe, by which it answers and describes; None if unknown.
    """

    def __init__(
        self,
        module: X2VLM,
        name: str,
        weights: Path | None = None,
        precision: str = "fp32",
        tasks: SavedTasks | None = None,
    ) -> None:
        self.module = module
        self.name = name
        self.precision = precision
        self.tasks = tasks
        self.reader = Reader(module.image_spec, module.frames)
        self.tokenizing = RLock()
        """Held while a text is tokenized: fast tokenizers of Hugging Face refuse concurrent calls."""
        self.built_tasks: dict[str, Task] = {}
        """Tasks by what they produce, built at first use: a list of thousands of answers is tokenized once."""
        self._weights = weights
        self._copies: dict[torch.device, X2VLM] = {module.device: module}
        self._copying = RLock()

    def __repr__(self) -> str:
        parts = ", ".join(part for part in PARTS if self.has(part))
        return f"Model({self.name!r}, {self.device}, {self.precision}, parts: {parts})"

    @property
    def device(self) -> torch.device:
        """Device of the parameters."""
        return self.module.device

    @property
    def dim(self) -> int:
        """Embedding width E. Raises HeadError for a model without contrastive head."""
        return int(self.module.vision_proj.out_features)

    @property
    def temperature(self) -> float:
        """Divisor of similarities in the contrastive loss."""
        return float(self.module.temperature.detach())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the weights file. Raises X2KitError for a model in memory."""
        if self._weights is None:
            raise X2KitError(f"{self.name}: a model in memory has no weights file; save and load it")
        return sha256_of(self._weights)

    @cached_property
    def languages(self) -> tuple[str, ...]:
        """Languages that the run was measured in or that its recipe names; empty if unknown."""
        if self._weights is None:
            return ()
        folder = self._weights.parent
        # a published folder holds its results itself, a run beside its weights
        measured = folder / RESULT if (folder / RESULT).is_file() else folder.parent / RESULT
        result = read_result(measured) if measured.is_file() else {}
        recipe = folder / RECIPE
        tree = yaml.safe_load(recipe.read_text(encoding="utf-8")) if recipe.is_file() else {}
        return tuple(sorted({*_languages(tree), *result.get("languages", ())}))

    def has(self, part: str) -> bool:
        """Return whether the model has a part of `PARTS`, or a head of a plugin with this name."""
        return hasattr(self.module, PARTS.get(part, "")) or part in getattr(self.module, "extra_heads", ())

    def require_part(self, part: str) -> None:
        """Raise HeadError, with what adds the part, for a model without it."""
        if not self.has(part):
            getattr(self.module, PARTS[part])

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenize cleaned texts."""
        with self.tokenizing:
            return self.module.tokenizer.encode(list(texts), self.module.max_length)

    @contextmanager
    def computing(self, module: X2VLM) -> Iterator[None]:
        """Compute without gradients in the model's precision."""
        with torch.inference_mode(), autocast(module.device, self.precision):
            yield

    def replicas(self, devices: Devices) -> list[X2VLM]:
        """Return a copy of the module for each device, made once; by default the module itself."""
        if devices is None:
            return [self.module]
        with self._copying:
            found = []
            for device in (choose_device(each, "devices") for each in devices):
                if device not in self._copies:
                    self._copies[device] = copy.deepcopy(self.module).to(device)
                found.append(self._copies[device])
            return found

    def embed_images(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        batch_size: int = 64,
        workers: int | None = None,
        devices: Devices = None,
        dtype: OutputType = "float32",
        progress: Progress = None,
    ) -> Embeddings:
        """Embed images or videos as unit vectors [n, E], in order.

        Args:
            images: any number of images; an iterator is read as batches are encoded.
            batch_size: images in a pass; a video counts its frames.
            workers: threads that decode while the model computes; by default one for each core.
            devices: that share the batches, each with a copy of the model.
            dtype: of the vectors.
            progress: a callback, or whether to show a bar; by default on a terminal.
        Raises: HeadError for a model without contrastive head. Unreadable images are `errors` of the result.
        """
        return embedding.embed_images(self, images, batch_size, workers, devices, dtype, progress)

    def stream_images(
        self,
        images: ImageInput | Iterable[ImageInput],
        *,
        batch_size: int = 64,
        workers: int | None = None,
        devices: Devices = None,
        dtype: OutputType = "float32",
    ) -> Iterator[Embeddings]:
        """Embed images as `embed_images`, yielding each batch when it is ready, in order."""
        return embedding.stream_images(self, images, batch_size, workers, devices, dtype)

    def embed_texts(
        self,
        texts: str | Iterable[str],
        *,
        batch_size: int = 256,
        devices: Devices = None,
        dtype: OutputType = "float32",
        progress: Progress = None,
        allow_empty: bool = False,
    ) -> Embeddings:
        """Embed texts as unit vectors [n, E], in order; equal texts are encoded once.

        Args:
            texts: any number of texts; the tokens after the model's `max_length` are cut off.
            batch_size, devices, dtype, progress: as in `embed_images`.
            allow_empty: encode texts that are empty after cleaning as texts without words; by default they are
                `errors` of the result.
        Raises: HeadError for a model without contrastive head.
        """
        return embedding.embed_texts(self, texts, batch_size, devices, dtype, progress, allow_empty)

    def embed_regions(
        self, image: ImageInput, boxes: Sequence[Rectangle], *, dtype: OutputType = "float32"
    ) -> Embeddings:
        """Embed regions of an image as unit vectors [R, E].

        Args:
            image: one image or video.
            boxes: R boxes (x, y, width, height) in pixels of the image.
            dtype: of the vectors.
        Raises: DataError for an unreadable image, or a box that is empty or partly outside it.
        """
        return embedding.embed_regions(self, image, boxes, dtype)

    def similarity(self, images: Images, texts: Texts) -> NDArray[np.float32]:
        """Compute the cosine similarity [I, T] of every image with every text; both may be embeddings.

        Raises: HeadError for a model without contrastive head; DataError for an unreadable image or an empty text.
            Rows and columns of errors in given embeddings are NaN.
        """
        return matching.similarity(self, images, texts)

    def match(self, images: ImageInput | Iterable[ImageInput], texts: str | Iterable[str]) -> list[Match]:
        """Compute the probability that text i describes image i; one image or one text is repeated.

        Raises: ShapeError if the numbers differ; HeadError for a model without matching head; DataError for an
            unreadable image.
        """
        return matching.match(self, images, texts)

    def rank(
        self, images: Images, texts: Texts, rerank: int = 0, *, by: By = "text", count: int | None = None
    ) -> list[Ranking]:
        """Rank images for each text, or with by="image" texts for each image.

        Args:
            images, texts: inputs or, without re-ranking, embeddings.
            rerank: candidates of each query that the matching head orders; they come before the rest.
            by: the queries.
            count: length of each ranking; None for all.
        Raises: HeadError for a missing head; DataError for an unreadable query. Unreadable candidates are `errors`.
        """
        return matching.rank(self, images, texts, rerank, by, count)

    def classify(
        self,
        images: ImageInput | Iterable[ImageInput] | Embeddings,
        labels: Sequence[str],
        templates: Templates = "{}",
        language: str | None = None,
    ) -> list[Classification]:
        """Classify images among labels without training: softmax over similarity / temperature.

        Args:
            images: inputs or embeddings.
            labels: texts.
            templates: one or several texts with {} for the label, whose embeddings are averaged; or these by language.
            language: key of `templates`.
        Raises: X2KitError for templates without the language or without {}; DataError for an unreadable image.
        """
        return classifying.classify(self, images, labels, templates, language)

    def locate(self, image: ImageInput, text: str, candidates: int = 1) -> Location:
        """Locate a text in an image; see `locate_all`."""
        return self.locate_all(image, [text], candidates)[0]

    def locate_all(self, image: ImageInput, texts: Iterable[str], candidates: int = 1) -> list[Location]:
        """Locate texts in one image or video, which is encoded once.

        The first box is that of the box head. Further candidates, and the first one of a model without box head, are
        the brightest places of the text's heat map; see `explain`.

        Args:
            image: one image or video.
            texts: T texts.
            candidates: maximum number of boxes of each text; fewer if the map has fewer places.
        Returns: for each text its boxes, with the matching probability of each region, NaN without matching head.
        Raises: HeadError for a model with neither box head nor matching head; DataError for an unreadable image, or a
            text that is empty after cleaning.
        """
        return locating.locate_all(self, image, texts, candidates)

    def explain(self, image: ImageInput, text: str) -> Explanation:
        """Map the matching logit of a text, and of each of its words, onto the patches of an image or video.

        The map is cross-attention × positive gradient of the logit, in the layer after half of the fusion layers; for
        fusion encoders without attention, the drop of the logit when patches are hidden. `method` says which.

        Raises: HeadError for a model without matching head; DataError as `locate_all`.
        """
        return explaining.explain(self, image, text)

    def answer(
        self,
        image: ImageInput,
        question: str,
        answers: Sequence[str] | None = None,
        count: int = 5,
        *,
        matching: bool = False,
    ) -> Answer:
        """Answer a question about an image or video.

        A decoder ranks the answers of its recipe or generates some, an answer head chooses among its classes.

        Args:
            image: one image or video.
            question: text.
            answers: candidates; by default those of the model's recipe, or generated ones.
            count: maximum number of answers.
            matching: instead rank `answers` by the matching head on question and answer; any model with a matching
                head can, but few were trained for it.
        Raises: HeadError for a model without the part; DataError for an unreadable image or unknown answers.
        """
        return answering.answer(self, image, question, answers, count, matching)

    def describe(self, image: ImageInput, prompt: str | None = None, count: int = 1) -> Description:
        """Describe an image or video, with a model that was trained to write captions.

        Args:
            image: one image or video.
            prompt: beginning of the description; by default that of the training.
            count: maximum number of descriptions.
        Raises: HeadError for a model that writes no captions; DataError for an unreadable image.
        """
        return answering.describe(self, image, prompt, count)


def _languages(tree: Any) -> Iterator[str]:
    """Yield the values of all keys `languages` that hold lists."""
    for key, value in tree.items() if isinstance(tree, dict) else ():
        if key == "languages" and isinstance(value, list):
            yield from (each for each in value if isinstance(each, str))
        yield from _languages(value)
