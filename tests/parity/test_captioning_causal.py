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

from x2kit.data.pipeline.collation import pad_texts
from x2kit.data.transforms.text import clean
from x2kit.model.generation.beam_search import Search
from x2kit.model.generation.left_to_right import draw_captions, write_captions
from x2kit.model.x2vlm import image_context
from x2kit.plugin import SpecialIds, VisionFeatures
from x2kit.plugin.tasks import EncodedRow, FusedTexts, TaskRow
from x2kit.tasks import Captioning
from x2kit.tasks.captioning import cider_stage
from x2kit.tasks.captioning.cider_stage import CiderStage
from x2kit.tasks.captioning.metric import DocumentFrequencies
from x2kit.tasks.captioning.samples import prompt_ids
from x2kit.tasks.captioning.task import CaptioningTask

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


def fused(
    model: TaskModel, task: CaptioningTask, rows: list[EncodedRow], images_of_rows: list[int]
) -> tuple[FusedTexts, dict[str, Tensor]]:
    """What the step gives to the task for rows that it encoded: fused texts, and targets."""
    padded = pad_texts([row.texts[0] for row in rows], model.model.tokenizer.special.pad, 16)
    (texts,), targets = task.collate(rows, [padded])
    assert texts.positions is not None
    context = image_context(images(model, images_of_rows), torch.arange(len(rows)))
    tokens = model.model.text.read_partly(texts.ids, texts.mask, texts.positions)
    states = model.model.fuse(tokens, texts.mask, context)
    return FusedTexts(states, texts.mask, context), targets


def encoded(model: TaskModel, task: CaptioningTask, facts: dict[str, Any]) -> list[EncodedRow]:
    """The recorded captions."""
    rows = [TaskRow([], [clean(caption)]) for caption in facts["captions"]]
    return task.encode(rows, model.model.tokenizer, facts["max_tokens"])


def build(**settings: Any) -> CaptioningTask:
    return CaptioningTask(Captioning(**{"form": "causal", "clean": True, **settings}))


def next_tokens(rows: list[EncodedRow], width: int) -> list[list[int]]:
    """Labels as they were recorded: at the place of the token itself, -100 elsewhere."""
    labels = [[-100] * width for _ in rows]
    for row, found in zip(labels, rows, strict=True):
        for place, label in zip(found.targets["places"], found.targets["labels"], strict=True):
            row[place + 1] = label
    return labels


