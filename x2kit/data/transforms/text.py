"""Cleaning of texts, and the choice of one text where a record has several. Imports no torch.

The cleaned text is all that a tokenizer ever sees, in training and in evaluation alike.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from numpy.random import Generator

from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Text

_TO_SPACE = str.maketrans(dict.fromkeys(",.'!?\"()*#:;~-/", " "))
_SEVERAL_SPACES = re.compile(r"\s{2,}")


def clean(text: str, max_words: int | None = None) -> str:
    """A caption as the official code cleans it (`pre_caption`), whatever its language.

    Lower case; punctuation becomes space; `<person>` loses its brackets; two or more white-space characters
    become one space. Words are what single spaces part, so the limit does nothing where a language has none.

    Args:
        text: as it was written.
        max_words: words that are kept; None for all.
    Raises: DataError if nothing remains, or if it has characters that no encoding of Unicode can write.
    """
    _require_unicode(text)
    cleaned = text.lower().translate(_TO_SPACE).replace("<person>", "person")
    cleaned = _SEVERAL_SPACES.sub(" ", cleaned).rstrip("\n").strip(" ")
    if max_words is not None:
        cleaned = " ".join(cleaned.split(" ")[:max_words])
    if not cleaned:
        raise DataError(f"nothing remains of the text {text!r} after cleaning", reason=Reason.TEXT_EMPTY)
    return cleaned


pre_caption = clean
"""The official name of `clean`."""


def pre_question(text: str, max_words: int) -> str:
    """A question as the official code cleans it: like a caption, but spaces stay as many as they were."""
    cleaned = text.lower().translate(_TO_SPACE).rstrip(" ")
    return " ".join(cleaned.split(" ")[:max_words])


def text_only_caption(text: str, max_words: int, min_words: int = 2) -> str:
    """A text of a stream without images as the official code cleans it: lower case, single spaces, no more.

    Only line ends and plain spaces go at its ends; the official data set strips all white space before, as
    `clean_text_alone` does.

    Raises: DataError if it has fewer than `min_words` words, or characters that no encoding of Unicode can write.
    """
    _require_unicode(text)
    words = _SEVERAL_SPACES.sub(" ", text).rstrip("\n").strip(" ").lower().split(" ")
    if len(words) < min_words or words == [""]:
        raise DataError(f"the text {text!r} has fewer than {min_words} words", reason=Reason.TEXT_EMPTY)
    return " ".join(words[:max_words])


def clean_text_alone(text: str, max_words: int) -> str:
    """Clean a text of a stream without images, however short; see `text_only_caption`."""
    return text_only_caption(text.strip(), max_words, min_words=1)


def draw(text: Text, rng: Generator, languages: Sequence[str] | None = None) -> str:
    """One of the texts that a record offers, with equal chances: first one of the list, then a language.

    What has none of the languages is no choice.

    Args:
        text: a str, or {code: str}, or a list of either.
        rng: the sample's own generator; untouched where there is nothing to choose.
        languages: codes that may be drawn; None for all. A text without a code always may.
    Raises: DataError if the text is none of these, or has none of the languages.
    """
    if isinstance(text, list) and text:
        # where each text of a list is of one language, those of the others are no choice
        choices = [choice for choice in text if _may_be_drawn(choice, languages)] or text
        text = choices[_pick(len(choices), rng)]
    if isinstance(text, dict):
        codes = [code for code in text if languages is None or code in languages]
        if not codes:
            raise DataError(
                f"the text has the languages {', '.join(text) or 'none'}, "
                f"and the stream draws from {', '.join(languages or ()) or 'all'}",
                reason=Reason.LANGUAGE_MISSING,
            )
        text = text[codes[_pick(len(codes), rng)]]
    if not isinstance(text, str):
        raise DataError(
            f"a text is a str, or {{code: str}}, or a list of either, found {text!r}",
            reason=Reason.FIELD_TYPE,
        )
    return text


def _may_be_drawn(choice: str | dict[str, str], languages: Sequence[str] | None) -> bool:
    return languages is None or not isinstance(choice, dict) or any(code in languages for code in choice)


def all_texts(text: Text) -> Iterator[str]:
    """Every text that `draw` could give, all languages included; what is no text is left to `draw` to refuse."""
    for choice in text if isinstance(text, list) else [text]:
        for found in choice.values() if isinstance(choice, dict) else [choice]:
            if isinstance(found, str):
                yield found


def _require_unicode(text: str) -> None:
    """JSON can name half of a pair of surrogates, which tokenizers refuse."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"the text {text!r} has half a character at {error.start}", reason=Reason.NOT_UTF8
        ) from error


def _pick(count: int, rng: Generator) -> int:
    return 0 if count == 1 else int(rng.random() * count)
