"""Checks of fusion encoders."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from x2kit.errors import HeadError
from x2kit.model.packing import PackedRows, by_image, read_tokens, row_lengths
from x2kit.plugin.encoders import Context, FusionEncoder
from x2kit.plugin.toolkit.packed import PackedContext
from x2kit.testing.claims import claim, claim_close, claim_differs, claim_shape
from x2kit.testing.subjects import FusionSubject


def _shifted(tokens: Tensor) -> Tensor:
    """Shift tokens far, by a different amount per channel, so that a layer norm does not cancel it."""
    return tokens + 10 * torch.linspace(-1, 1, tokens.shape[-1], dtype=tokens.dtype)


def facts_are_true(subject: FusionSubject) -> None:
    """`describe` returns the facts of the encoder."""
    facts = subject.component.describe(subject.text_width, subject.context_width)
    found = getattr(subject.build(), "width", None)
    claim(found == facts.width, f"describe() says width {facts.width}, the encoder has {found}")
    claim(facts.layers >= 1, f"describe() says {facts.layers} layers")


def shapes_are_as_declared(subject: FusionSubject) -> None:
    """[B, L, D], with and without a context."""
    encoder = subject.build()
    text, text_mask, context = subject.inputs()
    shape = (*text.shape[:2], encoder.width)
    claim_shape("the output", encoder(text, text_mask, context), shape, "[B, L, D]")
    claim_shape("the output without a context", encoder(text, text_mask, None), shape, "[B, L, D]")


def padding_changes_nothing(subject: FusionSubject) -> None:
    """Padded positions of a text have no effect, with and without a context."""
    encoder = subject.build()
    text, text_mask, context = subject.inputs()
    other = torch.where(text_mask[..., None], text, _shifted(text))
    for seen in (context, None):
        claim_close(
            encoder(text, text_mask, seen)[text_mask],
            encoder(other, text_mask, seen)[text_mask],
            "kept positions see padded ones; pass text_mask to self-attention",
        )


def sharing_a_context_changes_nothing(subject: FusionSubject) -> None:
    """M contexts shared by B rows give the same as one context per row."""
    encoder = subject.build()
    text, text_mask, context = subject.inputs()
    tokens, mask = context.expand()
    plain = Context(tokens=tokens, rows=torch.arange(len(text)), mask=mask)
    claim_close(
        encoder(text, text_mask, context)[text_mask],
        encoder(text, text_mask, plain)[text_mask],
        "rows that share contexts differ from the plain form, Context.expand(); check rows, mask and lead",
    )


def preparing_a_context_changes_nothing(subject: FusionSubject) -> None:
    """A context with the output of `prepare` gives the same as one without, whole or in part."""
    encoder = subject.build()
    text, text_mask, context = subject.inputs()
    prepared = encoder.prepare(context.tokens)
    found = [len(tensor) for tensor in prepared]
    claim(
        set(found) <= {len(context.tokens)}, f"prepare() of {len(context.tokens)} contexts gives {found} rows"
    )
    rows = context.rows == 2
    bare = context._replace(mask=None, lead=None)
    kept = text_mask[rows]
    for given in (context, bare):
        claim_close(
            encoder(text, text_mask, given)[text_mask],
            encoder(text, text_mask, given._replace(prepared=prepared))[text_mask],
            "a context with the output of prepare() is fused differently",
        )
    one = Context(context.tokens[2:], context.rows[rows] - 2, prepared=tuple(part[2:] for part in prepared))
    claim_close(
        encoder(text, text_mask, bare)[rows][kept],
        encoder(text[rows], text_mask[rows], one)[kept],
        "rows of one context, with its part of the output of prepare(), differ from the same rows among others",
    )


def a_region_hides_the_rest(subject: FusionSubject) -> None:
    """A row attends to the context tokens of its mask only; without a mask to all."""
    encoder = subject.build()
    text, text_mask, context = subject.inputs()
    hidden = context._replace(tokens=context.tokens.detach().clone())
    # Masked for row 0; rows 3 and 4 attend to all tokens of the same image.
    hidden.tokens[2, 3:] = _shifted(hidden.tokens[2, 3:])
    before, after = encoder(text, text_mask, context), encoder(text, text_mask, hidden)
    claim_close(before[0], after[0], "a row sees context tokens that its mask hides")
    claim_differs(before[4], after[4], "a row does not see context tokens that its mask shows")
    assert context.mask is not None
    whole = context._replace(mask=torch.ones_like(context.mask))
    claim_close(
        encoder(text, text_mask, whole)[text_mask],
        encoder(text, text_mask, context._replace(mask=None))[text_mask],
        "no mask is not the same as a mask that shows all",
    )


def the_lead_is_seen(subject: FusionSubject) -> None:
    """Each row attends to its own lead only."""
    encoder = subject.build()
    text, text_mask, context = subject.inputs()
    assert context.lead is not None
    lead = context.lead.detach().clone()
    lead[3] = _shifted(lead[3])
    before = encoder(text, text_mask, context)
    after = encoder(text, text_mask, context._replace(lead=lead))
    claim_differs(before[3, 0], after[3, 0], "a row does not see its lead")
    claim_close(before[[0, 1, 2, 4]], after[[0, 1, 2, 4]], "a row sees the lead of another row")
    none = encoder(text, text_mask, context._replace(lead=None))
    claim(bool(torch.isfinite(none[text_mask]).all()), "without a lead there are values that are not finite")


def the_context_matters(subject: FusionSubject) -> None:
    """The output depends on whether there is a context, and on which."""
    encoder = subject.build()
    text, text_mask, context = subject.inputs()
    fused = encoder(text, text_mask, context)
    claim_differs(fused[:, 0], encoder(text, text_mask, None)[:, 0], "the context changes nothing")
    turned = context._replace(rows=1 - context.rows.clamp(max=1))
    claim_differs(fused[:, 0], encoder(text, text_mask, turned)[:, 0], "context.rows changes nothing")


def rows_do_not_mix(subject: FusionSubject) -> None:
    """In eval mode a row does not depend on other rows."""
    encoder = subject.build()
    text, text_mask, context = subject.inputs()
    together = encoder(text, text_mask, context)
    for row in range(len(text)):
        part = slice(row, row + 1)
        assert context.mask is not None
        assert context.lead is not None
        own = Context(context.tokens, context.rows[part], context.mask[part], context.lead[part])
        alone = encoder(text[part], text_mask[part], own)
        keep = text_mask[row]
        claim_close(together[row, keep], alone[0, keep], "a row alone differs from the same row in a batch")


def summary_rows_change_nothing_that_is_read(subject: FusionSubject) -> None:
    """`summary_rows` changes neither position 0 of the first rows nor the other rows; all values are finite."""
    encoder = subject.build()
    text, text_mask, context = subject.inputs()
    for seen in (context, None):
        full = encoder(text, text_mask, seen)
        for count in (2, len(text)):
            short = encoder(text, text_mask, seen, summary_rows=count)
            claim_shape("the output with summary_rows", short, tuple(full.shape), "[B, L, D]")
            claim_close(full[:, 0], short[:, 0], f"summary_rows={count} changes position 0")
            keep = text_mask[count:]
            claim_close(full[count:][keep], short[count:][keep], f"summary_rows={count} changes later rows")
            claim(bool(torch.isfinite(short[:count]).all()), f"summary_rows={count} gives values not finite")


def gradients_reach_what_is_fused(subject: FusionSubject) -> None:
    """Text, context tokens and lead all get gradients."""
    encoder = subject.build()
    text, text_mask, context = subject.inputs()
    encoder(text, text_mask, context)[:, 0].square().sum().backward()
    for what, tensor in (("text", text), ("context.tokens", context.tokens), ("context.lead", context.lead)):
        claim(tensor is not None and tensor.grad is not None, f"no gradient reaches {what}")


def attention_is_given_or_refused(subject: FusionSubject) -> None:
    """`attend` gives what `forward` gives, with the probabilities behind it; without layers it raises HeadError."""
    encoder = subject.build()
    text, text_mask, context = subject.inputs()
    if not encoder.attention_layers:
        try:
            encoder.attend(text, text_mask, context, 0)
        except HeadError:
            return
        raise AssertionError("attend() works, but attention_layers is 0; set it in the constructor")
    fused = encoder(text, text_mask, context)
    assert context.mask is not None
    one = Context(context.tokens[2:], torch.zeros_like(context.rows))
    for seen, number in ((context, 7), (context._replace(mask=None, lead=None), 6), (one, 6)):
        for layer in range(encoder.attention_layers):
            found, probabilities = encoder.attend(text, text_mask, seen, layer)
            expected = encoder(text, text_mask, seen)
            claim_close(found[text_mask], expected[text_mask], "attend() fuses differently from forward()")
            shape = (len(text), probabilities.shape[1], text.shape[1], number)
            claim_shape("the probabilities", probabilities, shape, "[B, H, L, N]")
            kept = probabilities.transpose(1, 2)[text_mask]
            claim_close(kept.sum(-1), torch.ones(kept.shape[:-1]), "the probabilities do not sum to 1")
    found, probabilities = encoder.attend(text, text_mask, context, encoder.attention_layers - 1)
    hidden = probabilities[..., 1:].masked_select(~context.mask[:, None, None])
    claim(not hidden.any(), "masked tokens have a probability above 0; the lead comes first")
    weights = torch.linspace(-1, 1, encoder.width)
    (gradient,) = torch.autograd.grad((found[:, 0] * weights).sum(), probabilities, allow_unused=True)
    claim(
        gradient is not None and bool(gradient.any()),
        "the output does not depend on the probabilities; compute it from the returned tensor itself",
    )
    claim_close(
        fused[text_mask], encoder(text, text_mask, context)[text_mask], "attend() changes later calls"
    )


def equal_images_are_one(subject: FusionSubject) -> None:
    """A row with K equal images is fused like a row with one; checked if its settings allow several images."""
    encoder, images = subject.build(), subject.component.images
    if images == 1:
        return
    text, text_mask, context = subject.inputs()
    claim_close(
        encoder(text, text_mask, context)[text_mask],
        encoder(text, text_mask, _repeated(context, images))[text_mask],
        f"a row with {images} equal images differs from the row with one; see Context.select",
    )


def each_image_of_a_row_is_seen(subject: FusionSubject) -> None:
    """A row attends to each of its K images and leads under the mask of that image, and to no other image."""
    encoder, images = subject.build(), subject.component.images
    if images == 1:
        return
    text, text_mask, context = subject.pairs(images)
    before = encoder(text, text_mask, context)
    assert context.lead is not None
    assert context.mask is not None
    for place in range(images):
        lead = context.lead.detach().clone()
        lead[3, place] = _shifted(lead[3, place])
        after = encoder(text, text_mask, context._replace(lead=lead))
        claim_differs(before[3, 0], after[3, 0], f"a row does not see the lead of its image {place}")
        claim_close(before[[0, 1, 2, 4]], after[[0, 1, 2, 4]], "a row sees the lead of another row")
        rows = context.rows.clone()
        rows[3, place] = 1
        after = encoder(text, text_mask, context._replace(rows=rows))
        claim_differs(before[3, 0], after[3, 0], f"context.rows changes nothing for image {place}")
        hidden = context.mask.clone()
        hidden[3, place, 2:] = False
        after = encoder(text, text_mask, context._replace(mask=hidden))
        claim_differs(before[3, 0], after[3, 0], f"context.mask changes nothing for image {place}")
    prepared = context._replace(prepared=encoder.prepare(context.tokens))
    claim_close(
        before[text_mask],
        encoder(text, text_mask, prepared)[text_mask],
        "several images with the output of prepare() are fused differently",
    )


def _repeated(context: Context, images: int) -> Context:
    """Repeat the context of each row as its K images."""
    assert context.mask is not None
    assert context.lead is not None
    rows, mask = context.rows[:, None].expand(-1, images), context.mask[:, None].expand(-1, images, -1)
    return context._replace(rows=rows, mask=mask, lead=context.lead.expand(-1, images, -1))


def fusing_on_equals_fusing_again(subject: FusionSubject) -> None:
    """`fuse_next`, if overridden, gives the same as fusing all tokens again, as its default does."""
    encoder = subject.build()
    if type(encoder).fuse_next is FusionEncoder.fuse_next:
        return
    text, _, context = subject.inputs()
    text, rows = text[:4], torch.tensor([0, 0, 1, 1])
    prepared = tuple(part[:2] for part in encoder.prepare(context.tokens))
    shared = Context(context.tokens[:2], rows, prepared=prepared)
    whole, _ = FusionEncoder.fuse_next(encoder, text, shared)
    swapped = torch.tensor([1, 0, 2, 2])
    past = tuple(part[swapped, :4] for part in encoder.fuse_next(text[:, :5], shared)[1])
    for given in (shared, shared._replace(prepared=())):
        fused, _ = encoder.fuse_next(text[swapped, 4:], given, past)
        claim_close(
            fused,
            whole[swapped, 4:],
            "fuse_next() after rows and tokens of its past were selected differs from fusing all tokens again",
        )


def packed_texts_equal_padded_ones(subject: FusionSubject) -> None:
    """Rows of several texts, if the encoder declares `packs`, give the result of a padded row for each."""
    encoder = subject.build()
    if not encoder.packs:
        return
    text, text_mask, context = subject.inputs()
    lengths = row_lengths(text_mask, None)
    packed = PackedRows.of(lengths, np.full_like(lengths, text.shape[1]), text.device)
    rows, sees = packed.gather(text.flatten(0, 1)), packed.sees([text_mask])
    masks = [(len(text), context.mask)]
    images, first = (by_image(packed, context, masks, read) for read in (False, True))
    plain = encoder(text, text_mask, context)
    seen = PackedContext(context.tokens, (), context.lead, (images,))
    fused = packed.scatter(encoder(rows, sees, seen).flatten(0, 1), slice(None), text.shape[1])
    claim_close(
        plain[text_mask],
        fused[text_mask],
        "packs is True, but texts of a PackedContext are fused differently",
    )
    read = seen._replace(read=read_tokens(packed, sees, [first]))
    claim_close(
        plain[:, 0], encoder(rows, sees, read), "PackedContext.read changes the first token of a text"
    )


LAWS = (
    facts_are_true,
    shapes_are_as_declared,
    padding_changes_nothing,
    sharing_a_context_changes_nothing,
    preparing_a_context_changes_nothing,
    a_region_hides_the_rest,
    the_lead_is_seen,
    the_context_matters,
    rows_do_not_mix,
    summary_rows_change_nothing_that_is_read,
    gradients_reach_what_is_fused,
    attention_is_given_or_refused,
    equal_images_are_one,
    each_image_of_a_row_is_seen,
    fusing_on_equals_fusing_again,
    packed_texts_equal_padded_ones,
)
