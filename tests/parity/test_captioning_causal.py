"""Causal captioning of X-VLM: losses, beam search, and the self-critical stage (tasks_more/captioning_causal)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import decoders, models, normalizers, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast
from x2kit_transformers.tokenizer import HuggingFaceTokenizer

from x2kit.model.generation.beam_search import Search
from x2kit.model.generation.left_to_right import caption_states, draw_captions, write_captions
from x2kit.model.x2vlm import image_context
from x2kit.objectives import leave_one_out, mean_log_probability, next_token_loss, self_critical_loss
from x2kit.plugin import SpecialIds, VisionFeatures
from x2kit.tasks.captioning.metric import DocumentFrequencies, cider_d
from x2kit.tasks.captioning.words import reward_words

from .evidence import check, check_equal
from .tasks_more import TaskModel, features, recorded, task_model

TENSORS, FACTS = "tasks_more/captioning_causal.safetensors", "tasks_more/captioning_causal.json"
LOGITS, LOSS, GRADIENT, LOG_LIKELIHOOD, REWARD = 1e-4, 1e-5, 1e-4, 1e-4, 1e-6


def begun_at(name: str) -> str:
    """The official name of a tensor of the decoder in the model that it was loaded from."""
    name = name.replace("text_decoder.bert.", "text_encoder.").replace("text_decoder.", "text_encoder.")
    return name.replace("predictions.bias", "predictions.decoder.bias")


def word_pieces(vocab: list[str]) -> HuggingFaceTokenizer:
    """BERT's tokenizer with the recorded words."""
    backend = Backend(models.WordPiece({word: id_ for id_, word in enumerate(vocab)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    special = {f"{name}_token": f"[{name.upper()}]" for name in SpecialIds._fields}
    return HuggingFaceTokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, **special), "the recording")


@pytest.fixture(scope="module")
def recording() -> tuple[dict[str, Any], dict[str, Tensor]]:
    return recorded("captioning_causal")


@pytest.fixture(scope="module")
def facts(recording: tuple[dict[str, Any], dict[str, Tensor]]) -> dict[str, Any]:
    return recording[0]


@pytest.fixture(scope="module")
def tensors(recording: tuple[dict[str, Any], dict[str, Tensor]]) -> dict[str, Tensor]:
    return recording[1]


@pytest.fixture(scope="module")
def model(tensors: dict[str, Tensor], facts: dict[str, Any]) -> TaskModel:
    model = task_model("xvlm", built=("mlm",))
    model.model.text.tokenizer = word_pieces(facts["vocab"])
    model.set({begun_at(name): value for name, value in tensors.items()})
    return model


def images(model: TaskModel, rows: list[int]) -> VisionFeatures:
    found = features("xvlm", model.model)
    return VisionFeatures(found.summary[rows], found.patches[rows], found.grid)


def logits_of(model: TaskModel, ids: Tensor, rows: list[int]) -> Tensor:
    """Logits [B, L, V] of each next token."""
    context = image_context(images(model, rows), torch.arange(len(ids)))
    states = caption_states(model.model, ids, torch.zeros_like(ids, dtype=torch.bool), context)
    return model.model.mlm_head(states, torch.arange(ids.shape[1]).expand(len(ids), -1))


def test_logits(model: TaskModel, tensors: dict[str, Tensor]) -> None:
    ids, kept = tensors["in.text_ids"], tensors["in.text_atts"].bool()
    found = logits_of(model, ids, tensors["in.image_rows"].tolist())
    check(TENSORS, "out.logits", found[kept], tensors["out.logits"][kept], atol=LOGITS)


@pytest.mark.parametrize("smoothing", ["0.0", "0.1"])
def test_losses_and_gradients(
    model: TaskModel, tensors: dict[str, Tensor], facts: dict[str, Any], smoothing: str
) -> None:
    logits = logits_of(model, tensors["in.text_ids"], tensors["in.image_rows"].tolist())
    loss = next_token_loss(logits[:, :-1], tensors["in.labels"][:, 1:], float(smoothing))
    name = f"loss_label_smoothing_{smoothing}"
    check(FACTS, name, loss, facts[name], atol=LOSS)
    compare_gradients(model, loss, tensors, f"grad.label_smoothing_{smoothing}.")


def compare_gradients(model: TaskModel, loss: Tensor, tensors: dict[str, Tensor], begin: str) -> None:
    found = model.gradients(loss)
    names = [name for name in tensors if name.startswith(begin)]
    assert names
    for name in names:
        own = found[begun_at(name.removeprefix(begin))]
        check(TENSORS, name, own, tensors[name], atol=GRADIENT)


def test_loss_of_the_domain_stage(
    model: TaskModel, tensors: dict[str, Tensor], facts: dict[str, Any]
) -> None:
    ids, kept = tensors["domain.in.text_ids"], tensors["domain.in.text_atts"].bool()
    logits = logits_of(model, ids, tensors["in.image_rows"].tolist())
    loss = next_token_loss(logits[:, :-1], ids.masked_fill(~kept, -100)[:, 1:], 0.0)
    check(
        FACTS,
        "domain_loss_no_prompt_no_smoothing",
        loss,
        facts["domain_loss_no_prompt_no_smoothing"],
        atol=LOSS,
    )


def prompt_of(tensors: dict[str, Tensor], facts: dict[str, Any]) -> list[int]:
    return tensors["in.text_ids"][0, : facts["prompt_length"]].tolist()


def test_generated_captions(model: TaskModel, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    prompt, pad = prompt_of(tensors, facts), model.model.tokenizer.special.pad
    for call in facts["generation"]:
        search = Search(
            num_beams=call["num_beams"],
            min_length=max(0, call["min_length"] - len(prompt)),  # officially, the prompt counts
            max_length=call["max_length"] - len(prompt),
            length_penalty=call["length_penalty"],
            unique_ngrams=None,
            refill=True,
        )
        found = write_captions(model.model, images(model, call["image_rows"]), prompt, search, masked=False)
        longest = len(call["ids"][0])
        padded = [[*prompt, *it.ids] + [pad] * (longest - len(prompt) - len(it.ids)) for it in found]
        check_equal(FACTS, "generation.ids", padded, call["ids"])
        words = [model.model.tokenizer.decode(it.ids) for it in found]
        check_equal(FACTS, "generation.captions", words, call["captions"])
        if "sequence_scores" in call:
            scores = [it.score for it in found]
            check(FACTS, "generation.sequence_scores", scores, call["sequence_scores"], atol=LOG_LIKELIHOOD)


def frequencies(facts: dict[str, Any]) -> DocumentFrequencies:
    recorded = facts["scst"]["cider_d"]
    counts = {tuple(n_gram.split()): count for n_gram, count in recorded["document_frequency"]}
    return DocumentFrequencies(recorded["document_count"], counts)


def rewards(facts: dict[str, Any], captions: list[str], each: int) -> Tensor:
    references = [
        [reward_words(text) for text in texts] for texts in facts["scst"]["references"] for _ in range(each)
    ]
    return torch.tensor(
        cider_d([reward_words(text) for text in captions], references, frequencies(facts)).rows
    )


def test_rewards(tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    recorded = facts["scst"]
    sampled = rewards(facts, recorded["sampled_captions"], recorded["samples_per_picture"])
    check(TENSORS, "scst.out.sample_rewards", sampled, tensors["scst.out.sample_rewards"], atol=REWARD)
    check(FACTS, "scst.mean_sample_reward", sampled.mean(), recorded["mean_sample_reward"], atol=REWARD)
    greedy = rewards(facts, recorded["greedy_captions"], 1)
    check(TENSORS, "scst.out.greedy_rewards", greedy, tensors["scst.out.greedy_rewards"], atol=REWARD)


def test_greedy_captions(model: TaskModel, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    prompt, rows = prompt_of(tensors, facts), tensors["scst.in.image_rows"].tolist()
    limit = facts["scst"]["max_length"] - len(prompt)
    drawn = draw_captions(model.model, images(model, rows), prompt, 1, limit, None)
    special, width = model.model.tokenizer.special, facts["scst"]["max_length"]
    found = [[*prompt, *official_ids(row, limit, special.sep)] for row in drawn.tolist()]
    padded = [ids + [special.pad] * (width - len(ids)) for ids in found]
    check_equal(TENSORS, "scst.out.greedy_ids", padded, tensors["scst.out.greedy_ids"].tolist())
    texts = [model.model.tokenizer.decode(ids[len(prompt) :]) for ids in found]
    check_equal(FACTS, "scst.greedy_captions", texts, facts["scst"]["greedy_captions"])
    log = log_probability(model, prompt, drawn, rows)
    check(
        TENSORS,
        "scst.out.greedy_log_probability",
        log,
        tensors["scst.out.greedy_log_probability"],
        atol=LOG_LIKELIHOOD,
    )


def official_ids(drawn: list[int], limit: int, end: int) -> list[int]:
    """Cut behind the end token; at the length limit the official code writes it over the last token."""
    drawn = drawn[: drawn.index(end)] if end in drawn else drawn[: limit - 1]
    return [*drawn, end]


def log_probability(model: TaskModel, prompt: list[int], drawn: Tensor, rows: list[int]) -> Tensor:
    ids = torch.cat([torch.tensor([prompt]).expand(len(drawn), -1), drawn], 1)
    logits = logits_of(model, ids[:, :-1], rows)[:, len(prompt) - 1 :]
    return mean_log_probability(logits, drawn, model.model.tokenizer.special.sep)


def test_self_critical_losses(model: TaskModel, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    recorded, prompt = facts["scst"], prompt_of(tensors, facts)
    each = recorded["samples_per_picture"]
    drawn = tensors["scst.in.drawn_tokens"]
    rows = [row for row in tensors["scst.in.image_rows"].tolist() for _ in range(each)]
    end, limit = model.model.tokenizer.special.sep, recorded["max_length"] - len(prompt)
    found = [official_ids(row, limit, end) for row in drawn.tolist()]
    width = recorded["max_length"] - len(prompt)
    pad = model.model.tokenizer.special.pad
    wanted = tensors["scst.in.sampled_ids"][:, len(prompt) :].tolist()
    check_equal(TENSORS, "scst.in.sampled_ids", [ids + [pad] * (width - len(ids)) for ids in found], wanted)
    texts = [model.model.tokenizer.decode(ids) for ids in found]
    check_equal(FACTS, "scst.sampled_captions", texts, recorded["sampled_captions"])

    log = log_probability(model, prompt, drawn, rows)
    check(
        TENSORS,
        "scst.out.sampled_log_probability",
        log,
        tensors["scst.out.sampled_log_probability"],
        atol=LOG_LIKELIHOOD,
    )
    reward = rewards(facts, texts, each)
    greedy = rewards(facts, recorded["greedy_captions"], 1).repeat_interleave(each)
    loss = self_critical_loss(log, reward, greedy)
    check(FACTS, "scst.loss_greedy_baseline", loss, recorded["loss_greedy_baseline"], atol=LOSS)
    others = leave_one_out(reward.view(-1, each)).flatten()
    by_others = self_critical_loss(log, reward, others)
    check(FACTS, "scst.loss_sample_baseline", by_others, recorded["loss_sample_baseline"], atol=LOSS)
    compare_gradients(model, loss, tensors, "scst.grad.")
