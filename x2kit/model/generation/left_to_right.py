"""Generate captions left to right with the masked-language head. Imports torch.

B rows, L tokens, K masked tokens, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from x2kit.errors import ShapeError
from x2kit.model.generation.beam_search import Found, Search, best_texts
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin import Context, Past, VisionFeatures, causal_mask
from x2kit.plugin.component_faults import component_faults


def reading_order(inserted: Tensor) -> tuple[Tensor, Tensor]:
    """Build the causal attention mask and positions, with optional inserted mask tokens.

    Every token sees itself and all tokens before it. A mask token may be inserted in front of the token to predict: it
    gets that token's position and no other token sees it, so one pass predicts many tokens without hiding any
    (official code, "fg_free").

    Args:
        inserted: [B, L] bool, True for inserted masks; all False if masks replace tokens.
    Returns: sees [B, L, L] bool and positions [B, L] int64, the arguments of `TextEncoder.read_partly`.
    """
    length = inserted.shape[1]
    before = causal_mask(length, length, inserted.device)
    itself = torch.eye(length, dtype=torch.bool, device=inserted.device)
    sees = before & (~inserted[:, None] | itself)
    real = (~inserted).long()
    return sees, real.cumsum(1) - real


def caption_states(model: X2VLM, ids: Tensor, inserted: Tensor, context: Context) -> Tensor:
    """Compute fused states [B, L, D] of captions read left to right, for the masked-language head.

    Args:
        ids: [B, L] int64.
        inserted: [B, L] bool, as in `reading_order`.
        context: images of the captions.
    Raises: HeadError if the text encoder does not implement `read_partly`.
    """
    sees, positions = reading_order(inserted)
    return model.fuse(model.encode_texts(ids, sees, positions), sees, context)


class CaptionReader:
    """Log-probabilities of the next token of captions, each token encoded once.

    Keys and values of images are computed once and shared by their texts; those of tokens are kept from call to call.

    Args:
        model: in evaluation mode, with a masked-language head.
        features: of M images.
        per_image: texts of each image, in adjacent rows.
        masked: read the prediction from a mask appended to the text (X²-VLM) instead of from its last token (X-VLM).
    """

    @torch.no_grad()
    def __init__(self, model: X2VLM, features: VisionFeatures, per_image: int, masked: bool) -> None:
        self._model = model
        self._masked = masked
        rows = torch.arange(len(features.summary), device=model.device).repeat_interleave(per_image)
        self._context = model.prepare_images(features)._replace(rows=rows)
        self._text: Past = ()
        self._fused: Past = ()

    @torch.no_grad()
    def __call__(self, ids: Tensor, origin: Tensor) -> Tensor:
        """Compute log-probabilities [B, V]; arguments as for `NextToken`. Raises HeadError as `caption_states`."""
        ids, origin = ids.to(self._model.device), origin.to(self._model.device)
        first = 0
        if self._text:
            first = self._text[0].shape[1]
            self._text, self._fused = (
                tuple(part.index_select(0, origin) for part in past) for past in (self._text, self._fused)
            )
        new = ids[:, first:]
        if self._masked:
            new = torch.nn.functional.pad(new, (0, 1), value=self._model.tokenizer.special.mask)
        with component_faults(self._model.text.built_from):
            text, self._text = self._model.text.read_next(new, self._text)
        with component_faults(self._model.fusion.built_from):
            states, self._fused = self._model.fusion.fuse_next(text, self._context, self._fused)
        if self._masked:
            self._text, self._fused = (
                tuple(part[:, :-1] for part in past) for past in (self._text, self._fused)
            )
        last = torch.full((len(ids), 1), new.shape[1] - 1, device=self._model.device)
        logits: Tensor = self._model.mlm_head(states, last)
        return logits[:, 0].float().log_softmax(-1)


def write_captions(
    model: X2VLM,
    features: VisionFeatures,
    prompt: Sequence[int],
    search: Search | None = None,
    masked: bool = True,
) -> list[Found]:
    """Generate the best caption of each image; see `write_several_captions`."""
    return [texts[0] for texts in write_several_captions(model, features, prompt, search, masked)]


def write_several_captions(
    model: X2VLM,
    features: VisionFeatures,
    prompt: Sequence[int],
    search: Search | None = None,
    masked: bool = True,
) -> list[list[Found]]:
    """Generate captions of each image by beam search.

    Args:
        model: in evaluation mode.
        features: of B images.
        prompt: first tokens of all captions, including the special first token.
        search: settings of the beam search.
        masked: as for `CaptionReader`.
    Returns: up to `num_beams` captions for each of B images, best first, without the prompt, ending with the separator
        unless cut at the maximum length.
    Raises: ShapeError if prompt and caption may exceed the text encoder's length; HeadError as in `caption_states`.
    """
    search = search or Search()
    require_room(model, prompt, search.max_length)
    reader = CaptionReader(model, features, search.num_beams, masked)
    return best_texts(reader, len(features.summary), prompt, model.tokenizer.special.sep, search)


def draw_captions(
    model: X2VLM,
    features: VisionFeatures,
    prompt: Sequence[int],
    samples: int,
    max_length: int,
    rng: torch.Generator | None,
    masked: bool = False,
) -> Tensor:
    """Sample captions of each image, or take the likeliest token at each step without `rng`.

    Args:
        model: in evaluation mode.
        features: of B images.
        prompt: as for `write_several_captions`.
        samples: captions of each image.
        max_length: maximum number of tokens without the prompt.
        rng: generator on the model's device, at temperature 1; None for greedy captions.
        masked: as for `CaptionReader`.
    Returns: [B x samples, T] int64 tokens as drawn, T at most `max_length`; the separator behind the first one.
    Raises: as `write_several_captions`.
    """
    require_room(model, prompt, max_length)
    end = model.tokenizer.special.sep
    reader = CaptionReader(model, features, samples, masked)
    ids = torch.tensor([list(prompt)], device=model.device).expand(len(features.summary) * samples, -1)
    rows = torch.arange(len(ids), device=model.device)
    ended = torch.zeros_like(rows, dtype=torch.bool)
    for _ in range(max_length):
        logs = reader(ids, rows)
        token = logs.argmax(1) if rng is None else logs.exp().multinomial(1, generator=rng)[:, 0]
        ids = torch.cat([ids, token.masked_fill(ended, end)[:, None]], 1)
        ended = ended | (token == end)
        if ended.all():
            break
    return ids[:, len(prompt) :]


def require_room(model: X2VLM, prompt: Sequence[int], max_length: int) -> None:
    """Raise ShapeError if prompt and caption may exceed the text encoder's length."""
    if len(prompt) + max_length > model.max_length:
        raise ShapeError(
            f"prompt ({len(prompt)} tokens) and max_length ({max_length}) exceed the {model.max_length} tokens of the "
            "text encoder"
        )
