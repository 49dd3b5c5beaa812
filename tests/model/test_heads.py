from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from x2kit.model.heads import HiddenHead, MaskedLanguageHead


def test_the_hidden_head_is_twice_as_wide_inside() -> None:
    head = HiddenHead(8, 4)
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(0))
    hidden = F.gelu(F.layer_norm(x @ head[0].weight.T + head[0].bias, (16,)))
    assert_close(head(x), hidden @ head[3].weight.T + head[3].bias)
    assert [name for name, _ in head.named_parameters()] == [
        f"{i}.{kind}" for i in (0, 1, 3) for kind in ("weight", "bias")
    ]


def test_initial_outputs_are_small() -> None:
    answers = HiddenHead(8, 2)(torch.randn(100, 8, generator=torch.Generator().manual_seed(0)))
    assert answers.abs().max() < 0.5


def test_tokens_are_read_at_their_positions() -> None:
    torch.manual_seed(0)
    head = MaskedLanguageHead(8, 20, 1e-5)
    fused = torch.randn(2, 5, 8)
    positions = torch.tensor([[3, 1], [0, 4]])
    logits = head(fused, positions)
    for row in range(2):
        for k in range(2):
            state = head.norm(F.gelu(head.dense(fused[row, positions[row, k]])))
            assert_close(logits[row, k], state @ head.decoder.weight.T + head.decoder.bias)
    assert head.norm.eps == 1e-5


def test_a_tied_word_embedding_is_one_parameter() -> None:
    embedding = nn.Embedding(20, 8)
    head = MaskedLanguageHead(8, 20, 1e-12, embedding)
    assert head.decoder.weight is embedding.weight
    head(torch.randn(1, 3, 8), torch.tensor([[1]])).sum().backward()
    assert embedding.weight.grad is not None


def test_log_frequencies_are_the_initial_bias() -> None:
    shares = [0.5, 0.25, 0.25]
    head = MaskedLanguageHead(8, 3, 1e-12, None, [math.log(share) for share in shares])
    nn.init.zeros_(head.decoder.weight)
    logits = head(torch.randn(1, 3, 8), torch.tensor([[2]]))
    assert_close(logits.softmax(-1)[0, 0], torch.tensor(shares))
