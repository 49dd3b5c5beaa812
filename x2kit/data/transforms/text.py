"""Clean texts, and draw one text where a record has several. Imports no torch.

A tokenizer sees cleaned texts only, in training and in evaluation.
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
    """Clean a caption of any language as the official code does (`pre_caption`).

    Lower case; punctuation becomes space; `<person>` loses its brackets; two or more white-space characters become
    one space. Words are separated by single spaces, so `max_words` has no effect on languages without spaces.

    Args:
        text: the raw caption.
        max_words: words that are kept; None for all.
    Raises: DataError if nothing remains, or for an unpaired surrogate.
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


def clean_or_empty(text: str) -> str:
    """Clean a text as `clean`, but return "" where nothing remains; a tokenizer encodes it as a text without words."""
    try:
        return clean(text)
    except DataError as error:
        if error.reason is not Reason.TEXT_EMPTY:
            raise
        return ""


def pre_question(text: str, max_words: int) -> str:
    """Clean a question as the official code does: like a caption, but runs of spaces are kept."""
    cleaned = text.lower().translate(_TO_SPACE).rstrip(" ")
    return " ".join(cleaned.split(" ")[:max_words])


def text_only_caption(text: str, max_words: int, min_words: int = 2) -> str:
    """Clean a text without image as the official code does: lower case and single spaces only.

    Strips only line ends and plain spaces; the official data set strips all white space before, as
    `clean_text_alone` does.

    Raises: DataError for fewer than `min_words` words, or for an unpaired surrogate.
    """
    _require_unicode(text)
    words = _SEVERAL_SPACES.sub(" ", text).rstrip("\n").strip(" ").lower().split(" ")
    if len(words) < min_words or words == [""]:
        plural = "" if min_words == 1 else "s"
        raise DataError(
            f"the text {text!r} has fewer than {min_words} word{plural}", reason=Reason.TEXT_EMPTY
        )
    return " ".join(words[:max_words])


def clean_text_alone(text: str, max_words: int) -> str:
    """Clean a text of a stream without images, of any length; see `text_only_caption`."""
    return text_only_caption(text.strip(), max_words, min_words=1)


def draw(text: Text, rng: Generator, languages: Sequence[str] | None = None) -> str:
    """Draw one of a record's texts uniformly: first an entry of the list, then a language.

    Entries in none of the languages are excluded.

    Args:
        text: a str, or {code: str}, or a list of either.
        rng: the sample's generator; not used if there is only one choice.
        languages: codes that may be drawn; None for all. A text without a code may always be drawn.
    Raises: DataError if the text has another type, or none of the languages.
    """
    if isinstance(text, list) and text:
        choices = [choice for choice in text if _has_language(choice, languages)] or text
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
            f"a text must be a str, {{code: str}}, or a list of these, found {text!r}",
            reason=Reason.FIELD_TYPE,
        )
    return text


def all_texts(text: Text) -> Iterator[str]:
    """Yield every text that `draw` could return, in all languages; other types are skipped, `draw` rejects them."""
    for choice in text if isinstance(text, list) else [text]:
        for found in choice.values() if isinstance(choice, dict) else [choice]:
            if isinstance(found, str):
                yield found


def texts_of_languages(text: Text, languages: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    """Yield code and text of every text that `draw` could return in these languages; "" for texts without a code.

    Raises: DataError for a value that is not a str.
    """
    for choice in text if isinstance(text, list) else [text]:
        for code, found in (choice if isinstance(choice, dict) else {"": choice}).items():
            if not isinstance(found, str):
                raise DataError(f"a text must be a str, found {found!r}", reason=Reason.FIELD_TYPE)
            if not code or languages is None or code in languages:
                yield code, found


def _has_language(choice: str | dict[str, str], languages: Sequence[str] | None) -> bool:
    return languages is None or not isinstance(choice, dict) or any(code in languages for code in choice)


def _require_unicode(text: str) -> None:
    """Reject unpaired surrogates, which JSON can express and tokenizers do not accept."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(
            f"the text {text!r} has an unpaired surrogate at position {error.start}", reason=Reason.NOT_UTF8
        ) from error


def _pick(count: int, rng: Generator) -> int:
    return 0 if count == 1 else int(rng.random() * count)
