"""CrossBert against BERT layers written out plainly: one context a row, nothing shared, nothing left out."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close
from x2kit_fusion import CrossBert
from x2kit_fusion.cross_bert import Attention, CrossBertEncoder

from x2kit.plugin import Context, SettingError
from x2kit.testing import Check, checks

TEXT, CONTEXT = 16, 12


def plain_attention(block: Attention, x: Tensor, source: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Attention by softmax over the tokens that the mask keeps, for all tokens or for each; and the softmax."""

    def heads(states: Tensor) -> Tensor:
        return states.unflatten(-1, (block.heads, -1)).transpose(1, 2)

    key, value = block.key_value(source).chunk(2, -1)
    query = heads(block.query(x))
    scores = query @ heads(key).transpose(2, 3) / math.sqrt(query.shape[-1])
    mask = mask[:, None, None] if mask.ndim == 2 else mask[:, None]
    scores = scores.masked_fill(~mask, float("-inf"))
    probabilities = scores.softmax(-1)
    attended = (probabilities @ heads(value)).transpose(1, 2).flatten(2)
    return block.norm(x + block.output(attended)), probabilities


def plain(
    encoder: CrossBertEncoder,
    text: Tensor,
    text_mask: Tensor,
    context: Context | None,
    kept: list[Tensor] | None = None,
) -> Tensor:
    """All layers on every position of every row, with expanded contexts; `kept` gets the cross-attention."""
    for layer in encoder.layers:
        text, _ = plain_attention(layer.self_attention, text, text, text_mask)
        if context is not None:
            tokens, mask = context.expand()
            text, probabilities = plain_attention(layer.cross_attention, text, tokens, mask)
            if kept is not None:
                kept.append(probabilities)
        text = layer.norm(text + layer.output(F.gelu(layer.intermediate(text))))
    return text


@pytest.fixture
def encoder() -> CrossBertEncoder:
    torch.manual_seed(0)
    encoder = CrossBert(layers=3, heads=4, dropout=0.0).build(TEXT, CONTEXT)
    for parameter in encoder.parameters():  # far from BERT's small numbers, so that every path matters
        torch.nn.init.normal_(parameter, std=0.3)
    return encoder


class Rows:
    """Five texts of up to six tokens that look at three contexts of seven."""

    def __init__(self, lead: bool = True, mask: bool = True) -> None:
        generator = torch.Generator().manual_seed(1)
        self.text = torch.randn(5, 6, TEXT, generator=generator, requires_grad=True)
        self.text_mask = torch.arange(6) < torch.tensor([6, 3, 4, 1, 5])[:, None]
        self.tokens = torch.randn(3, 7, CONTEXT, generator=generator, requires_grad=True)
        self.lead = torch.randn(5, 1, CONTEXT, generator=generator, requires_grad=True) if lead else None
        kept = torch.rand(5, 7, generator=generator) > 0.5
        kept[:, 2] = True
        self.context = Context(self.tokens, torch.tensor([2, 0, 2, 1, 0]), kept if mask else None, self.lead)

    def inputs(self) -> list[Tensor]:
        return [value for value in (self.text, self.tokens, self.lead) if value is not None]


@pytest.mark.parametrize("lead", [True, False])
@pytest.mark.parametrize("mask", [True, False])
def test_shared_keys_give_the_plain_form_and_its_gradients(
    encoder: CrossBertEncoder, lead: bool, mask: bool
) -> None:
    rows = Rows(lead, mask)
    wanted = [*rows.inputs(), *encoder.parameters()]
    found = encoder(rows.text, rows.text_mask, rows.context)
    expected = plain(encoder, rows.text, rows.text_mask, rows.context)
    assert_close(found, expected, rtol=1e-4, atol=1e-5)
    weights = torch.randn(found.shape, generator=torch.Generator().manual_seed(2))
    for own, other in zip(
        torch.autograd.grad((found * weights).sum(), wanted),
        torch.autograd.grad((expected * weights).sum(), wanted),
        strict=True,
    ):
        assert_close(own, other, rtol=1e-3, atol=1e-4)  # float32 sums in another order


@pytest.mark.parametrize("lead", [True, False])
@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("layer", [0, 1, 2])
def test_attention_and_its_gradient_are_those_of_the_plain_form(
    encoder: CrossBertEncoder, lead: bool, mask: bool, layer: int
) -> None:
    rows = Rows(lead, mask)
    plain_ones: list[Tensor] = []
    expected = plain(encoder, rows.text, rows.text_mask, rows.context, plain_ones)
    found, probabilities = encoder.attend(rows.text, rows.text_mask, rows.context, layer)
    assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert_close(probabilities, plain_ones[layer], rtol=1e-4, atol=1e-6)
    weights = torch.randn(found[:, 0].shape, generator=torch.Generator().manual_seed(2))
    (own,) = torch.autograd.grad((found[:, 0] * weights).sum(), probabilities)
    (other,) = torch.autograd.grad((expected[:, 0] * weights).sum(), plain_ones[layer])
    assert_close(own, other, rtol=1e-3, atol=1e-4)


