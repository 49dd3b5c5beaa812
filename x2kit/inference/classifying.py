"""Classify images by the similarity of label texts, without training. Imports torch.

I images, K labels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch

from x2kit.errors import X2KitError
from x2kit.inference.embedding import Vectors
from x2kit.inference.matching import refuse_errors
from x2kit.inference.results import Classification, Embeddings, Scored
from x2kit.model.inputs import ImageInput, text_list

if TYPE_CHECKING:
    from x2kit.inference.model import Model

Templates: TypeAlias = str | Sequence[str] | Mapping[str, str | Sequence[str]]
"""Texts with {} for the label, or such texts by language."""


def classify(
    model: Model,
    images: ImageInput | Iterable[ImageInput] | Embeddings,
    labels: Sequence[str],
    templates: Templates,
    language: str | None,
) -> list[Classification]:
    """Classify images by label texts; see `Model.classify`."""
    names = text_list(labels)
    if not names:
        raise X2KitError("labels: expected at least one")
    vectors = embed_labels(model, names, choose_templates(templates, language))
    shown = images if isinstance(images, Embeddings) else model.embed_images(images)
    refuse_errors(shown)
    return rank_labels(shown, names, vectors, model.temperature)


def rank_labels(
    images: Embeddings, labels: Sequence[str], vectors: Vectors, temperature: float
) -> list[Classification]:
    """Rank labels by softmax over similarity / temperature; `vectors` [K, E] are those of `embed_labels`."""
    logits = torch.from_numpy(np.asarray(images, np.float32) @ vectors.T) / temperature
    return [
        Classification(name, _best_first(labels, row.tolist()))
        for name, row in zip(images.names, logits.softmax(1), strict=True)
    ]


def _best_first(labels: Sequence[str], probabilities: Sequence[float]) -> list[Scored]:
    found = [Scored(label, probability) for label, probability in zip(labels, probabilities, strict=True)]
    return sorted(found, key=lambda each: -each.probability)


def embed_labels(model: Model, labels: Sequence[str], templates: Sequence[str]) -> Vectors:
    """Embed each label as the normalised mean over all templates, [K, E]."""
    texts = [template.replace("{}", label) for label in labels for template in templates]
    embedded = model.embed_texts(texts)
    refuse_errors(embedded)
    vectors = np.asarray(embedded, np.float32).reshape(len(labels), len(templates), -1).mean(1)
    unit: Vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit


def choose_templates(templates: Templates, language: str | None) -> list[str]:
    """Return the templates of a language. Raises X2KitError for a missing language, or a template without {}."""
    if isinstance(templates, Mapping):
        if language is None or language not in templates:
            known = ", ".join(templates) or "none"
            raise X2KitError(f"templates: none for the language {language!r}; choose one of: {known}")
        templates = templates[language]
    chosen = text_list(templates)
    for template in chosen:
        if "{}" not in template:
            raise X2KitError(f"templates: {template!r} has no {{}} for the label")
    if not chosen:
        raise X2KitError("templates: expected at least one")
    return chosen
