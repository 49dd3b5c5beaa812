"""Open a model for an adapter, and import the library that it is for. Imports no torch."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from x2kit.errors import X2KitError

if TYPE_CHECKING:
    import torch

    from x2kit.inference.model import Model

ModelLike: TypeAlias = "str | Path | Model"
"""A name for `x2kit.load`, or a model that it returned."""


def open_model(name: ModelLike, device: str | torch.device, precision: str, **options: Any) -> Model:
    """Load a model by name; a loaded one is returned as it is, on its device and in its precision.

    Args:
        name: of the model, or the model.
        device, precision, options: of `x2kit.load`.
    Raises: as `x2kit.load`; HeadError for a model without contrastive head, which has no embeddings.
    """
    from x2kit.inference.loading import load
    from x2kit.inference.model import Model

    model = name if isinstance(name, Model) else load(name, device, precision, **options)
    model.require_part("itc")
    return model


def import_package(module: str, package: str) -> Any:
    """Import a module of an optional package.

    Raises: X2KitError with the command that installs it, if it or a package that it needs is missing.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise X2KitError(
            f"{module} cannot be imported ({error}); install it with: pip install {package}"
        ) from error
