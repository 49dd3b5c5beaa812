"""Captioning with the masked-language model: both training formats and generation (tasks/captioning)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from x2kit.model import X2VLM
from x2kit.model.generation.beam_search import Search
from x2kit.model.generation.left_to_right import write_captions
from x2kit.model.x2vlm import image_context
from x2kit.plugin.tasks import EncodedRow, FusedTexts, Texts
from x2kit.tasks import Captioning
from x2kit.tasks.captioning.task import CaptioningTask

from .conftest import REFERENCE, record
from .evidence import check, check_equal

TENSORS, FACTS = "tasks/captioning.safetensors", "tasks/captioning.json"
LOGITS, LOSS = 5e-5, 1e-5
FORMATS = ("plain", "fg_free")


@pytest.fixture(scope="module")
def tensors() -> dict[str, Tensor]:
    return load_file(REFERENCE / TENSORS)


@pytest.fixture(scope="module")
def facts() -> dict[str, Any]:
    return json.loads((REFERENCE / FACTS).read_text())


@pytest.fixture(scope="module")
def model(tensors: dict[str, Tensor]) -> X2VLM:
    """The recorded model with the bias that makes ends likely."""
    bias = tensors["param.text_encoder.cls.predictions.bias"]
    return record("xvlm", more={"text_encoder.cls.predictions.decoder.bias": bias}).model.eval()


@pytest.fixture(scope="module")
def images() -> Tensor:
    return load_file(REFERENCE / "xvlm" / "image_batch.safetensors")["in.image"]


def inserted_masks(tensors: dict[str, Tensor], form: str) -> Tensor:
    """The mask tokens that stand in front of the tokens they ask for: all of the second format's."""
    places, counts = tensors[f"{form}.in.masked_pos"], tensors[f"{form}.in.masked_weight"]
    inserted = torch.zeros_like(tensors[f"{form}.in.text_ids_masked"])
    return inserted.scatter_add(1, places, counts * (form == "fg_free")).bool()


def read(
    tensors: dict[str, Tensor], form: str, task: CaptioningTask, pad: int
) -> tuple[Texts, dict[str, Tensor]]:
    """Recorded texts as the task collates them; what was masked is drawn at random and therefore given."""
    given = {key.removeprefix(f"{form}."): value for key, value in tensors.items()}
    inserted, ids = inserted_masks(tensors, form), given["in.text_ids_masked"]
    rows = []
    for row, count in enumerate(given["in.masked_weight"].sum(1).tolist()):
        targets = {
            "inserted": inserted[row].tolist(),
            "places": given["in.masked_pos"][row, :count].tolist(),
            "labels": given["in.masked_ids"][row, :count].tolist(),
        }
        rows.append(EncodedRow([ids[row].tolist()], targets))
    (texts,), targets = task.collate(rows, [Texts(ids, ids != pad)])
    return texts, targets


@pytest.mark.parametrize("form", FORMATS)
def test_attention_masks_and_positions(model: X2VLM, tensors: dict[str, Tensor], form: str) -> None:
    texts, _ = read(tensors, form, CaptioningTask(Captioning()), model.tokenizer.special.pad)
    kept = texts.mask.diagonal(dim1=1, dim2=2)
    check(
        TENSORS,
        f"{form}.in.attention_mask",
        texts.mask[kept].long(),
        tensors[f"{form}.in.attention_mask"][kept],
    )
    check(TENSORS, f"{form}.in.position_ids", texts.positions, tensors[f"{form}.in.position_ids"])


