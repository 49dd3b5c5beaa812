"""LightCross: a few layers passed several times are so many layers with equal weights."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from x2kit_fusion import CrossBert, LightCross
from x2kit_fusion.light import LightEncoder

from x2kit.plugin import Context, SettingError, WeightsError

TEXT, CONTEXT = 16, 12


def built(passes: int, distinct: int) -> LightEncoder:
    torch.manual_seed(0)
    encoder = LightCross(layers=passes, distinct=distinct, heads=4, dropout=0.0).build(TEXT, CONTEXT)
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.3)
    return encoder


def rows() -> tuple[Tensor, Tensor, Context]:
    draw = torch.Generator().manual_seed(1)
    text, tokens, lead = (
        torch.randn(shape, generator=draw) for shape in ((4, 6, TEXT), (2, 7, CONTEXT), (4, 1, CONTEXT))
    )
    text_mask = torch.arange(6) < torch.tensor([6, 3, 4, 5])[:, None]
    return text, text_mask, Context(tokens, torch.tensor([1, 0, 1, 0]), None, lead)


@pytest.mark.parametrize(("passes", "distinct"), [(3, 1), (4, 2), (5, 2)])
def test_passes_are_layers_with_equal_weights(passes: int, distinct: int) -> None:
    light = built(passes, distinct)
    heavy = CrossBert(layers=passes, heads=4, dropout=0.0).build(TEXT, CONTEXT)
    for number, layer in enumerate(heavy.layers):
        layer.load_state_dict(light.layers[number % distinct].state_dict())
    text, text_mask, context = rows()
    for seen in (context, None):
        assert_close(light(text, text_mask, seen), heavy(text, text_mask, seen), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("passes", "distinct"), [(3, 1), (5, 2)])
def test_the_attention_is_that_of_the_pass(passes: int, distinct: int) -> None:
    light = built(passes, distinct)
    heavy = CrossBert(layers=passes, heads=4, dropout=0.0).build(TEXT, CONTEXT)
    for number, layer in enumerate(heavy.layers):
        layer.load_state_dict(light.layers[number % distinct].state_dict())
    assert light.attention_layers == passes
    for number in range(passes):
        for own, other in zip(light.attend(*rows(), number), heavy.attend(*rows(), number), strict=True):
            assert_close(own, other, rtol=1e-5, atol=1e-5)


def test_weights_are_there_once() -> None:
    one, three = built(3, 1), CrossBert(layers=3, heads=4).build(TEXT, CONTEXT)
    assert 3 * len(one.state_dict()) == len(three.state_dict())
    assert 3 * sum(value.numel() for value in one.parameters()) == sum(
        value.numel() for value in three.parameters()
    )


def test_keys_and_values_of_a_context_serve_all_passes() -> None:
    encoder, seen = built(4, 1), []
    encoder.layers[0].cross_attention.key_value.register_forward_hook(
        lambda module, args, out: seen.append(tuple(args[0].shape[:2]))
    )
    text, text_mask, context = rows()
    encoder(text, text_mask, context._replace(lead=None))
    assert seen == [(2, 7)]
    prepared = encoder.prepare(context.tokens)
    assert all(part is prepared[0] for part in prepared)


def test_more_layers_than_passes_are_refused() -> None:
    with pytest.raises(SettingError, match="distinct: 4 distinct layers, but only 3 passes"):
        LightCross(distinct=4).describe(TEXT, CONTEXT)
    assert LightCross(heads=4).describe(TEXT, CONTEXT) == (16, 3)


def test_official_checkpoints_have_no_such_encoder() -> None:
    with pytest.raises(WeightsError, match="LightEncoder: there is no official checkpoint of this encoder"):
        built(2, 1).official_names()


@pytest.mark.conformance(LightCross(heads=2), LightCross(layers=3, distinct=2, heads=2))
def test_it_keeps_the_contract(conformance: Callable[[], None]) -> None:
    conformance()
