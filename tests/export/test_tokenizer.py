"""tokenizer.json of an export: raw texts of any kind get the ids of x2kit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from tokenizers import Tokenizer as Reader
from x2kit_transformers.tokenizer import HuggingFaceTokenizer

from tests.docs.tiny_models import write_bert, write_xlmr
from tests.model.tiny import TinyTokenizer
from tests.plugins.x2kit_transformers.published_models import publish
from x2kit.data.transforms.text import clean
from x2kit.errors import DataError, WeightsError, X2KitError
from x2kit.export.tokenizer import SAMPLES, write_tokenizer
from x2kit.plugin import IdsOnly, Tokenizer, WithoutEnd
from x2kit.plugin.toolkit.sentencepiece import SentencePiece
from x2kit.testing.subjects import TEXTS

LIMIT = 12


def trained() -> Tokenizer:
    return SentencePiece(vocab_size=400).train([clean(text) for text in (*TEXTS, *SAMPLES)])


def bert(folder: Path) -> Tokenizer:
    write_bert(folder)
    return HuggingFaceTokenizer.load(folder)


def xlmr(folder: Path) -> Tokenizer:
    write_xlmr(folder)
    return HuggingFaceTokenizer.load(folder)


KINDS: dict[str, Callable[[Path], Tokenizer]] = {
    "SentencePiece": lambda _: trained(),
    "without an end": lambda _: WithoutEnd(trained()),
    "WordPiece": bert,
    "Unigram": xlmr,
    "byte-level BPE": lambda folder: HuggingFaceTokenizer.load(publish("roberta", folder)),
    "DeBERTa-v3": lambda folder: HuggingFaceTokenizer.load(publish("deberta-v3", folder)),
    "with a prefix": lambda folder: HuggingFaceTokenizer.load(publish("e5", folder), "query: "),
}


@pytest.fixture(scope="module", params=KINDS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Tokenizer, Any]:
    """A tokenizer, and the written file in use."""
    tokenizer = KINDS[request.param](tmp_path_factory.mktemp("source"))
    folder = tmp_path_factory.mktemp("written")
    assert write_tokenizer(tokenizer, LIMIT, folder) is None
    return tokenizer, Reader.from_file(str(folder / "tokenizer.json"))


letters = st.sampled_from(
    [*"abcdefgh DOG IJSZäßÉüñ", *"собакаΣς犬猫강아지كلب", *",.'!?\"()*#:;~-/\n\t ", "  ", "<person>"]
)


@given(st.lists(letters, min_size=1, max_size=40).map("".join))
def test_a_raw_text_has_the_ids_of_the_cleaned_one(pair: tuple[Tokenizer, Any], text: str) -> None:
    tokenizer, reader = pair
    try:
        cleaned = clean(text)
    except DataError:
        assume(False)
    assert reader.encode(text).ids == tokenizer.encode([cleaned], LIMIT)[0]


def test_texts_of_a_batch_are_cut_and_padded(pair: tuple[Tokenizer, Any]) -> None:
    tokenizer, reader = pair
    short, long = reader.encode_batch(["dog", "a red apple " * 30])
    assert len(short.ids) == len(long.ids) == LIMIT
    kept = sum(short.attention_mask)
    assert set(short.ids[kept:]) == {tokenizer.special.pad}
    assert short.attention_mask == [1] * kept + [0] * (LIMIT - kept)


def test_a_tokenizer_of_another_kind_is_written_as_it_saves_itself(tmp_path: Path) -> None:
    said = write_tokenizer(TinyTokenizer(), LIMIT, tmp_path)
    assert said == "TinyTokenizer has no tokenizer.json (Tokenizer.to_json); its files are in tokenizer/"
    assert (tmp_path / "tokenizer" / "words.json").is_file()
    assert not (tmp_path / "tokenizer.json").exists()


def test_a_placeholder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="these weights have no tokenizer"):
        write_tokenizer(IdsOnly(30, TinyTokenizer.special), LIMIT, tmp_path)


class Other(TinyTokenizer):
    """Says that it is the trained one, and encodes otherwise."""

    def to_json(self) -> str:
        text = trained().to_json()
        assert text is not None
        return json.dumps(json.loads(text))


def test_a_file_with_other_ids_is_refused(tmp_path: Path) -> None:
    with pytest.raises(X2KitError, match=r"tokenizer.json gives '.*' the ids .* TinyTokenizer|Other gives"):
        write_tokenizer(Other(), LIMIT, tmp_path)
