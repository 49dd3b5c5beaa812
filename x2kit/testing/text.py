"""Checks of text encoders."""

from __future__ import annotations

import torch

from x2kit.errors import HeadError
from x2kit.plugin.encoders import TextEncoder
from x2kit.testing.claims import claim, claim_close, claim_differs, claim_shape
from x2kit.testing.subjects import TextSubject


def facts_are_true(subject: TextSubject) -> None:
    """`describe` returns the facts of the encoder."""
    facts, encoder = subject.component.describe(), subject.build()
    for what, said in (("width", facts.width), ("max_length", facts.max_length)):
        found = getattr(encoder, what, None)
        claim(found == said, f"describe() says {what} {said}, the encoder has {found}")
    claim(encoder.tokenizer is subject.tokenizer, "the encoder's tokenizer is not the one it was built for")
    size = subject.tokenizer.vocab_size
    claim(
        facts.vocab_size is None or facts.vocab_size >= size,
        f"describe() says vocab_size {facts.vocab_size}, the tokenizer has {size} ids",
    )


def shapes_are_as_declared(subject: TextSubject) -> None:
    """Tokens [B, L, D]."""
    ids, mask = subject.batch()
    tokens = subject.build()(ids, mask)
    claim_shape("tokens", tokens, (*ids.shape, subject.component.describe().width), "[B, L, D]")


def padding_changes_nothing(subject: TextSubject) -> None:
    """Padding does not change kept positions."""
    encoder = subject.build()
    ids, mask = subject.batch()
    room = subject.component.describe().max_length - ids.shape[1]
    longer = encoder(*subject.batch(extra=min(5, room)))[:, : ids.shape[1]]
    tokens = encoder(ids, mask)
    claim_close(
        tokens[mask], longer[mask], "kept positions change when a text is padded; pass the mask to attention"
    )
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = encoder(ids[row : row + 1, :length], mask[row : row + 1, :length])
        claim_close(tokens[row, :length], alone[0], "a text alone has other tokens than in a padded batch")


def texts_do_not_mix(subject: TextSubject) -> None:
    """In eval mode the tokens of a text do not depend on other texts."""
    encoder = subject.build()
    ids, mask = subject.batch()
    together = encoder(ids, mask)
    for row in range(len(ids)):
        alone = encoder(ids[row : row + 1], mask[row : row + 1])[0]
        keep = mask[row]
        claim_close(
            together[row, keep],
            alone[keep],
            "rows influence each other: a text alone has other tokens than in a batch",
        )


def the_vocabulary_fits(subject: TextSubject) -> None:
    """The encoder accepts every id of the tokenizer, including the last."""
    encoder = subject.build()
    special, size = subject.tokenizer.special, subject.tokenizer.vocab_size
    ids, mask = subject.pad([[special.cls, size - 1, special.sep]])
    try:
        tokens = encoder(ids, mask)
    except IndexError as error:
        raise AssertionError(
            f"the vocabulary does not match: the tokenizer has {size} ids, and the encoder does not accept the last "
            f"({error}); size its word embedding by tokenizer.vocab_size"
        ) from error
    claim(bool(torch.isfinite(tokens).all()), f"id {size - 1}, the tokenizer's last, gives values not finite")


def every_kept_token_matters(subject: TextSubject) -> None:
    """Position 0 depends on the rest of the text and on the order of tokens."""
    encoder = subject.build()
    row = max(subject.tokenizer.encode(subject.texts, subject.component.describe().max_length), key=len)
    other = [*row[:-2], subject.tokenizer.special.mask, row[-1]]
    turned = [row[0], *reversed(row[1:-1]), row[-1]]
    ids, mask = subject.pad([row, other, turned])
    tokens = encoder(ids, mask)
    claim_differs(tokens[0, 0], tokens[1, 0], "position 0 does not see the last piece of its text")
    if turned != row:
        claim_differs(tokens[0, 0], tokens[2, 0], "position 0 does not see the order of the pieces")


def the_longest_text_fits(subject: TextSubject) -> None:
    """A text of `max_length` tokens can be encoded."""
    longest = min(subject.component.describe().max_length, 1024)
    text = " ".join(subject.texts * longest)[: 16 * longest]
    ids, mask = subject.pad(subject.tokenizer.encode([text], longest))
    claim(ids.shape[1] == longest, f"a long text has {ids.shape[1]} tokens, max_length is {longest}")
    claim(
        bool(torch.isfinite(subject.build()(ids, mask)).all()), "a text of max_length gives values not finite"
    )


def the_word_embedding_fits(subject: TextSubject) -> None:
    """`token_embedding`, if any, has a row of width D for each id."""
    embedding = subject.build().token_embedding()
    if embedding is None:
        return
    size, width = subject.tokenizer.vocab_size, subject.component.describe().width
    claim(
        embedding.num_embeddings >= size, f"{embedding.num_embeddings} rows for {size} ids of the tokenizer"
    )
    claim(
        embedding.embedding_dim == width,
        f"its rows are {embedding.embedding_dim} wide, a shared head needs {width}; return None instead",
    )


def reading_on_equals_reading_again(subject: TextSubject) -> None:
    """`read_next`, if overridden, gives the same as reading all tokens again, as its default does."""
    encoder = subject.build()
    if type(encoder).read_next is TextEncoder.read_next:
        return
    ids = subject.batch()[0][:, :4]
    try:
        whole, _ = TextEncoder.read_next(encoder, ids)
    except HeadError:  # reads whole texts only
        return
    turned = torch.arange(len(ids)).flip(0)
    past = tuple(part[turned, :2] for part in encoder.read_next(ids[:, :3])[1])
    tokens, _ = encoder.read_next(ids[turned, 2:], past)
    claim_close(
        tokens,
        whole[turned, 2:],
        "read_next() after rows and tokens of its past were selected differs from reading all tokens again",
    )


def packed_texts_equal_those_alone(subject: TextSubject) -> None:
    """Several texts in a row, if the encoder declares `packs`, are encoded as in a row each."""
    encoder = subject.build()
    if not encoder.packs:
        return
    ids, mask = subject.batch()
    texts = [row[kept] for row, kept in zip(ids, mask, strict=True)][:2]
    lengths = [min(len(text), encoder.max_length // 2) for text in texts]
    texts = [text[:length] for text, length in zip(texts, lengths, strict=True)]
    number = torch.arange(len(texts)).repeat_interleave(torch.tensor(lengths))
    sees = number[:, None] == number
    positions = torch.cat([torch.arange(length) for length in lengths])
    tokens = encoder.read_partly(torch.cat(texts)[None], sees[None], positions[None])[0]
    alone = [encoder(text[None], torch.ones_like(text[None], dtype=torch.bool))[0] for text in texts]
    claim_close(
        torch.cat(alone),
        tokens,
        "packs is True, but read_partly() of two texts in a row differs from forward()",
    )


LAWS = (
    facts_are_true,
    shapes_are_as_declared,
    texts_do_not_mix,
    padding_changes_nothing,
    the_vocabulary_fits,
    every_kept_token_matters,
    the_longest_text_fits,
    the_word_embedding_fits,
    reading_on_equals_reading_again,
    packed_texts_equal_those_alone,
)
