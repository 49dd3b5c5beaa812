"""PreNormCross against pre-norm layers written out plainly: one context a row, nothing shared, nothing left out."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.testing import assert_close
from x2kit_fusion import PreNormCross
from x2kit_fusion.cross_bert import Attention
from x2kit_fusion.pre_norm import PreNormEncoder

from x2kit.plugin import Context, SettingError, WeightsError

TEXT, CONTEXT = 16, 12


def normed(linear: nn.Sequential, x: Tensor) -> Tensor:
    """A layer norm, then a linear map."""
    norm, weight = linear
    return weight(F.layer_norm(x, x.shape[-1:], norm.weight, norm.bias, norm.eps))


def attended(block: Attention, x: Tensor, source: Tensor, mask: Tensor) -> Tensor:
    def heads(states: Tensor) -> Tensor:
        return states.unflatten(-1, (block.heads, -1)).transpose(1, 2)

    key, value = normed(block.key_value, source).chunk(2, -1)
    query = heads(normed(block.query, x))
    scores = (query @ heads(key).transpose(2, 3)) / math.sqrt(query.shape[-1])
    scores = scores.masked_fill(~mask[:, None, None], float("-inf"))
    return x + block.output((scores.softmax(-1) @ heads(value)).transpose(1, 2).flatten(2))


def plain(encoder: PreNormEncoder, text: Tensor, text_mask: Tensor, context: Context | None) -> Tensor:
    for layer in encoder.layers:
        text = attended(layer.self_attention, text, text, text_mask)
        if context is not None:
            text = attended(layer.cross_attention, text, *context.expand())
        text = text + layer.output(F.gelu(normed(layer.intermediate, text)))
    return encoder.norm(text)


@pytest.fixture
def encoder() -> PreNormEncoder:
    torch.manual_seed(0)
    encoder = PreNormCross(layers=3, heads=4, dropout=0.0).build(TEXT, CONTEXT)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    return encoder


def rows() -> tuple[Tensor, Tensor, Context]:
    draw = torch.Generator().manual_seed(1)
    text, tokens, lead = (
        torch.randn(shape, generator=draw) for shape in ((4, 6, TEXT), (2, 7, CONTEXT), (4, 1, CONTEXT))
    )
    text_mask = torch.arange(6) < torch.tensor([6, 3, 4, 5])[:, None]
    seen = torch.rand(4, 7, generator=draw) > 0.4
    return text, text_mask, Context(tokens, torch.tensor([1, 0, 1, 0]), seen, lead)


def test_it_is_the_plain_form(encoder: PreNormEncoder) -> None:
    text, text_mask, context = rows()
    for seen in (context, context._replace(mask=None, lead=None), None):
        expected = plain(encoder, text, text_mask, seen)
        found = encoder(text, text_mask, seen)
        assert_close(found[text_mask], expected[text_mask], rtol=1e-4, atol=1e-5)
        short = encoder(text, text_mask, seen, summary_rows=2)
        assert_close(short[:, 0], expected[:, 0], rtol=1e-4, atol=1e-5)


def test_nothing_stands_between_the_text_and_the_last_norm(encoder: PreNormEncoder) -> None:
    """With nothing added by any part, what comes out is the text, normalised once."""
    for layer in encoder.layers:
        for part in (layer.self_attention.output, layer.cross_attention.output, layer.output):
            nn.init.zeros_(part.weight)
            nn.init.zeros_(part.bias)
    text, text_mask, context = rows()
    assert_close(encoder(text, text_mask, context), encoder.norm(text))


def test_the_scale_of_the_context_does_not_matter(encoder: PreNormEncoder) -> None:
    text, text_mask, context = rows()
    assert context.lead is not None
    louder = context._replace(tokens=context.tokens * 100, lead=context.lead * 100)
    assert_close(encoder(text, text_mask, louder), encoder(text, text_mask, context), rtol=1e-3, atol=1e-4)


def test_keys_and_values_are_computed_once_for_each_context(encoder: PreNormEncoder) -> None:
    seen: list[int] = []
    for layer in encoder.layers:
        layer.cross_attention.key_value.register_forward_hook(
            lambda module, args, out: seen.append(len(args[0]))
        )
    text, text_mask, context = rows()
    encoder(text, text_mask, context._replace(lead=None))
    assert seen == [2, 2, 2]


def test_official_checkpoints_have_no_such_encoder(encoder: PreNormEncoder) -> None:
    with pytest.raises(WeightsError, match="PreNormEncoder: there is no official checkpoint of this encoder"):
        encoder.official_names()


def test_widths_that_cannot_be_are_refused() -> None:
    with pytest.raises(SettingError, match="width: PreNormCross takes the text encoder's hidden states"):
        PreNormCross(width=24).describe(TEXT, CONTEXT)
    with pytest.raises(SettingError, match="heads: 5 heads do not divide the width 16"):
        PreNormCross(heads=5).describe(TEXT, CONTEXT)


@pytest.mark.conformance(PreNormCross(layers=2, heads=2))
def test_it_keeps_the_contract(conformance: Callable[[], None]) -> None:
    conformance()
