"""Recorded models that answer questions, with pictures and words in place of recorded ids (tasks_more)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from safetensors.torch import load_file
from torch import Tensor
from x2kit_fusion import CrossBert
from x2kit_transformers import Bert

from x2kit.interop.layout import DECODER, MLM_OF_STACK, STACKED_TEXT, Layout, official_names
from x2kit.model import X2VLM
from x2kit.model.config import HeadsConfig
from x2kit.plugin import ImageSpec, TextDecoder, VisionEncoder, VisionFeatures

from .conftest import REFERENCE, RecordedTokenizer, official, record

IMAGES = REFERENCE / "tasks_more/images.safetensors"
V1_FACTS, V1_WEIGHTS = (
    REFERENCE / file for file in ("tasks_more/cclm_v1_heads.json", "tasks_more/cclm_v1_model.safetensors")
)
HEAD = f"{DECODER}cls.predictions."


class WordTokenizer(RecordedTokenizer):
    """Whole words of a recorded list, between start and end token.

    Args:
        special: vocab_size and the ids of special tokens, as in config.json.
        words: by position.
        offset: added to the position.
    """

    def __init__(self, special: dict[str, Any], words: Sequence[str], offset: int) -> None:
        super().__init__(special)
        self._ids = {word: place + offset for place, word in enumerate(words)}
        self._words = {number: word for word, number in self._ids.items()}

    def encode(self, texts: Sequence[str], max_length: int) -> list[list[int]]:
        return [
            [self.special.cls, *(self._ids[word] for word in text.split()), self.special.sep]
            for text in texts
        ]

    def decode(self, ids: Sequence[int]) -> str:
        return " ".join(
            self._words[number] for number in ids if number in self._words and number > self.special.sep
        )


class LongNormBert(Bert):
    """Layers of CCLM's own text stack: positions from 0, one token type, the epsilon of XLM-R."""

    token_types: ClassVar[int] = 1
    layer_norm_eps: ClassVar[float] = 1e-5


class PictureTokens(VisionEncoder):
    """Takes picture tokens [B, 1, 1 + N, D] for images: first-generation recordings begin with them."""

    def __init__(self, tokens: Tensor) -> None:
        super().__init__()
        _, count, self.width = tokens.shape
        self.grid = (1, count - 1)
        self.image_spec = ImageSpec(size=count, channels=1, mean=(0.0,), std=(1.0,))

    def official_names(self, first_layer: int = 0) -> dict[str, tuple[str, ...]]:
        return {}

    def forward(self, images: Tensor) -> VisionFeatures:
        return VisionFeatures(images[:, 0, 0], images[:, 0, 1:], self.grid)


class Asked(NamedTuple):
    """A recorded model with its decoder, and what was recorded of it.

    Attributes:
        files: paths of tensors and facts in the reference.
    """

    files: tuple[str, str]
    model: X2VLM
    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    def pictures(self) -> list[Any]:
        """The picture of each question, as a reader gives it."""
        own = load_file(IMAGES)
        name = "cclm" if "xgqa" in self.files[0] else "xvlm"
        if isinstance(self.model.vision, PictureTokens):
            images = own["cclm.out.image_embeds"][:, None]
        elif f"{name}.in.image" in own:
            images = own[f"{name}.in.image"]
        else:
            images = load_file(REFERENCE / name / "image_batch.safetensors")["in.image"]
        return [np.asarray(images[row].permute(1, 2, 0)) for row in self.tensors["in.image_rows"].tolist()]


def recorded_decoder(
    config: Bert, tokenizer: RecordedTokenizer, layers: int, tensors: dict[str, Tensor]
) -> TextDecoder:
    """A decoder with the tensors of official names."""
    decoder = config.build_decoder(tokenizer, layers)
    tensors = tensors | {f"{HEAD}decoder.bias": tensors[f"{HEAD}bias"]}  # two names of one parameter
    names = {own: f"{DECODER}{theirs}" for own, (theirs,) in decoder.official_names().items()}
    decoder.load_state_dict({own: tensors[theirs] for own, theirs in names.items()})
    return decoder


