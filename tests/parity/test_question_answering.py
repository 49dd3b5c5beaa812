"""The tasks VQA and xGQA from words and pictures to answers, against the recording (tasks_more/*_ranking)."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from x2kit.data.pipeline.collation import pad_texts
from x2kit.model import X2VLM
from x2kit.model.generation.answers import rank_answers
from x2kit.model.x2vlm import image_context
from x2kit.plugin.tasks import FusedTexts, Task, TaskRow
from x2kit.tasks.rows import encode_distinct, predict_rows
from x2kit.tasks.vqa.config import VQA

from .answering import Asked, answering
from .evidence import check, check_equal

MODELS = {
    "vqa": ("vqa",),
    "xgqa": ("xgqa",),
    "xgqa, tied": ("xgqa", "_tied"),
    "cclm_v1_xgqa": ("cclm_v1_xgqa",),
}
LOGITS, LOSS, GRADIENT, SCORES = 2e-5, 5e-5, 1e-4, 1e-4


@pytest.fixture(scope="module", params=MODELS)
def asked(request: pytest.FixtureRequest) -> Asked:
    return answering(*MODELS[request.param])


def rows_of(asked: Asked) -> list[TaskRow]:
    """The recorded questions with the answers that they are trained with, as the task draws them."""
    tensors, decode = asked.tensors, asked.model.tokenizer.decode
    counts = tensors["in.train_answers_per_question"].tolist()
    answers = [decode(ids.tolist()) for ids in tensors["in.train_answer_ids"]]
    weights = tensors["in.train_answer_weights"].tolist()
    rows, start = [], 0
    for question, picture, count in zip(asked.facts["questions"], asked.pictures(), counts, strict=True):
        part = slice(start, start + count)
        rows.append(TaskRow([picture], [question], dict(zip(answers[part], weights[part], strict=True))))
        start += count
    return rows


def fused_rows(task: Task, model: X2VLM, rows: list[TaskRow]) -> tuple[list[FusedTexts], dict[str, Tensor]]:
    """What the task's loss gets."""
    encoded = task.encode(rows, model.tokenizer, model.max_length)
    padded = pad_texts([row.texts[0] for row in encoded], model.tokenizer.special.pad, model.max_length)
    (text,), targets = task.collate(encoded, [padded])
    features = encode_distinct(model, [row.images[0] for row in rows])
    context = image_context(features, torch.arange(len(rows)))
    return [
        FusedTexts(
            model.fuse(model.encode_texts(text.ids, text.mask), text.mask, context), text.mask, context
        )
    ], targets


def task(asked: Asked, **settings: Any) -> Task:
    return VQA(answer_list=tuple(asked.facts["answer_list"]), metric="exact", **settings).build()


def ks(asked: Asked) -> list[int]:
    """The recorded numbers of answers that are scored in full."""
    found = [name.split(".")[1].removeprefix("k") for name in asked.tensors if name.endswith(".topk_ids")]
    assert found
    return [int(k) for k in found]


def test_words_become_the_recorded_ids(asked: Asked) -> None:
    file, _ = asked.files
    for given, name in (("questions", "question"), ("answer_list", "candidate_answer")):
        encoded = asked.model.tokenizer.encode(asked.facts[given], asked.model.max_length)
        lengths = asked.tensors[f"in.{name}_atts"].sum(1).tolist()
        recorded = asked.tensors[f"in.{name}_ids"].tolist()
        kept = [ids[:length] for ids, length in zip(recorded, lengths, strict=True)]
        check_equal(file, f"in.{name}_ids", encoded, kept)


def test_the_first_token(asked: Asked) -> None:
    file, _ = asked.files
    with torch.no_grad():
        (one,), _ = fused_rows(task(asked), asked.model, rows_of(asked))
        opening = torch.full((len(one.states), 1), asked.model.tokenizer.special.cls)
        logits = asked.model.decoder(opening, opening >= 0, one.states, one.mask)[:, 0]
    check(file, "out.first_piece_logits", logits, asked.tensors["out.first_piece_logits"], atol=LOGITS)


def test_the_loss_and_its_gradient(asked: Asked) -> None:
    tensors, facts = asked.files
    own = task(asked)
    asked.model.zero_grad()
    loss = own.loss(asked.model, *fused_rows(own, asked.model, rows_of(asked)))["answer"]
    loss.backward()
    check(facts, "loss", loss, asked.facts["loss"], atol=LOSS)
    bias = asked.model.decoder.model.get_output_embeddings().bias.grad
    name = "grad.text_decoder.cls.predictions.bias"
    check(tensors, name, bias, asked.tensors[name], atol=GRADIENT)


def test_the_answers(asked: Asked) -> None:
    _, file = asked.files
    rows = [row._replace(targets={}) for row in rows_of(asked)]
    for k in ks(asked):
        found = predict_rows(
            task(asked, top_k=k), asked.model, {"en": [(str(n), row) for n, row in enumerate(rows)]}
        )
        free = [not tie for tie in asked.facts[f"k{k}.tie_at_cut"]]
        for prediction, answer, certain in zip(found["en"], asked.facts[f"k{k}.answers"], free, strict=True):
            if certain:
                check_equal(file, f"k{k}.answers", prediction.value, answer)


def test_the_scores_of_the_candidates(asked: Asked) -> None:
    file, _ = asked.files
    with torch.no_grad():
        (one,), _ = fused_rows(task(asked), asked.model, rows_of(asked))
    ids = asked.tensors["in.candidate_answer_ids"]
    mask = asked.tensors["in.candidate_answer_atts"].bool()
    for k in ks(asked):
        found = rank_answers(asked.model.decoder, one.states, one.mask, ids, mask, k)
        rows = torch.tensor([not tie for tie in asked.facts[f"k{k}.tie_at_cut"]])
        for name, own in (("topk_ids", found.rows), ("topk_probs", found.probability)):
            recorded = asked.tensors[f"out.k{k}.{name}"]
            check(
                file, f"out.k{k}.{name}", own[rows], recorded[rows], atol=0 if name == "topk_ids" else SCORES
            )
        candidates = asked.tensors[f"out.k{k}.candidates_by_first_piece"]
        check(  # where the cut goes through a tie the answers differ, their first tokens do not
            file,
            f"out.k{k}.candidates_by_first_piece, first tokens",
            ids[found.rows, 1].sort(1).values,
            ids[candidates, 1].sort(1).values,
        )