def test_tokens_and_labels(model: TaskModel, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    for prompt, begin in ((facts["prompt"], "in"), ("", "domain.in")):
        rows = encoded(model, build(prompt=prompt), facts)
        kept = tensors[f"{begin}.text_atts"].bool()
        ids = [row.texts[0] for row in rows]
        recorded_ids = [
            row[mask].tolist() for row, mask in zip(tensors[f"{begin}.text_ids"], kept, strict=True)
        ]
        check_equal(TENSORS, f"{begin}.text_ids", ids, recorded_ids)
        if prompt:
            check_equal(
                FACTS, "prompt_length", len(prompt_ids(prompt, model.model.tokenizer)), facts["prompt_length"]
            )
            wanted = tensors["in.labels"]
            check_equal(TENSORS, "in.labels", next_tokens(rows, wanted.shape[1]), wanted.tolist())


@pytest.mark.parametrize("smoothing", ["0.0", "0.1"])
def test_logits_losses_and_gradients(
    model: TaskModel, tensors: dict[str, Tensor], facts: dict[str, Any], smoothing: str
) -> None:
    task = build(prompt=facts["prompt"], label_smoothing=float(smoothing))
    text, targets = fused(model, task, encoded(model, task, facts), tensors["in.image_rows"].tolist())
    everywhere = torch.arange(text.states.shape[1]).expand(len(text.states), -1)
    kept = tensors["in.text_atts"].bool()
    logits = model.model.mlm_head(text.states, everywhere)[:, : kept.shape[1]]
    check(TENSORS, "out.logits", logits[kept], tensors["out.logits"][kept], atol=LOGITS)
    loss = task.loss(model.model, [text], targets)["caption"]
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
    task = build(prompt="", label_smoothing=0.0)
    text, targets = fused(model, task, encoded(model, task, facts), tensors["in.image_rows"].tolist())
    name = "domain_loss_no_prompt_no_smoothing"
    check(FACTS, name, task.loss(model.model, [text], targets)["caption"], facts[name], atol=LOSS)


def settings_of(call: dict[str, Any], prompt: int) -> dict[str, Any]:
    """Settings of a recorded search; officially lengths count the prompt."""
    return {
        "num_beams": call["num_beams"],
        "min_length": max(0, call["min_length"] - prompt),
        "max_length": call["max_length"] - prompt,
        "length_penalty": call["length_penalty"],
        "unique_ngrams": None,
        "refill": True,
    }


def test_generated_captions(model: TaskModel, facts: dict[str, Any]) -> None:
    prompt, pad = prompt_ids(facts["prompt"], model.model.tokenizer), model.model.tokenizer.special.pad
    for call in facts["generation"]:
        settings = settings_of(call, len(prompt))
        task, rows = build(prompt=facts["prompt"], **settings), call["image_rows"]
        text, targets = fused(
            model, task, task.encode([TaskRow([], [""])] * len(rows), model.model.tokenizer, 16), rows
        )
        captions = task.predict(model.model, [text], targets)
        check_equal(FACTS, "generation.captions", captions, call["captions"])

        found = write_captions(model.model, images(model, rows), prompt, Search(**settings), masked=False)
        longest = len(call["ids"][0])
        padded = [[*prompt, *it.ids] + [pad] * (longest - len(prompt) - len(it.ids)) for it in found]
        check_equal(FACTS, "generation.ids", padded, call["ids"])
        if "sequence_scores" in call:
            scores = [it.score for it in found]
            check(FACTS, "generation.sequence_scores", scores, call["sequence_scores"], atol=LOG_LIKELIHOOD)


def stage(facts: dict[str, Any], baseline: str = "greedy") -> tuple[CaptioningTask, CiderStage]:
    """The CIDEr stage with the recorded document frequencies."""
    recorded, prompt = facts["scst"], facts["prompt_length"]
    task = build(
        prompt=facts["prompt"],
        objective="cider",
        samples=recorded["samples_per_picture"],
        sample_length=recorded["max_length"] - prompt,
        baseline=baseline,
        frequencies="recorded",
    )
    counts = {tuple(n_gram.split()): count for n_gram, count in recorded["cider_d"]["document_frequency"]}
    frequencies = DocumentFrequencies(recorded["cider_d"]["document_count"], counts)
    task.__dict__["cider_stage"] = CiderStage(
        task.config, frequencies
    )  # its cached property would read a file
    return task, task.cider_stage


def official_ids(drawn: list[int], limit: int, end: int) -> list[int]:
    """Cut behind the end token; at the length limit the official code writes it over the last token."""
    drawn = drawn[: drawn.index(end)] if end in drawn else drawn[: limit - 1]
    return [*drawn, end]


def test_rewards_and_log_probabilities(
    model: TaskModel, tensors: dict[str, Tensor], facts: dict[str, Any]
) -> None:
    recorded, special = facts["scst"], model.model.tokenizer.special
    prompt, (_, cider) = prompt_ids(facts["prompt"], model.model.tokenizer), stage(facts)
    features = images(model, tensors["scst.in.image_rows"].tolist())
    limit = recorded["max_length"] - len(prompt)
    greedy = draw_captions(model.model, features, prompt, 1, limit, None)
    for kind, drawn, file_ids in (
        ("greedy", greedy, "scst.out.greedy_ids"),
        ("sampled", tensors["scst.in.drawn_tokens"], "scst.in.sampled_ids"),
    ):
        found = [[*prompt, *official_ids(row, limit, special.sep)] for row in drawn.tolist()]
        padded = [ids + [special.pad] * (recorded["max_length"] - len(ids)) for ids in found]
        check_equal(TENSORS, file_ids, padded, tensors[file_ids].tolist())
        captions = [model.model.tokenizer.decode(ids[len(prompt) :]) for ids in found]
        check_equal(FACTS, f"scst.{kind}_captions", captions, recorded[f"{kind}_captions"])
        log, name = (
            cider.log_probability(model.model, features, prompt, drawn),
            f"scst.out.{kind}_log_probability",
        )
        check(TENSORS, name, log, tensors[name], atol=LOG_LIKELIHOOD)
        rewards = cider.rewards(model.model, drawn, recorded["references"])
        name = {"greedy": "scst.out.greedy_rewards", "sampled": "scst.out.sample_rewards"}[kind]
        check(TENSORS, name, rewards, tensors[name], atol=REWARD)
    check(FACTS, "scst.mean_sample_reward", rewards.mean(), recorded["mean_sample_reward"], atol=REWARD)


@pytest.mark.parametrize(
    ("baseline", "name"), [("greedy", "loss_greedy_baseline"), ("samples", "loss_sample_baseline")]
)
def test_self_critical_losses(
    model: TaskModel,
    tensors: dict[str, Tensor],
    facts: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    baseline: str,
    name: str,
) -> None:
    def as_recorded(*args: Any) -> Tensor:
        """Samples as they were drawn, greedy captions as the model writes them."""
        *_, rng, _ = args
        return draw_captions(*args) if rng is None else tensors["scst.in.drawn_tokens"]

    monkeypatch.setattr(cider_stage, "draw_captions", as_recorded)
    task, _ = stage(facts, baseline)
    rows = task.encode(
        [TaskRow([], [""], truth={"references": texts}) for texts in facts["scst"]["references"]],
        model.model.tokenizer,
        16,
    )
    text, targets = fused(model, task, rows, tensors["scst.in.image_rows"].tolist())
    loss = task.loss(model.model, [text], targets)["caption"]
    check(FACTS, f"scst.{name}", loss, facts["scst"][name], atol=LOSS)
    if baseline == "greedy":
        compare_gradients(model, loss, tensors, "scst.grad.")
