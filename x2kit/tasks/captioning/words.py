"""Split captions into the words that caption metrics compare. Imports no torch."""

from __future__ import annotations

import re

END = "<eos>"
"""Word after the last one in texts of the CIDEr reward, so that stopping early or late costs n-grams."""

_PUNCTUATION = frozenset(["''", "'", "``", "`", '"', ".", "?", "!", ",", ":", "-", "--", "...", ";"])
"""Tokens that the COCO evaluation removes; brackets stay."""

_JOINED = re.compile(
    r"\b(can)(not)\b|\b(gon|wan)(na)\b|\b(got)(ta)\b|\b(gim|lem)(me)\b|(?<!\w)('t)(is|was)\b"
)
"""Words that Treebank tokens split without a sign."""

UNSPACED = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]")
"""Kana and Han characters, which are written without spaces."""

_ABBREVIATIONS = "mr mrs ms dr st ave blvd rd jr sr vs mt ft etc jan feb apr aug sept oct nov dec"
_TOKEN = re.compile(
    rf"""
    [?!]+ | \.\.\.+ | --+
  | (?:[a-z]\.){{2,}}                                  # u.s., a.m.
  | (?:{_ABBREVIATIONS.replace(" ", "|")})\.
  | n't\b | '(?:s|m|d|ll|re|ve|t|em)\b | '\d0s\b | 'n'  # endings of contractions, the 80's, rock 'n' roll
  | [^\W\d_]+?(?=n't\b)                              # do of don't
  | \d+(?:[.,:/]\d+)+(?![\d-])                       # 1,000 and 3:30; a unit behind is a token
  | [-+]?\d+(?:[.,]\d+)*(?![\w-])
  | (?:[od]')?[^\W_]+(?:[-_/&@.+][^\W_]+)*            # words, with hyphens and slashes inside
  | \S
    """,
    re.VERBOSE,
)


def metric_words(caption: str) -> list[str]:
    """Split a caption as the COCO evaluation does: Penn Treebank tokens, lower case, without punctuation.

    The official evaluation runs Stanford's PTBTokenizer (Java). This covers what captions contain: contractions,
    numbers, abbreviations, hyphens and quotation marks. Chinese and Japanese characters are words of their own.
    """
    text = caption.lower().replace("’", "'").replace("‘", "'")
    text = UNSPACED.sub(r" \g<0> ", text)
    text = _JOINED.sub(lambda match: " ".join(part for part in match.groups() if part), text)
    return [token for token in _TOKEN.findall(text) if token not in _PUNCTUATION]


def reward_words(caption: str) -> list[str]:
    """Split a text of the CIDEr reward at spaces, without a final point, and add the end word (X-VLM)."""
    return [*caption.strip().removesuffix(".").split(), END]
