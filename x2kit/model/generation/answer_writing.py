"""Write answers with a decoder, without a list (X²-VLM, section 4.3). Imports torch.

Q questions, L question tokens, D width, K beams.
"""

from __future__ import annotations

import torch
from torch import Tensor

from x2kit.model.generation.beam_search import Search, beam_search
from x2kit.plugin import SpecialIds, TextDecoder


@torch.inference_mode()
def write_answers(
    decoder: TextDecoder, states: Tensor, states_mask: Tensor, special: SpecialIds, search: Search
) -> list[list[int]]:
    """Generate an answer to each question by beam search.

    Args:
        decoder: of answers, in evaluation mode.
        states: [Q, L, D], fused questions.
        states_mask: [Q, L] bool.
        special: ids of the tokenizer; an answer begins with `cls` and ends with `sep`.
        search: settings; 1 beam is greedy search.
    Returns: Q answers as token ids, without `cls`, ending with `sep` unless cut at the maximum length.
    """
    context, context_mask = (each.repeat_interleave(search.num_beams, 0) for each in (states, states_mask))

    def next_token(ids: Tensor, origin: Tensor) -> Tensor:
        ids = ids.to(states.device)
        logits: Tensor = decoder(ids, torch.ones_like(ids, dtype=torch.bool), context, context_mask)
        return logits[:, -1].float().log_softmax(-1)

    return [found.ids for found in beam_search(next_token, len(states), [special.cls], special.sep, search)]
