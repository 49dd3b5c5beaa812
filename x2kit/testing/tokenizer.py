"""Checks of the tokenizer of a text encoder."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

from x2kit.testing.claims import claim
from x2kit.testing.subjects import TextSubject

LIMIT = 64


def special_ids_are_distinct(subject: TextSubject) -> None:
    """Padding, first, last and mask token have distinct ids inside the vocabulary."""
    tokenizer = subject.tokenizer
    special = tokenizer.special
    ids = (special.pad, special.cls, special.sep, special.mask)
    claim(len(set(ids)) == len(ids), f"pad, cls, sep and mask share ids: {special}")
    claim(
        all(0 <= id_ < tokenizer.vocab_size for id_ in special),
        f"special ids are outside the vocabulary of {tokenizer.vocab_size}: {special}",
    )


def texts_are_framed_and_cut(subject: TextSubject) -> None:
    """A text is encoded as cls, pieces and, if it `ends_texts`, sep; at most `max_length` long and without padding."""
    tokenizer = subject.tokenizer
    special = tokenizer.special
    end = [special.sep] if subject.component.ends_texts else []
    last = f"sep {special.sep}" if end else "a piece"
    for limit in (3, 6, LIMIT):
        for text, ids in zip(subject.texts, tokenizer.encode(subject.texts, limit), strict=True):
            claim(len(ids) <= limit, f"{text!r} has {len(ids)} tokens, at most {limit} are allowed")
            claim(
                ids[:1] == [special.cls] and ids[len(ids) - len(end) :] == end,
                f"{text!r} becomes {ids}, expected cls {special.cls} first and {last} last",
            )
            inner = ids[1 : len(ids) - len(end)]
            claim(special.sep not in inner, f"{text!r} holds sep inside")
            claim(bool(inner), f"{text!r} has no pieces")
            claim(special.pad not in inner and special.mask not in inner, f"{text!r} holds pad or mask ids")
            claim(
                all(isinstance(id_, int) and 0 <= id_ < tokenizer.vocab_size for id_ in ids),
                f"{text!r} has ids outside the vocabulary of {tokenizer.vocab_size}",
            )


def a_text_is_encoded_alone(subject: TextSubject) -> None:
    """The ids of a text do not depend on other texts; no texts give an empty list."""
    tokenizer = subject.tokenizer
    together = tokenizer.encode(subject.texts, LIMIT)
    alone = [tokenizer.encode([text], LIMIT)[0] for text in subject.texts]
    claim(together == alone, "a text has other ids in a batch than alone")
    claim(tokenizer.encode([], LIMIT) == [], "no texts must give an empty list")


def decoding_gives_text(subject: TextSubject) -> None:
    """Decoding omits special tokens, and the decoded text has the same ids."""
    tokenizer = subject.tokenizer
    special = tokenizer.special
    for text, ids in zip(subject.texts, tokenizer.encode(subject.texts, LIMIT), strict=True):
        decoded = tokenizer.decode(ids)
        padded = tokenizer.decode([*ids, special.pad, special.mask])
        claim(decoded == padded, f"the decoded text has special tokens: {padded!r}")
        if special.unk not in ids:
            claim(
                tokenizer.encode([decoded], LIMIT)[0] == ids,
                f"{text!r} is decoded as {decoded!r}, which has other ids",
            )


def words_begin_where_they_do(subject: TextSubject) -> None:
    """`starts_word` returns a value per id, True for special tokens and the first piece."""
    tokenizer = subject.tokenizer
    for ids in tokenizer.encode(subject.texts, LIMIT):
        starts = tokenizer.starts_word(ids)
        claim(len(starts) == len(ids), f"starts_word returns {len(starts)} values for {len(ids)} ids")
        ends = ids[-1] != tokenizer.special.sep or starts[-1]
        claim(starts[0] and ends, "starts_word is False for cls or sep, expected True")
        claim(starts[1], "starts_word is False for the first piece of a text, expected True")
    special = tokenizer.special
    claim(
        all(tokenizer.starts_word([special.pad, special.mask])),
        "starts_word is False for pad or mask, expected True",
    )


def the_tokenizer_survives_saving(subject: TextSubject) -> None:
    """A saved tokenizer, read from its assets, gives the same ids."""
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
    """Trained again on the same texts, it gives the same ids."""
    again = subject.component.build_tokenizer(list(subject.texts))
    claim(
        again.encode(subject.texts, LIMIT) == subject.tokenizer.encode(subject.texts, LIMIT),
        "trained twice on the same texts it gives different ids; train on one thread, with a fixed seed",
    )


def frequencies_are_a_distribution(subject: TextSubject) -> None:
    """`log_frequencies`, if known, has a value for each id, and the frequencies sum to 1."""
    logs = subject.tokenizer.log_frequencies()
    if logs is None:
        return
    size = subject.tokenizer.vocab_size
    claim(len(logs) == size, f"log_frequencies has {len(logs)} values for {size} ids")
    total = sum(math.exp(value) for value in logs)
    claim(abs(total - 1) < 1e-3, f"the frequencies of log_frequencies sum to {total:.3f}")


def its_json_encodes_alike(subject: TextSubject) -> None:
    """`to_json`, if it returns a text, is a tokenizer.json that gives the same ids."""
    tokenizer = subject.tokenizer
    text = tokenizer.to_json()
    if text is None:
        return
    from tokenizers import Tokenizer as Reader

    reader = Reader.from_str(text)
    longest = max(len(reader.encode(text).ids) for text in subject.texts)
    for text, ids in zip(subject.texts, tokenizer.encode(subject.texts, longest), strict=True):
        found = reader.encode(text).ids
        claim(
            found == ids, f"the tokenizer.json of to_json gives {text!r} the ids {found}, encode gives {ids}"
        )


LAWS = (
    special_ids_are_distinct,
    texts_are_framed_and_cut,
    a_text_is_encoded_alone,
    decoding_gives_text,
    words_begin_where_they_do,
    the_tokenizer_survives_saving,
    a_trained_tokenizer_is_reproducible,
    frequencies_are_a_distribution,
    its_json_encodes_alike,
)