def test_attention_with_all_rows_on_one_context_is_by_row(encoder: CrossBertEncoder) -> None:
    rows = Rows(lead=False, mask=False)
    context = Context(rows.tokens[:1], torch.zeros(5, dtype=torch.int64))
    plain_ones: list[Tensor] = []
    plain(encoder, rows.text, rows.text_mask, context, plain_ones)
    assert_close(
        encoder.attend(rows.text, rows.text_mask, context, 1)[1], plain_ones[1], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("count", [1, 3, 5])
def test_summary_rows_leave_what_is_read_as_it_was(encoder: CrossBertEncoder, count: int) -> None:
    rows = Rows()
    whole = encoder(rows.text, rows.text_mask, rows.context)
    short = encoder(rows.text, rows.text_mask, rows.context, summary_rows=count)
    assert short.shape == whole.shape
    assert_close(short[:count, 0], whole[:count, 0], rtol=1e-5, atol=1e-5)
    assert_close(short[count:], whole[count:], rtol=1e-5, atol=1e-5)
    wanted = [*rows.inputs(), *encoder.parameters()]
    for own, other in zip(
        torch.autograd.grad(short[:, 0].square().sum() + short[count:].sum(), wanted),
        torch.autograd.grad(whole[:, 0].square().sum() + whole[count:].sum(), wanted),
        strict=True,
    ):
        assert_close(own, other, rtol=1e-3, atol=1e-4)


def test_texts_may_be_read_partly(encoder: CrossBertEncoder) -> None:
    rows = Rows()
    sees = rows.text_mask[:, None] & torch.ones(6, 6, dtype=torch.bool).tril()
    expected = plain(encoder, rows.text, sees, rows.context)
    for count in (0, 3):
        found = encoder(rows.text, sees, rows.context, summary_rows=count)
        assert_close(found[count:], expected[count:], rtol=1e-4, atol=1e-5)
        assert_close(found[:, 0], expected[:, 0], rtol=1e-4, atol=1e-5)


def test_summary_rows_are_spared_in_the_last_layer(encoder: CrossBertEncoder) -> None:
    seen: list[tuple[int, ...]] = []
    for layer in encoder.layers:
        layer.intermediate.register_forward_hook(
            lambda module, args, out: seen.append(tuple(args[0].shape[:2]))
        )
    rows = Rows()
    encoder(rows.text, rows.text_mask, rows.context, summary_rows=4)
    assert seen == [(5, 6), (5, 6), (4, 1), (1, 6)]


def test_keys_and_values_are_computed_once_for_each_context(encoder: CrossBertEncoder) -> None:
    seen: list[tuple[int, ...]] = []
    for layer in encoder.layers:
        layer.cross_attention.key_value.register_forward_hook(
            lambda module, args, out: seen.append(tuple(args[0].shape[:2]))
        )
    rows = Rows()
    encoder(rows.text, rows.text_mask, rows.context, summary_rows=2)
    assert seen == [(3, 7), (5, 1)] * 3


def test_prepared_keys_and_values_are_not_computed_again(encoder: CrossBertEncoder) -> None:
    seen: list[tuple[int, ...]] = []
    rows = Rows(lead=False, mask=False)
    prepared = encoder.prepare(rows.tokens)
    expected = encoder(rows.text, rows.text_mask, rows.context)
    for layer in encoder.layers:
        layer.cross_attention.key_value.register_forward_hook(
            lambda module, args, out: seen.append(tuple(args[0].shape))
        )
    found = encoder(rows.text, rows.text_mask, rows.context._replace(prepared=prepared))
    assert seen == []
    assert_close(found, expected, rtol=0, atol=0)


@pytest.mark.parametrize("count", [0, 2, 5])
def test_rows_that_all_see_one_context_give_the_plain_form_and_its_gradients(
    encoder: CrossBertEncoder, count: int
) -> None:
    rows = Rows(lead=False, mask=False)
    context = Context(rows.tokens[1:2], torch.zeros(5, dtype=torch.int64))
    wanted = [*rows.inputs(), *encoder.parameters()]
    found = encoder(rows.text, rows.text_mask, context, summary_rows=count)
    expected = plain(encoder, rows.text, rows.text_mask, context)
    assert_close(found[:, 0], expected[:, 0], rtol=1e-4, atol=1e-5)
    assert_close(found[count:], expected[count:], rtol=1e-4, atol=1e-5)
    for own, other in zip(
        torch.autograd.grad(found[:, 0].square().sum() + found[count:].sum(), wanted),
        torch.autograd.grad(expected[:, 0].square().sum() + expected[count:].sum(), wanted),
        strict=True,
    ):
        assert_close(own, other, rtol=1e-3, atol=1e-4)


def test_without_a_context_cross_attention_is_skipped(encoder: CrossBertEncoder) -> None:
    rows = Rows()
    alone = encoder(rows.text, rows.text_mask, None)
    assert_close(alone, plain(encoder, rows.text, rows.text_mask, None), rtol=1e-4, atol=1e-5)
    for layer in encoder.layers:
        torch.nn.init.constant_(layer.cross_attention.output.weight, 7.0)
    assert_close(encoder(rows.text, rows.text_mask, None), alone, rtol=0, atol=0)


def test_hidden_tokens_of_the_context_are_not_seen(encoder: CrossBertEncoder) -> None:
    rows = Rows()
    before = encoder(rows.text, rows.text_mask, rows.context)
    hidden = ~rows.context.mask[3]  # the one row that looks at context 1
    tokens = rows.tokens.detach().clone()
    tokens[1, hidden] += 100
    assert_close(encoder(rows.text, rows.text_mask, rows.context._replace(tokens=tokens)), before)
    tokens[1, ~hidden] += 1
    after = encoder(rows.text, rows.text_mask, rows.context._replace(tokens=tokens))
    assert_close(after[[0, 1, 2, 4]], before[[0, 1, 2, 4]])
    assert not torch.allclose(after[3], before[3], atol=1e-3)


def test_padding_of_the_text_changes_nothing(encoder: CrossBertEncoder) -> None:
    rows = Rows()
    before = encoder(rows.text, rows.text_mask, rows.context)
    noisy = torch.where(rows.text_mask[..., None], rows.text, 50.0)
    assert_close(
        encoder(noisy, rows.text_mask, rows.context)[rows.text_mask],
        before[rows.text_mask],
        rtol=0,
        atol=1e-5,
    )
    longer = F.pad(rows.text, (0, 0, 0, 3)), F.pad(rows.text_mask, (0, 3))
    assert_close(
        encoder(*longer, rows.context)[:, :6][rows.text_mask], before[rows.text_mask], rtol=0, atol=1e-5
    )


def test_dropout_works_in_training_alone() -> None:
    torch.manual_seed(0)
    encoder = CrossBert(layers=1, heads=4, dropout=0.5).build(TEXT, CONTEXT)
    rows = Rows()
    call = (rows.text, rows.text_mask, rows.context)
    assert not torch.equal(encoder.train()(*call), encoder(*call))
    assert torch.equal(encoder.eval()(*call), encoder(*call))


def test_bert_is_how_it_begins() -> None:
    torch.manual_seed(0)
    encoder = CrossBert(layers=2, heads=4, mlp_ratio=3).build(64, 48)
    layer = encoder.layers[0]
    assert layer.intermediate.weight.shape == (192, 64)
    assert layer.cross_attention.key_value.weight.shape == (128, 48)
    assert_close(layer.intermediate.weight.std().item(), 0.02, rtol=0.05, atol=0)
    assert not layer.intermediate.bias.any()
    assert layer.norm.eps == layer.self_attention.norm.eps == 1e-12


def test_the_initial_spread_is_a_setting() -> None:
    torch.manual_seed(0)
    layer = CrossBert(layers=1, heads=4, init_std=0.1).build(64, 48).layers[0]
    assert_close(layer.cross_attention.key_value.weight.std().item(), 0.1, rtol=0.05, atol=0)


def test_widths_that_cannot_be_are_refused() -> None:
    with pytest.raises(SettingError) as error:
        CrossBert(width=24).describe(TEXT, CONTEXT)
    assert str(error.value) == (
        "width: CrossBert takes the text encoder's hidden states, so its width must be 16, found 24; set null to "
        "use the text encoder's"
    )
    with pytest.raises(SettingError, match="heads: 5 heads do not divide the width 16"):
        CrossBert(heads=5).describe(TEXT, CONTEXT)
    assert CrossBert(width=16, heads=4).describe(TEXT, CONTEXT) == (16, 6)


@pytest.mark.parametrize("check", checks("fusion"), ids=lambda check: check.__name__)
def test_the_contract_is_kept(check: Check) -> None:
    check(CrossBert(layers=2, heads=2))
