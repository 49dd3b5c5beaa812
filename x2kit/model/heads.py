"""Heads on top of the encoders. Imports torch.

B rows, L text tokens, K masked tokens, D width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class HiddenHead(nn.Sequential):
    """Linear to twice the width, layer norm, GELU, linear to the outputs (X-VLM's matching and box heads)."""

    def __init__(self, width: int, outputs: int) -> None:
        last = nn.Linear(2 * width, outputs)
        nn.init.normal_(last.weight, std=0.02)  # small initial outputs keep the first steps stable
        nn.init.zeros_(last.bias)
        super().__init__(nn.Linear(width, 2 * width), nn.LayerNorm(2 * width), nn.GELU(), last)


class MaskedLanguageHead(nn.Module):
    """BERT's masked-language head: dense, GELU, layer norm, decoder over the vocabulary.

    Args:
        width: D.
        vocab_size: V.
        eps: of the layer norm.
        embedding: word embedding whose matrix the decoder shares; None for a separate matrix.
        log_frequencies: initial bias of each token, so that training need not learn token counts first.
    """

    def __init__(
        self,
        width: int,
        vocab_size: int,
        eps: float,
        embedding: nn.Embedding | None = None,
        log_frequencies: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.dense = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps)
        self.decoder = nn.Linear(width, vocab_size)
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)
        nn.init.normal_(self.decoder.weight, std=0.02)
        nn.init.zeros_(self.decoder.bias)
        if embedding is not None:
            self.decoder.weight = embedding.weight
        if log_frequencies is not None:
            with torch.no_grad():
                self.decoder.bias.copy_(torch.tensor(log_frequencies))

    def forward(self, fused: Tensor, positions: Tensor) -> Tensor:
        """Compute logits [B, K, V] of fused states [B, L, D] at positions [B, K] int64."""
        states = fused.gather(1, positions[..., None].expand(-1, -1, fused.shape[-1]))
        return self.decoder(self.norm(F.gelu(self.dense(states))))  # type: ignore[no-any-return]