@pytest.mark.parametrize("form", FORMATS)
def test_logits_and_loss(
    model: X2VLM, images: Tensor, tensors: dict[str, Tensor], facts: dict[str, Any], form: str
) -> None:
    assert facts["ignore_index_for_label_smoothing"] == model.tokenizer.special.cls
    config = Captioning(
        form="insert" if form == "fg_free" else "replace", label_smoothing=facts["label_smoothing"]
    )
    task = CaptioningTask(config)
    texts, targets = read(tensors, form, task, model.tokenizer.special.pad)
    rows = torch.arange(len(texts.ids))
    context = image_context(model.encode_images(images[rows]), rows)
    states = model.fuse(model.text.read_partly(texts.ids, texts.mask, texts.positions), texts.mask, context)
    predicted = targets["labels"] != -100
    logits = model.mlm_head(states, targets["places"])
    wanted = tensors[f"{form}.out.logits"][:, : logits.shape[1]]
    check(TENSORS, f"{form}.out.logits", logits[predicted], wanted[predicted], atol=LOGITS)
    loss = task.loss(model, [FusedTexts(states, texts.mask, context)], targets)["caption"]
    check(FACTS, f"{form}.loss", loss, facts[f"{form}.loss"], atol=LOSS)


def search_of(args: dict[str, Any], limit: int, prompt: int) -> Search:
    """The recorded settings; the official limit counts the prompt, and the images of the call (see DELIBERATE)."""
    unique = (
        args.get("ngram_size", Search.unique_ngrams) if args.get("forbid_duplicate_ngrams", True) else None
    )
    given = {name: args[name] for name in ("num_beams", "min_length", "length_penalty") if name in args}
    return Search(**given, unique_ngrams=unique, max_length=limit - prompt)


def test_written_captions(model: X2VLM, images: Tensor, facts: dict[str, Any]) -> None:
    prompt, end = facts["prompt_ids"], facts["eos_token_id"]
    assert end == model.tokenizer.special.sep
    captions: list[tuple[list[int], str]] = []
    for call in facts["generation"]:
        limit = call["total_length_limit"]
        features = model.encode_images(images[call["image_rows"]])
        search = search_of(call["args"], limit, len(prompt))
        found = [text.ids for text in write_captions(model, features, prompt, search)]
        padding = model.tokenizer.special.pad
        padded = [ids + [padding] * (limit - len(ids)) for ids in found]
        check_equal(FACTS, "generation.ids", padded, call["ids"])
        words = [[id_ for id_ in ids if id_ != end] for ids in found]
        captions += zip(words, call["decoded_words"], strict=True)
    for wanted, spelled in spellings(captions):
        check_equal(FACTS, "generation.decoded_words", spelled, wanted)


def spellings(captions: list[tuple[list[int], str]]) -> list[tuple[str, str | None]]:
    """The letters of each caption, and what its ids spell if each id always stands for the same letters, else None.

    The vocabulary is not recorded. Captions with as many words as ids tell what an id stands for; elsewhere word pieces
    are joined to words, so letters are compared without spaces and without the mark of pieces.
    """
    known: dict[int, str] = {}
    for ids, text in captions:
        if len(words := text.split()) == len(ids):
            for id_, word in zip(ids, words, strict=True):
                known.setdefault(id_, re.escape(word.removeprefix("##")))
    found = []
    for ids, text in captions:
        letters = "".join(text.split()).replace("##", "")
        pattern = "".join(
            known.get(id_) or (f"(?P=id{id_})" if id_ in ids[:place] else f"(?P<id{id_}>.+?)")
            for place, id_ in enumerate(ids)
        )
        fits = re.fullmatch(pattern, letters) and len(text.split()) <= len(ids)
        found.append((letters, letters if fits else None))
    return found


def test_word_pieces_are_joined_to_the_words_that_they_spell() -> None:
    captions = [([5], "grass"), ([5, 6], "grassy"), ([6, 5], "##y grass"), ([7, 6, 7], "sky sk")]
    assert [spelled for _, spelled in spellings(captions)] == ["grass", "grassy", "ygrass", "skysk"]


@pytest.mark.parametrize("wrong", [([5], "sheep"), ([5, 6], "grass sheep"), ([7, 7], "skies")])
def test_an_id_of_other_letters_is_detected(wrong: tuple[list[int], str]) -> None:
    assert spellings([([5], "grass"), ([6], "sky"), wrong])[-1][1] is None
