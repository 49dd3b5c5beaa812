"""Train SentencePiece tokenizers on the run's texts, for encoders trained from scratch. Imports no torch.

Ids follow XLM-R: 0 `<s>`, 1 `<pad>`, 2 `</s>`, 3 `<unk>`, then the pieces, and last the mask, which is not in the
SentencePiece model.
"""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field

from x2kit.errors import DataError, SettingError, WeightsError
from x2kit.plugin.tokenizers import IdsOnly, SpecialIds, Tokenizer, framed

FILE_NAME = "sentencepiece.model"
CLS, PAD, SEP, UNK = 0, 1, 2, 3
NUM_SPECIAL = 4
_MAX_TEXT_BYTES = 1 << 20
"""SentencePiece drops longer texts; its default of 4192 would drop paragraphs."""


class SentencePiece(BaseModel):
    """Settings to train a SentencePiece tokenizer, used inside those of text encoders."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    vocab_size: int = Field(
        default=8000, gt=8, description="maximum number of ids, including special ones; fewer for few texts"
    )
    character_coverage: float = Field(
        default=1.0,
        gt=0.9,
        le=1,
        description="share of the texts' characters in the vocabulary; the others become unknown",
    )

    def largest(self) -> IdsOnly:
        """Return a placeholder for the trained tokenizer, with the maximum number of ids."""
        return IdsOnly(self.vocab_size, SpecialIds(PAD, CLS, SEP, UNK, mask=self.vocab_size - 1))

    def train(self, texts: Iterable[str]) -> SentencePieceTokenizer:
        """Train a Unigram model; the same set of texts gives the same tokenizer.

        Every distinct text counts once, so that repeated captions have no more weight. Every distinct word is added
        as a text: SentencePiece proposes as pieces only strings with several continuations, so that in few texts a
        word always followed by the same word would never become a piece.

        Raises: DataError if all texts are blank; SettingError if `vocab_size` is too small for the characters.
        """
        import sentencepiece

        distinct = {text for text in texts if text.strip()}
        if not distinct:
            raise DataError("the tokenizer is trained on the run's texts, but the streams have none")
        words = {word for text in distinct for word in text.split()}
        model = io.BytesIO()
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sorted(distinct | words)),
                model_writer=model,
                model_type="unigram",
                vocab_size=self.vocab_size - 1,  # the mask is not in the model
                hard_vocab_limit=False,
                character_coverage=self.character_coverage,
                bos_id=CLS,
                pad_id=PAD,
                eos_id=SEP,
                unk_id=UNK,
                bos_piece="<s>",
                pad_piece="<pad>",
                eos_piece="</s>",
                unk_piece="<unk>",
                num_threads=1,  # more threads would sum expected counts in varying order
                shuffle_input_sentence=False,
                max_sentence_length=_MAX_TEXT_BYTES,
                minloglevel=2,
            )
        except RuntimeError as error:  # the only error class of the trainer
            raise SettingError(
                "vocab_size",
                f"SentencePiece cannot train {self.vocab_size} ids on {len(distinct)} texts: {error}",
            ) from error
        return SentencePieceTokenizer(model.getvalue())


class SentencePieceTokenizer(Tokenizer):
    """SentencePiece tokenizer with the ids of XLM-R.

    Args:
        model: the serialised SentencePiece model.
        source: origin of the model, for messages.
    Raises: WeightsError if it is not a SentencePiece model or has other special ids.
    """

    def __init__(self, model: bytes, source: str = "the trained model") -> None:
        import sentencepiece

        try:
            self._processor: Any = sentencepiece.SentencePieceProcessor(model_proto=model)
        except RuntimeError as error:
            raise WeightsError(f"{source}: not a SentencePiece model: {error}") from error
        processor = self._processor
        found = (processor.bos_id(), processor.pad_id(), processor.eos_id(), processor.unk_id())
        if found != (CLS, PAD, SEP, UNK):
            raise WeightsError(
                f"{source}: ids of <s>, <pad>, </s>, <unk> are {found}, expected {(CLS, PAD, SEP, UNK)}; "
                "only models trained by x2kit can be read"
            )
        mask = processor.get_piece_size()
        self.vocab_size = mask + 1
        self.special = SpecialIds(pad=PAD, cls=CLS, sep=SEP, unk=UNK, mask=mask)
        self._starts = [
            id_ < NUM_SPECIAL or processor.id_to_piece(id_).startswith("▁") for id_ in range(mask)
        ] + [True]

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        keep = max(max_length - 2, 0)
        # One thread: batches are small, and data workers run in parallel.
        return [[CLS, *pieces[:keep], SEP] for pieces in self._processor.encode(list(texts), num_threads=1)]

    def decode(self, ids: Sequence[int]) -> str:
        mask = self.special.mask
        return str(self._processor.decode([int(id_) for id_ in ids if NUM_SPECIAL <= id_ < mask]))

    def starts_word(self, ids: Sequence[int]) -> list[bool]:
        starts = self._starts
        return [starts[id_] for id_ in ids]

    def log_frequencies(self) -> list[float]:
        """Return the log probabilities of the Unigram model, normalised over all ids.

        Special tokens are not in the model: `</s>`, which ends every text, gets that of the most frequent piece, the
        others that of the least frequent one.
        """
        mask = self.special.mask
        scores = [self._processor.get_score(id_) for id_ in range(NUM_SPECIAL, mask)]
        least, most = min(scores), max(scores)
        logits = [most if id_ == SEP else least for id_ in range(NUM_SPECIAL)] + scores + [least]
        total = most + math.log(sum(math.exp(logit - most) for logit in logits))
        return [logit - total for logit in logits]

    def save(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / FILE_NAME).write_bytes(self._processor.serialized_model_proto())

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read the file that `save` wrote. Raises WeightsError if it is missing or damaged."""
        file = directory / FILE_NAME
        if not file.is_file():
            raise WeightsError(
                f"{directory}: no {FILE_NAME}; expected a directory written by the tokenizer's save"
            )
        return cls(file.read_bytes(), str(file))

    def to_json(self) -> str:
        """Return the Unigram model as a tokenizer.json. Raises WeightsError without the package protobuf."""
        try:
            from sentencepiece import sentencepiece_model_pb2
        except ImportError as error:
            raise WeightsError(
                f"reading the SentencePiece model needs protobuf ({error}); pip install 'x2kit[export]'"
            ) from error
        processor, mask = self._processor, self.special.mask
        proto = sentencepiece_model_pb2.ModelProto.FromString(processor.serialized_model_proto())
        pieces = [[processor.id_to_piece(id_), processor.get_score(id_)] for id_ in range(mask)]
        spaces = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
        names = {CLS: "<s>", PAD: "<pad>", SEP: "</s>", UNK: "<unk>", mask: "<mask>"}
        added = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
        content = {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [{"id": id_, "content": name, **added} for id_, name in names.items()],
            "normalizer": {"type": "Sequence", "normalizers": _normalizers(proto.normalizer_spec)},
            "pre_tokenizer": spaces,
            "post_processor": framed((names[CLS], CLS), (names[SEP], SEP)),
            "decoder": spaces,
            "model": {"type": "Unigram", "unk_id": UNK, "vocab": pieces, "byte_fallback": False},
        }
        return json.dumps(content, ensure_ascii=False)


def _normalizers(spec: Any) -> list[dict[str, Any]]:
    """Return the steps of a SentencePiece normaliser in the format of tokenizer.json."""
    steps: list[dict[str, Any]] = []
    if spec.precompiled_charsmap:
        charsmap = base64.b64encode(spec.precompiled_charsmap).decode()
        steps.append({"type": "Precompiled", "precompiled_charsmap": charsmap})
    if spec.remove_extra_whitespaces:
        steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "})
        steps.append({"type": "Strip", "strip_left": True, "strip_right": True})
    return steps