def first_generation(tokenizer: RecordedTokenizer, tensors: dict[str, Tensor]) -> tuple[X2VLM, Bert]:
    """CCLM's own model: one stack of text and fusion layers, behind picture tokens."""
    text = json.loads(V1_FACTS.read_text())["text_config"]
    layers, heads = text["fusion_layer"], text["num_attention_heads"]
    ratio = text["intermediate_size"] / text["hidden_size"]
    config = LongNormBert(
        layers=layers,
        width=text["hidden_size"],
        heads=heads,
        mlp_ratio=ratio,
        dropout=0.0,
        max_length=text["max_position_embeddings"],
        summary="cls",
    )
    fusion = CrossBert(
        layers=text["num_hidden_layers"] - layers,
        heads=heads,
        mlp_ratio=ratio,
        layer_norm_eps=text["layer_norm_eps"],
        dropout=0.0,
    )
    vision = PictureTokens(load_file(IMAGES)["cclm.out.image_embeds"])
    model = X2VLM(
        vision,
        config.build(tokenizer),
        fusion.build(text["hidden_size"], vision.width),
        HeadsConfig(built=()),
    )
    names = official_names(model, Layout(STACKED_TEXT, True, MLM_OF_STACK), layers)
    model.load_state_dict({own: official(tensors, theirs) for own, theirs in names.items()})
    return model, config


def answering(which: str, end: str = "") -> Asked:
    """The model of a recorded ranking.

    Args:
        which: vqa, xgqa or cclm_v1_xgqa.
        end: of the file's name.
    """
    files = f"tasks_more/{which}_ranking{end}.safetensors", f"tasks_more/{which}_ranking{end}.json"
    tensors, facts = load_file(REFERENCE / files[0]), json.loads((REFERENCE / files[1]).read_text())
    layers = facts["num_decoder_layers"]
    if which == "cclm_v1_xgqa":
        source = load_file(V1_WEIGHTS)
        tokenizer = WordTokenizer(_special(tensors), facts["vocab"], facts["id_offset_of_words"])
        model, config = first_generation(tokenizer, source)
    else:
        name = "xvlm" if which == "vqa" else "cclm"
        recording = record(name, files=task_files(name))
        model, text = recording.model, recording.config["text"]
        source = load_file(task_files(name)[1])
        model.text.tokenizer = tokenizer = WordTokenizer(
            text, facts["vocab"], facts.get("id_offset_of_words", 0)
        )
        config = Bert(
            layers=layers,
            width=text["hidden_size"],
            heads=text["num_heads"],
            mlp_ratio=text["intermediate_size"] / text["hidden_size"],
            dropout=0.0,
            max_length=text["max_position_embeddings"],
        )
    own = {name.removeprefix("param."): value for name, value in tensors.items() if name.startswith("param.")}
    copied = {
        target: source[origin] for target, origin in facts["target_to_source"].items() if origin in source
    }
    model.decoder = recorded_decoder(config, tokenizer, layers, copied | own)
    return Asked(files, model.eval(), tensors, facts)


def _special(tensors: dict[str, Tensor]) -> dict[str, Any]:
    """The special ids of CCLM's own model, whose file has the size of its vocabulary and few of them."""
    heads = json.loads(V1_FACTS.read_text())
    text, answers = heads["text_config"], tensors["in.candidate_answer_ids"]
    end = answers[0, tensors["in.candidate_answer_atts"][0].sum() - 1]
    return {
        "vocab_size": text["vocab_size"],
        "pad_token_id": text["pad_token_id"],
        "cls_token_id": int(answers[0, 0]),
        "sep_token_id": int(end),
        "unk_token_id": int(end) + 1,
        "mask_token_id": heads["mask_token_id"],
    }


def task_files(name: str) -> tuple[Path, Path]:
    """Settings and weights of a model that a recording of tasks may bring along; otherwise those of its folder."""
    weights, config = REFERENCE / f"tasks_more/{name}_model.safetensors", REFERENCE / "tasks_more/config.json"
    if not weights.exists():
        return REFERENCE / name / "config.json", REFERENCE / name / "model.safetensors"
    return (config if config.exists() else REFERENCE / name / "config.json"), weights
