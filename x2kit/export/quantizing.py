"""Write int8 weights by onnxruntime, and measure the recall that they cost. Imports torch and onnxruntime.

M images, T texts, L tokens, E common width.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from x2kit.data.transforms.view import unit_floats
from x2kit.errors import HeadError, X2KitError
from x2kit.evaluation.config import Recipe, require_evaluation
from x2kit.evaluation.measuring import open_sources, trained_with_images
from x2kit.export.onnx_export import OnnxProgram
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.encoders import VisionFeatures
from x2kit.plugin.tasks import TaskContext
from x2kit.plugin.tokenizers import Tokenizer
from x2kit.tasks.retrieval.config import Retrieval

INT8 = ".int8.onnx"
MEASURED = ("r1", "r5", "r10")
DIRECTIONS = ("text_to_image", "image_to_text")
Progress = Callable[[str, int, int], None]


def quantize(source: Path, target: Path, large: bool) -> None:
    """Write a copy with weights of matrix products in int8; activations are quantised while it runs.

    Args:
        source: an ONNX file in float32.
        target: to write.
        large: write the weights to a data file beside it.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # advice about a step for convolutions and for models of other tools
    try:
        # Unsigned weights: signed ones overflow in the 16-bit sums of processors without VNNI. Convolutions keep
        # float32: their int8 kernel is slower, and the first one sees pixels.
        quantize_dynamic(
            source,
            target,
            op_types_to_quantize=["MatMul", "Gemm", "Gather"],
            per_channel=True,
            weight_type=QuantType.QUInt8,
            use_external_data_format=large,
        )
    finally:
        logging.disable(level)
    for file in target.parent.glob(f"{target.name}*"):
        file.chmod(source.stat().st_mode)  # onnxruntime makes a data file for its owner alone


class Towers:
    """Exported towers with the methods of X2VLM that retrieval calls.

    Args:
        model: of which they were exported.
        image, text: run the files.
    """

    def __init__(self, model: X2VLM, image: OnnxProgram, text: OnnxProgram) -> None:
        self.image_spec = model.image_spec
        self.tokenizer: Tokenizer = model.tokenizer
        self.max_length = model.max_length
        self.device = torch.device("cpu")
        self.frames = None
        self.image, self.text = image, text

    def encode_images(self, images: Tensor) -> VisionFeatures:
        """Return the unit vectors [M, E] as summaries, without patches."""
        vectors = self.image(unit_floats(images))[0]
        return VisionFeatures(vectors, vectors[:, None, :0], (1, 1))

    def encode_texts(self, ids: Tensor, mask: Tensor) -> Tensor:
        """Return the unit vectors as the first of the tokens, [T, L, E]; the others are copies."""
        vectors = self.text(ids, mask)[0]
        return vectors[:, None].expand(-1, ids.shape[1], -1)

    def project_images(self, summary: Tensor) -> Tensor:
        """Return them unchanged."""
        return summary

    def project_texts(self, tokens: Tensor) -> Tensor:
        """Return those of position 0."""
        return tokens[:, 0]


def measure_recall(
    model: X2VLM, folder: Path, suffix: str, recipe: Recipe, progress: Progress
) -> dict[str, Any]:
    """Measure R@1, R@5 and R@10 of similarity in both directions through exported towers.

    Args:
        model: of which they were exported.
        folder: of the files.
        suffix: of the files, behind the names of the programs.
        recipe: with the source, split and languages of its evaluation.
        progress: called with stage, finished and total items.
    Returns: by language: text_to_image and image_to_text, each with r1, r5, r10; queries, candidates and chance_r1.
    Raises: RecipeError for a recipe without evaluation; DataError for a broken record.
    """
    config = require_evaluation(recipe)
    recipe.data.limits.apply()
    named = {name: task for name, task in config.tasks.items() if isinstance(task, Retrieval)}
    name, task = next(iter(named.items()), ("", Retrieval()))
    source = config.sources.get(name, config.source).for_split(config.split)
    measured = open_sources({"source": source}, config.languages)["source"]
    towers = Towers(model, OnnxProgram(folder / f"image{suffix}"), OnnxProgram(folder / f"text{suffix}"))
    context = TaskContext(
        model=towers,
        source=measured.source,
        split=config.split,
        languages=measured.languages,
        trained_with_images=trained_with_images(recipe.data, measured.languages),
        device=towers.device,
        batch_size=config.batch_size,
        progress=progress,
    )
    task = task.model_copy(update={"rerank": "none"})  # the pair is not measured
    task.check(context)
    found = task.run(context)["languages"]
    return {
        code: {
            **{name: {r: row[name][r] for r in MEASURED} for name in DIRECTIONS},
            **{name: row[name] for name in ("queries", "candidates", "chance_r1")},
        }
        for code, row in found.items()
    }


def require_vectors(model: X2VLM, recipe: Recipe | None) -> None:
    """Raise an error for a model or recipe on which the cost of int8 cannot be measured."""
    if not hasattr(model, "vision_proj"):
        raise HeadError(
            "--int8 measures the recall of vectors; this model has no contrastive head (itc); leave --int8 out"
        )
    if recipe is None or recipe.evaluation is None:
        raise X2KitError(
            "--int8 measures the recall that it costs on the recipe's evaluation, and these weights name none; "
            "give one: --recipe NAME_OR_FILE, for example evaluate/retrieval-coco"
        )


def costs(float32: Mapping[str, Any], int8: Mapping[str, Any]) -> dict[str, float]:
    """Return the mean over languages of R@1, R@5 and R@10 lost in each direction, as shares; negative if gained."""
    return {
        f"{name} {r}": sum(float32[code][name][r] - int8[code][name][r] for code in float32) / len(float32)
        for name in DIRECTIONS
        for r in MEASURED
    }
