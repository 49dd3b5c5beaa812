"""Evaluate models of x2kit with clip_benchmark: a loader for it, and its command line. Imports no torch.

`python -m x2kit.adapters.clip_benchmark eval --model runs/quickstart ...` is `clip_benchmark eval` with the model type
x2kit.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from x2kit.adapters.open_clip import Preprocess, Tokenizer, refuse_pretrained, tokenizer_of
from x2kit.adapters.opening import ModelLike, import_package, open_model
from x2kit.errors import X2KitError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from x2kit.adapters.towers import Towers

__all__ = ["load_x2kit", "main", "register"]

MODEL_TYPE = "x2kit"
PACKAGE = "clip-benchmark"


def load_x2kit(
    model_name: ModelLike,
    pretrained: str | None = None,
    cache_dir: str | None = None,
    device: str | torch.device = "cpu",
) -> tuple[Towers, Preprocess, Tokenizer]:
    """Load a model for clip_benchmark; the signature is that of its loaders.

    Args:
        model_name: a name for `x2kit.load`, or a loaded model, which keeps its device.
        pretrained: empty: the name says which weights.
        cache_dir: not used: `x2kit.load` has its own cache.
        device: of the model.
    Returns: model, transform of images, tokenizer; what `evaluate` of `clip_benchmark.metrics.*` takes.
    Raises: X2KitError if `pretrained` is given; as `x2kit.load`; HeadError for a model without contrastive head.
    """
    from x2kit.adapters.towers import Towers

    refuse_pretrained(pretrained)
    model = open_model(model_name, device, "fp32")
    return Towers(model), Preprocess(model.module.image_spec), tokenizer_of(model)


def register() -> None:
    """Add the model type x2kit to clip_benchmark, for its `load_clip` and its command line; again has no effect.

    Also replaces its accuracy of classification, which fails with numpy 2.4
    (https://github.com/LAION-AI/CLIP_benchmark/issues/147), unless the installed version works.

    Raises: X2KitError if clip_benchmark is not installed.
    """
    models = import_package("clip_benchmark.models", PACKAGE)
    models.TYPE2FUNC[MODEL_TYPE] = load_x2kit
    if MODEL_TYPE not in models.MODEL_TYPES:  # the command line has a reference to this list
        models.MODEL_TYPES.append(MODEL_TYPE)
    _repair_accuracy(import_package("clip_benchmark.metrics.zeroshot_classification", PACKAGE))


def _repair_accuracy(classification: Any) -> None:
    import torch

    try:
        classification.accuracy(torch.eye(2), torch.arange(2))
    except TypeError:
        classification.accuracy = _accuracy


def _accuracy(output: Tensor, target: Tensor, topk: Sequence[int] = (1,)) -> list[float]:
    """Compute the share of rows of `output` [B, K] with the class `target` [B] among the k highest, for each k."""
    hits = output.topk(max(topk), 1).indices == target[:, None]
    return [hits[:, :k].any(1).double().mean().item() for k in topk]


def main(arguments: Sequence[str]) -> int:
    """Run the command line of clip_benchmark with models of x2kit.

    `eval` gets `--model_type x2kit` and `--pretrained ''` where they are not given.

    Raises: X2KitError if clip_benchmark is not installed, or for an `eval` without `--output`: the default name would
        contain the slashes of the model's name, and fail after the measurement.
    """
    register()
    command_line = import_package("clip_benchmark.cli", PACKAGE)
    given = list(arguments)
    if given[:1] == ["eval"] and not {"-h", "--help"} & set(given):
        if not _has(given, "--output"):
            raise X2KitError(
                "pass --output FILE.json: names of models contain slashes, which no file name can"
            )
        for option, value in (("--model_type", MODEL_TYPE), ("--pretrained", "")):
            if not _has(given, option):
                given += [option, value]
    before, sys.argv = sys.argv, ["clip_benchmark", *given]  # its parser reads sys.argv alone
    try:
        return command_line.main() or 0
    finally:
        sys.argv = before


def _has(arguments: Sequence[str], option: str) -> bool:
    return any(each == option or each.startswith(f"{option}=") for each in arguments)


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except X2KitError as error:
        sys.exit(f"error: {error}")
