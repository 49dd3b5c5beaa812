"""Checks of the tokenizer that a text encoder owns."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

from x2kit.testing.claims import claim
from x2kit.testing.subjects import TextSubject

LIMIT = 64


def special_ids_are_distinct(subject: TextSubject) -> None:
    """Padding, first, last and mask token have ids of their own, inside the vocabulary."""
    tokenizer = subject.tokenizer
    special = tokenizer.special
    ids = (special.pad, special.cls, special.sep, special.mask)
    claim(len(set(ids)) == len(ids), f"pad, cls, sep and mask share ids: {special}")
    claim(
        all(0 <= id_ < tokenizer.vocab_size for id_ in special),
        f"special ids lie outside the vocabulary of {tokenizer.vocab_size}: {special}",
    )


def texts_are_framed_and_cut(subject: TextSubject) -> None:
    """A text is cls, pieces, sep, never longer than asked for, never padded."""
    tokenizer = subject.tokenizer
    special = tokenizer.special
    for limit in (3, 6, LIMIT):
        for text, ids in zip(subject.texts, tokenizer.encode(subject.texts, limit), strict=True):
            claim(len(ids) <= limit, f"{text!r} has {len(ids)} tokens, at most {limit} were asked for")
            claim(
                ids[:1] == [special.cls] and ids[-1:] == [special.sep],
                f"{text!r} becomes {ids}, expected cls {special.cls} first and sep {special.sep} last",
            )
            inner = ids[1:-1]
            claim(bool(inner), f"{text!r} has no pieces")
            claim(special.pad not in inner and special.mask not in inner, f"{text!r} holds pad or mask ids")
            claim(
                all(isinstance(id_, int) and 0 <= id_ < tokenizer.vocab_size for id_ in ids),
                f"{text!r} has ids outside the vocabulary of {tokenizer.vocab_size}",
            )


def a_text_is_encoded_alone(subject: TextSubject) -> None:
    """The ids of a text do not depend on the texts beside it; no texts give no ids."""
    tokenizer = subject.tokenizer
    together = tokenizer.encode(subject.texts, LIMIT)
    alone = [tokenizer.encode([text], LIMIT)[0] for text in subject.texts]
    claim(together == alone, "a text has other ids in a batch than alone")
    claim(tokenizer.encode([], LIMIT) == [], "no texts must give an empty list")


def decoding_gives_text(subject: TextSubject) -> None:
    """Decoding leaves special tokens out, and what it gives has the same ids again."""
    tokenizer = subject.tokenizer
    special = tokenizer.special
    for text, ids in zip(subject.texts, tokenizer.encode(subject.texts, LIMIT), strict=True):
        decoded = tokenizer.decode(ids)
        padded = tokenizer.decode([*ids, special.pad, special.mask])
        claim(decoded == padded, f"special tokens are seen in the decoded text: {padded!r}")
        if special.unk not in ids:
            claim(
                tokenizer.encode([decoded], LIMIT)[0] == ids,
                f"{text!r} is decoded as {decoded!r}, which has other ids",
            )


def words_begin_where_they_do(subject: TextSubject) -> None:
    """`starts_word` answers for each id, yes for special tokens and a text's first piece."""
    tokenizer = subject.tokenizer
    for ids in tokenizer.encode(subject.texts, LIMIT):
        starts = tokenizer.starts_word(ids)
        claim(len(starts) == len(ids), f"{len(starts)} answers for {len(ids)} ids")
        claim(starts[0] and starts[-1], "cls and sep begin a word of their own, starts_word says no")
        claim(starts[1], "the first piece of a text begins a word, starts_word says no")
    special = tokenizer.special
    claim(all(tokenizer.starts_word([special.pad, special.mask])), "pad and mask begin a word of their own")


def the_tokenizer_survives_saving(subject: TextSubject) -> None:
    """Saved and read from its assets, it gives the same ids."""
    with TemporaryDirectory() as name:
        subject.tokenizer.save(Path(name))
        again = subject.component.build_tokenizer(assets=Path(name))
    claim(again.special == subject.tokenizer.special, "special ids change when it is saved and read")
    claim(
        again.vocab_size == subject.tokenizer.vocab_size, "the vocabulary changes when it is saved and read"
    )
    claim(
        again.encode(subject.texts, LIMIT) == subject.tokenizer.encode(subject.texts, LIMIT),
        "texts have other ids after it is saved and read",
    )


def a_trained_tokenizer_is_reproducible(subject: TextSubject) -> None:
    """Built again from the same texts, it gives the same ids."""
    again = subject.component.build_tokenizer(list(subject.texts))
    claim(
        again.encode(subject.texts, LIMIT) == subject.tokenizer.encode(subject.texts, LIMIT),
        "built twice from the same texts it gives other ids; train on one thread, with a fixed seed",
    )


def frequencies_are_a_distribution(subject: TextSubject) -> None:
    """`log_frequencies`, where known, has a value for each id, and the shares add up to 1."""
    logs = subject.tokenizer.log_frequencies()
    if logs is None:
        return
    size = subject.tokenizer.vocab_size
    claim(len(logs) == size, f"log_frequencies has {len(logs)} values for {size} ids")
    total = sum(math.exp(value) for value in logs)
    claim(abs(total - 1) < 1e-3, f"the shares of log_frequencies add up to {total:.3f}")


LAWS = (
    special_ids_are_distinct,
    texts_are_framed_and_cut,
    a_text_is_encoded_alone,
    decoding_gives_text,
    words_begin_where_they_do,
    the_tokenizer_survives_saving,
    a_trained_tokenizer_is_reproducible,
    frequencies_are_a_distribution,
)
