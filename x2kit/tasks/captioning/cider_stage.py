"""Self-critical training on sampled captions (Rennie et al., arXiv:1612.00563), X-VLM's CIDEr stage. Imports torch.

B images, S samples of an image, T drawn tokens, P tokens of the prompt.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from x2kit.data.storage.files import open_file
from x2kit.data.transforms.text import clean
from x2kit.errors import DataError, X2KitError
from x2kit.model.generation.left_to_right import caption_states, draw_captions
from x2kit.model.x2vlm import image_context
from x2kit.objectives import leave_one_out, mean_log_probability, self_critical_loss
from x2kit.plugin.encoders import VisionFeatures
from x2kit.tasks.captioning.metric import DocumentFrequencies, cider_d
from x2kit.tasks.captioning.samples import prompt_ids
from x2kit.tasks.captioning.words import reward_words

if TYPE_CHECKING:
    from x2kit.model.x2vlm import X2VLM
    from x2kit.tasks.captioning.config import Captioning


class CiderStage:
    """The self-critical loss.

    Samples and greedy captions are drawn in evaluation mode; the log-probabilities of the samples are computed in
    training mode, in one pass over their tokens.

    Args:
        config: of the task.
        frequencies: of n-grams; by default counted in `config.frequencies`.
    Raises: DataError for an unreadable file of captions.
    """

    def __init__(self, config: Captioning, frequencies: DocumentFrequencies | None = None) -> None:
        self._config = config
        self._frequencies = frequencies or count_frequencies(str(config.frequencies))

    def loss(self, model: X2VLM, features: VisionFeatures, references: Sequence[Sequence[str]]) -> Tensor:
        """Sample captions and compare their rewards with the baseline.

        Args:
            model: in training mode.
            features: of B images.
            references: cleaned captions of each image.
        Returns: scalar, mean over the samples.
        Raises: X2KitError for a model whose weights are sharded over ranks.
        """
        if any(isinstance(parameter, DTensor) for parameter in model.parameters()):
            raise X2KitError(
                "objective cider: ranks sample captions of different lengths, so they cannot gather sharded weights "
                "together; set training.distribution to ddp"
            )
        config, prompt = self._config, prompt_ids(self._config.prompt, model.tokenizer)
        masked = config.form != "causal"
        with evaluating(model):
            seed = int(torch.randint(2**62, ()))
            rng = torch.Generator(model.device).manual_seed(seed)
            length, count = config.sample_length, config.samples
            drawn = draw_captions(model, features, prompt, count, length, rng, masked)
            greedy = None
            if config.baseline == "greedy":
                greedy = draw_captions(model, features, prompt, 1, length, None, masked)
        rewards = self.rewards(model, drawn, references).view(-1, count)
        baseline = (
            leave_one_out(rewards) if greedy is None else self.rewards(model, greedy, references)[:, None]
        )
        log_probability = self.log_probability(model, features, prompt, drawn)
        return self_critical_loss(log_probability, rewards.flatten(), baseline.expand_as(rewards).flatten())

    def log_probability(
        self, model: X2VLM, features: VisionFeatures, prompt: Sequence[int], drawn: Tensor
    ) -> Tensor:
        """Compute the mean log-probability [B x S] of drawn tokens [B x S, T], S in a row for each image."""
        ids = torch.cat([torch.tensor([list(prompt)], device=drawn.device).expand(len(drawn), -1), drawn], 1)
        inserted = torch.zeros_like(ids, dtype=torch.bool)
        places = torch.arange(len(prompt) - 1, ids.shape[1] - 1, device=ids.device)
        if self._config.form != "causal":  # a mask in front of each token predicts it, as when it was drawn
            masks = torch.full_like(drawn, model.tokenizer.special.mask)
            ids = torch.cat([ids[:, : len(prompt)], torch.stack([masks, drawn], 2).flatten(1)], 1)
            places = torch.arange(len(prompt), ids.shape[1], 2, device=ids.device)
            inserted = torch.zeros_like(ids, dtype=torch.bool).index_fill(1, places, True)
        images = len(features.summary)
        rows = torch.arange(images, device=ids.device).repeat_interleave(len(ids) // images)
        states = caption_states(model, ids, inserted, image_context(features, rows))
        logits = model.mlm_head(states, places.expand(len(ids), -1))
        return mean_log_probability(logits, drawn, model.tokenizer.special.sep)

    def rewards(self, model: X2VLM, drawn: Tensor, references: Sequence[Sequence[str]]) -> Tensor:
        """Compute CIDEr-D [N] of drawn tokens [N, T], equally many rows for each image in order.

        A caption that does not end loses its last token, which the official code overwrites with the end token.
        """
        end, each = model.tokenizer.special.sep, len(drawn) // len(references)
        ids = [row[: row.index(end)] if end in row else row[:-1] for row in drawn.tolist()]
        captions = [reward_words(model.tokenizer.decode(row)) for row in ids]
        words = [[reward_words(text) for text in texts] for texts in references]
        repeated = [of_image for of_image in words for _ in range(each)]
        return torch.tensor(cider_d(captions, repeated, self._frequencies).rows, device=drawn.device)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model in evaluation mode, and restore the mode of each module."""
    modes = {module: module.training for module in model.modules()}
    device = next(model.parameters()).device.type
    # Weights cast without gradients must not stay in autocast's cache for the pass with gradients.
    cast = torch.autocast(
        device, torch.get_autocast_dtype(device), torch.is_autocast_enabled(device), cache_enabled=False
    )
    model.eval()
    try:
        with cast:
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def count_frequencies(location: str) -> DocumentFrequencies:
    """Count the n-grams of reward texts by image.

    Args:
        location: JSON file: a list of entries with image_id (or image) and caption, or an object in the layout of COCO
            whose annotations have them.
    Raises: DataError if it cannot be read or has no captions.
    """
    try:
        with open_file(location) as file:
            content = json.load(file)
        entries = content["annotations"] if isinstance(content, dict) else content
        captions: dict[Any, list[list[str]]] = defaultdict(list)
        for entry in entries:
            texts = entry["caption"]
            image = entry["image_id"] if "image_id" in entry else entry["image"]
            captions[image] += [
                reward_words(clean(text)) for text in ([texts] if isinstance(texts, str) else texts)
            ]
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"frequencies: {location}: expected a list of entries with image_id (or image) and caption, or an "
            f"object with annotations: {error!r}"
        ) from error
    if not captions:
        raise DataError(f"frequencies: {location}: found no captions")
    return DocumentFrequencies.of(captions.values())


def encode_references(texts: Sequence[str]) -> bytes:
    """Encode references as bytes, since targets of a step are tensors."""
    return json.dumps(list(texts)).encode()


def decode_references(encoded: Tensor) -> list[list[str]]:
    """Decode references [B, bytes] uint8, padded with 0."""
    return [json.loads(bytes(row).rstrip(b"\0")) for row in encoded.tolist()]
