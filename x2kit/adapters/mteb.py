"""Evaluate a model of x2kit with mteb: an encoder of images and texts with its metadata. Imports no torch.

n inputs, E embedding width.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import chain
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from x2kit.adapters.opening import ModelLike, import_package, open_model
from x2kit.errors import DataError, X2KitError

if TYPE_CHECKING:
    import torch

    from x2kit.inference.model import Model

__all__ = ["Encoder", "describe", "load_encoder"]

PACKAGE = "mteb"
ORGANISATION = "x2kit"
"""First part of the names of models that are not on the Hub; mteb requires one."""
HUB = "hf-hub:"
"""Start of names of repositories on the Hugging Face Hub."""
BATCH = 64
"""Inputs in a pass, unless mteb says otherwise."""


def load_encoder(
    name: ModelLike, device: str | torch.device = "auto", precision: str = "fp32", **options: Any
) -> Encoder:
    """Load a model for `mteb.evaluate`.

    Args:
        name: for `x2kit.load`, or a loaded model, which keeps its device and precision.
        device, precision, options: of `x2kit.load`.
    Raises: X2KitError if mteb is not installed; as `x2kit.load`; HeadError for a model without contrastive head.
    """
    import_package("mteb", PACKAGE)
    return Encoder(open_model(name, device, precision, **options))


class Encoder:
    """A model by the encoder protocol of mteb 2: text, image and mixed tasks, without prompts.

    Args:
        model: with a contrastive head.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    @cached_property
    def mteb_model_meta(self) -> Any:
        """The `mteb.models.ModelMeta`; see `describe`."""
        return describe(self.model)

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any = None,
        hf_split: str = "",
        hf_subset: str = "",
        prompt_type: Any = None,
        batch_size: int = BATCH,
        show_progress_bar: bool = True,
        precision: str = "float32",
        **more: Any,
    ) -> NDArray[np.float32]:
        """Encode the batches of a loader of mteb to unit vectors [n, E].

        An input with image and text gets the sum of both vectors, not of unit length. A text of which nothing remains
        after cleaning is encoded as a text without words.

        Args:
            inputs: batches with "text", a list of texts, "image", a list of PIL images, or both.
            task_metadata, hf_split, hf_subset, prompt_type, more: not used.
            batch_size: inputs in a pass.
            show_progress_bar: show one on a terminal.
            precision: of the vectors; only "float32".
        Raises: DataError for an unreadable image, or inputs of neither kind; X2KitError for another precision.
        """
        if precision != "float32":
            raise X2KitError(
                f"precision: expected float32, found {precision!r}; mteb's CompressionWrapper quantizes"
            )
        batches = iter(inputs)
        first = next(batches, None)
        if first is None:
            return np.empty((0, self.model.dim), np.float32)
        columns = [name for name in ("image", "text") if name in first]
        if not columns:
            raise DataError(f'inputs: expected batches with "text" or "image", found {", ".join(first)}')
        progress = None if show_progress_bar else False
        batches = chain([first], batches)
        if columns == ["text"]:
            return self._texts([text for batch in batches for text in batch["text"]], batch_size, progress)
        texts: list[str] = []  # of the batches whose images are read
        shown = self.model.embed_images(_images(batches, texts), batch_size=batch_size, progress=progress)
        _refuse(shown.errors)
        vectors: NDArray[np.float32] = shown.vectors
        return vectors + self._texts(texts, batch_size, progress) if "text" in columns else vectors

    def _texts(self, texts: Sequence[str], batch_size: int, progress: bool | None) -> NDArray[np.float32]:
        found = self.model.embed_texts(texts, batch_size=batch_size, progress=progress, allow_empty=True)
        _refuse(found.errors)
        vectors: NDArray[np.float32] = found.vectors
        return vectors

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Compute the cosines of all vectors of both, [n1, n2]."""
        return import_package("mteb.similarity_functions", PACKAGE).cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Compute the cosines of vectors at the same position, [n]."""
        return import_package("mteb.similarity_functions", PACKAGE).pairwise_cos_sim(embeddings1, embeddings2)


def describe(model: Model) -> Any:
    """Fill mteb's `ModelMeta` from a loaded model.

    The revision is the hash of the weights, so mteb's cache of results keeps two trainings apart; a precision other
    than fp32 is part of `experiment_kwargs`, which it keeps apart too. Licence, release date and training data are
    unknown, and so are the languages of a model whose run was not measured and whose recipe names none.

    Raises: X2KitError if mteb is not installed, or for a model in memory, which has no file to hash.
    """
    meta = import_package("mteb.models", PACKAGE).ModelMeta
    parameters = list(model.module.parameters())
    embedding = model.module.text.token_embedding()
    return meta(
        loader=None,
        name=model_name(model.name),
        revision=model.fingerprint,
        release_date=None,
        languages=_languages(model.languages),
        n_parameters=sum(each.numel() for each in parameters),
        n_embedding_parameters=None if embedding is None else embedding.weight.numel(),
        memory_usage_mb=sum(each.numel() * each.element_size() for each in parameters) / 2**20,
        max_tokens=model.module.max_length,
        embed_dim=model.dim,
        license=None,
        open_weights=None,
        public_training_code=None,
        public_training_data=None,
        framework=["PyTorch", "safetensors"],
        similarity_fn_name="cosine",
        use_instructions=False,
        training_datasets=None,
        modalities=["text", "image"],
        experiment_kwargs=None if model.precision == "fp32" else {"precision": model.precision},
    )


def model_name(name: str) -> str:
    """Return the name of a model as mteb requires it, ORGANISATION/NAME: of the Hub, or x2kit/ and the last folder.

    A folder `weights` takes the name of its run.
    """
    repository = name.removeprefix(HUB).partition("@")[0]
    if name.startswith(HUB) and repository.count("/") == 1:
        return repository
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part.strip("/.")]
    if parts[-1:] == ["weights"] and len(parts) > 1:
        parts.pop()
    return f"{ORGANISATION}/{parts[-1] if parts else 'model'}"


def _languages(codes: Sequence[str]) -> list[str] | None:
    """Convert codes of two letters to those of mteb, eng-Latn for en; None if none is known."""
    mappings = import_package("mteb.languages.iso_mappings", PACKAGE)
    # The only way from en to eng-Latn in mteb; it is not public, so it may go.
    convert = getattr(mappings, "_hf_langs_to_iso_lang_scripts", None)
    found: list[str] | None = convert(list(codes)) if convert and codes else None
    return found


def _images(batches: Iterable[Mapping[str, Any]], texts: list[str]) -> Iterator[Any]:
    """Yield the images of all batches and add their texts, if they have any, to the list."""
    for batch in batches:
        texts.extend(batch.get("text", ()))
        yield from batch["image"]


def _refuse(errors: Sequence[Any]) -> None:
    if errors:
        first = errors[0]
        raise DataError(
            f"{len(errors)} inputs cannot be encoded; the first is {first.name!r}: {first.message}"
        )
