"""DoubledCross: each layer of CrossBert twice, the first for the first image of a row, the second for the second."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from x2kit_fusion import CrossBert, DoubledCross, PreNormCross
from x2kit_fusion.cross_bert import CrossBertEncoder
from x2kit_fusion.doubled import DoubledEncoder

from x2kit.plugin import Context

TEXT, CONTEXT = 16, 12
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def randomised(encoder: CrossBertEncoder) -> CrossBertEncoder:
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    return encoder


def doubled(layers: int = 2) -> DoubledEncoder:
    torch.manual_seed(0)
    encoder = DoubledCross(layers=layers, heads=4, dropout=0.0).build(TEXT, CONTEXT)
    randomised(encoder)
    return encoder


def pairs() -> tuple[Tensor, Tensor, Context]:
    draw = torch.Generator().manual_seed(1)
    text, tokens, lead = (
        torch.randn(shape, generator=draw) for shape in ((4, 6, TEXT), (3, 7, CONTEXT), (4, 2, CONTEXT))
    )
    text_mask = torch.arange(6) < torch.tensor([6, 3, 4, 5])[:, None]
    return text, text_mask, Context(tokens, torch.tensor([[1, 0], [0, 2], [1, 1], [2, 0]]), None, lead)


def naive(encoder: DoubledEncoder, text: Tensor, text_mask: Tensor, context: Context) -> Tensor:
    """Run the layers one by one, each on the copied tokens of its own image."""
    assert context.lead is not None
    images = [
        torch.cat([context.lead[:, place : place + 1], context.tokens[context.rows[:, place]]], 1)
        for place in range(2)
    ]
    everything = slice(0, len(text))
    for number, layer in enumerate(encoder.layers):
        own = Context(images[number % 2], torch.arange(len(text)))
        text = layer(text, text_mask, layer.share(own, None), own, everything, text.shape[1])
    return text


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_layers_take_turns_between_the_images_of_a_row(layers: int) -> None:
    encoder = doubled(layers)
    text, text_mask, context = pairs()
    fused = encoder(text, text_mask, context)
    assert_close(fused, naive(encoder, text, text_mask, context), **CLOSE)
    for count in (2, 4):
        short = encoder(text, text_mask, context, summary_rows=count)
        assert_close(short[:, 0], fused[:, 0], **CLOSE)


def test_exchanging_the_images_changes_the_result() -> None:
    encoder = doubled()
    text, text_mask, context = pairs()
    assert context.lead is not None
    exchanged = context._replace(rows=context.rows.flip(1), lead=context.lead.flip(1))
    before, after = encoder(text, text_mask, context), encoder(text, text_mask, exchanged)
    assert (before - after)[[0, 1, 3]].abs().amax((1, 2)).min() > 0.01


def test_keys_and_values_are_one_parameter_and_are_computed_once_per_image() -> None:
    encoder, seen = doubled(), []
    for first, second in zip(encoder.layers[::2], encoder.layers[1::2], strict=True):
        assert first.cross_attention.key_value is second.cross_attention.key_value
        assert first.cross_attention.query is not second.cross_attention.query
        first.cross_attention.key_value.register_forward_hook(
            lambda module, args, out: seen.append(tuple(args[0].shape[:2]))
        )
    text, text_mask, context = pairs()
    encoder(text, text_mask, context._replace(lead=None))
    assert seen == [(3, 7), (3, 7)]


def test_layers_of_an_undoubled_encoder_are_copied_to_both_of_a_pair() -> None:
    plain = randomised(CrossBert(layers=2, heads=4, dropout=0.0).build(TEXT, CONTEXT))
    encoder = doubled()
    state = encoder.fit(plain.state_dict())
    encoder.load_state_dict(state)
    for number, layer in enumerate(encoder.layers):
        for name, value in plain.layers[number // 2].state_dict().items():
            assert torch.equal(layer.state_dict()[name], value)
    own = doubled().state_dict()
    assert encoder.fit(own) is own


def test_it_reads_the_weights_and_takes_the_sizes_of_cross_bert() -> None:
    plain = CrossBert(layers=3, heads=4, mlp_ratio=2.0)
    assert DoubledCross().in_place_of(plain) == DoubledCross(layers=3, heads=4, mlp_ratio=2.0)
    assert DoubledCross(heads=2).in_place_of(plain).heads == 2
    assert DoubledCross().reads_weights_of(plain)
    assert DoubledCross().reads_weights_of(DoubledCross())
    assert not DoubledCross().reads_weights_of(PreNormCross())
    assert DoubledCross(layers=3, heads=4).describe(TEXT, CONTEXT) == (TEXT, 6)


def test_an_official_checkpoint_is_doubled_if_neighbours_share_keys_and_values() -> None:
    shapes = {
        f"{number}.{name}.weight": (16, 16)
        for number in range(4)
        for name in ("crossattention.self.query", "crossattention.self.key", "intermediate.dense")
    }
    assert DoubledCross.from_official(shapes) is None
    assert CrossBert.from_official(shapes) == CrossBert(layers=4, heads=1, mlp_ratio=1.0)
    shared = {name: shape for name, shape in shapes.items() if not name.startswith(("1.cross", "3.cross"))}
    shared |= {f"{n}.crossattention.self.query.weight": (16, 16) for n in (1, 3)}
    assert CrossBert.from_official(shared) is None
    assert DoubledCross.from_official(shared) == DoubledCross(layers=2, heads=1, mlp_ratio=1.0)


@pytest.mark.conformance(DoubledCross(layers=1, heads=2), DoubledCross(layers=2, heads=2))
def test_it_keeps_the_contract(conformance: Callable[[], None]) -> None:
    conformance()
