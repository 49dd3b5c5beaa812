"""Rows, losses and predictions of questions, on a tiny model; the losses against sums written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from tests.evaluation.stubs import WIDTH, Attend, Patches, SavedWords, Words
from x2kit.data.pipeline.collation import pad_texts
from x2kit.errors import DataError
from x2kit.model import X2VLM
from x2kit.model.config import HeadsConfig
from x2kit.model.x2vlm import image_context
from x2kit.plugin import Record, TextDecoder
from x2kit.plugin.tasks import FusedTexts, Prediction, Reader, Task, TaskRow
from x2kit.tasks import VQA, AnswerClassification, MultipleChoice
from x2kit.tasks.rows import predict_records
from x2kit.tasks.vqa.task import ClassificationTask

ANSWERS = ("yes", "no", "red car")
END = SavedWords.special.sep


class Reading(TextDecoder):
    """Logits from the last token and the mean of the question."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Embedding(SavedWords.vocab_size, WIDTH)
        self.out = nn.Linear(WIDTH, SavedWords.vocab_size)

    def forward(self, ids: Tensor, mask: Tensor, context: Tensor, context_mask: Tensor) -> Tensor:
        kept = (context * context_mask[..., None]).sum(1) / context_mask.sum(1)[:, None]
        return self.out(torch.tanh(self.token(ids) + kept[:, None]))


@pytest.fixture(scope="module")
def model() -> X2VLM:
    torch.manual_seed(0)
    heads = HeadsConfig(built=("itm",), answers=len(ANSWERS))
    made = X2VLM(Patches(), Words(SavedWords()), Attend(), heads, Reading())
    for head in (made.itm_head, made.answer_head):
        nn.init.normal_(head[-1].weight)
    return made.eval()


class StubReader(Reader):
    """Texts in lower case, images as they are."""

    def __init__(self, training: bool) -> None:
        self.rng, self.training = np.random.default_rng(0), training

    def image(self, value: Any, may_flip: bool = True) -> Any:
        return value

    def video(self, value: Any) -> Any:
        return ("video", value)

    def text(self, text: Any, raw: bool = False) -> str:
        return text if raw else text.lower()


TRAINING, EVALUATION = StubReader(True), StubReader(False)


def picture(number: int) -> Any:
    return np.full((16, 16, 3), 40 * number, np.uint8)


def prepared(task: Task, model: X2VLM, rows: Sequence[TaskRow]) -> tuple[list[FusedTexts], dict[str, Tensor]]:
    """What the loss of a step gets."""
    encoded = task.encode(rows, model.tokenizer, model.max_length)
    places = range(len(rows[0].texts))
    padded = [pad_texts([row.texts[n] for row in encoded], model.tokenizer.special.pad, 12) for n in places]
    texts, targets = task.collate(encoded, padded)
    pixels = torch.stack([torch.from_numpy(row.images[0]) for row in rows]).permute(0, 3, 1, 2) / 255
    context = image_context(model.encode_images(pixels), torch.arange(len(rows)))
    fused = [
        FusedTexts(
            model.fuse(model.encode_texts(text.ids, text.mask), text.mask, context), text.mask, context
        )
        for text in texts
    ]
    return fused, targets


def asked(answers: Any, number: int = 1) -> Record:
    return {"image": picture(number), "question": "Is it a dog", "answers": answers}


def test_a_row_has_the_question_and_the_weights_of_its_answers() -> None:
    row = VQA().build().draw(asked(["yes", "yes", "no", "yes"]), TRAINING)
    assert (row.texts, row.targets) == (["is it a dog"], {"yes": 0.75, "no": 0.25})
    assert VQA().build().draw(asked({"yes": 0.5}), TRAINING).targets == {"yes": 0.5}


def test_a_row_may_have_a_video() -> None:
    record: Record = {"video": "a.mp4", "question": "what", "answers": ["cook"]}
    assert VQA().build().draw(record, TRAINING).images == [("video", "a.mp4")]


def test_answers_are_the_truth_of_an_evaluation_and_may_be_absent() -> None:
    task = VQA(metric="exact").build()
    assert task.draw(asked(["dog"]), EVALUATION).truth == ["dog"]
    record: Record = {"image": picture(0), "question": "what"}
    assert task.draw(record, EVALUATION).truth == []


@pytest.mark.parametrize(
    ("record", "reader", "message"),
    [
        ({"image": 1, "question": "what"}, TRAINING, "no field 'answers'"),
        ({"image": 1, "answers": ["a"]}, TRAINING, "no field 'question'"),
        ({"question": "what", "answers": ["a"]}, TRAINING, "a question needs an image or a video"),
        (asked([]), TRAINING, "training needs at least one"),
        (asked("yes"), TRAINING, "expected a list of texts"),
        (asked(["yes"]), EVALUATION, "those of ten annotators, found 1; set metric: exact"),
        (asked({"yes": 1.0}), EVALUATION, "those of ten annotators"),
    ],
)
def test_records_that_cannot_be_drawn(record: Record, reader: Reader, message: str) -> None:
    with pytest.raises(DataError, match=message):
        VQA().build().draw(record, reader)


def test_every_answer_ends_in_the_end_token() -> None:
    task, tokenizer = VQA(max_answer_tokens=4).build(), SavedWords()
    tokenizer.encode = lambda texts, longest: [[0, *range(5, 4 + longest)][:longest] for _ in texts]  # type: ignore[method-assign]
    (row,) = task.encode([TaskRow([0], ["x"], {"a long answer": 1.0})], tokenizer, 8)
    assert row.targets["ids"] == [[0, 5, 6, 7, END]]


def test_the_loss_of_the_decoder_is_the_weighted_sum_over_tokens(model: X2VLM) -> None:
    task = VQA().build()
    given = [{"yes": 0.7, "red car": 0.3}, {"no": 0.5}]
    rows = [TaskRow([picture(n)], ["is it"], answers) for n, answers in enumerate(given)]
    fused, targets = prepared(task, model, rows)
    expected = torch.zeros(())
    for place, answers in enumerate(given):
        for answer, weight in answers.items():
            (ids,) = torch.tensor(model.tokenizer.encode([answer], 9)).split(1)
            part = slice(place, place + 1)
            logits = model.decoder(ids, ids >= 0, fused[0].states[part], fused[0].mask[part])
            tokens = logits[0, :-1].log_softmax(-1).gather(-1, ids[0, 1:, None])
            expected = expected - weight * tokens.sum()
    assert_close(task.loss(model, fused, targets)["answer"], expected / len(given))


def test_questions_of_other_micro_batches_change_no_loss(model: X2VLM) -> None:
    task = VQA().build()
    rows = [TaskRow([picture(n)], ["is it"], {"red car": 0.5, "no": 0.5}) for n in range(2)]
    rows.append(TaskRow([picture(3)], ["what is"], {"yes": 1.0}))
    fused, targets = prepared(task, model, rows)
    whole = task.loss(model, fused, targets)["answer"]
    parts = [
        task.loss(
            model,
            [fused[0]._replace(states=fused[0].states[part], mask=fused[0].mask[part])],
            {name: value[part] for name, value in targets.items()},
        )["answer"]
        for part in (slice(0, 2), slice(2, 3))
    ]
    assert_close(whole, (2 * parts[0] + parts[1]) / 3)


def test_ranking_and_writing_in_python(model: X2VLM) -> None:
    records: list[Record] = [{"image": picture(n), "question": "Is it a dog?"} for n in range(3)]
    ranked = predict_records(VQA(answer_list=ANSWERS), model, records, batch_size=2)
    assert len(ranked) == 3
    assert set(ranked) <= set(ANSWERS)
    written = predict_records(VQA(max_answer_tokens=4, num_beams=2), model, records)
    assert all(isinstance(answer, str) for answer in written)


def test_python_names_the_record_without_a_text_in_the_language(model: X2VLM) -> None:
    record: Record = {"image": picture(0), "question": {"en": "what"}}
    assert predict_records(VQA(answer_list=ANSWERS), model, [record], "en")[0] in ANSWERS
    with pytest.raises(DataError, match="record 0: no text in the language 'de'"):
        predict_records(VQA(answer_list=ANSWERS), model, [record], "de")


def classes(average: str) -> Task:
    return AnswerClassification(answer_list=ANSWERS, average=average).build()  # type: ignore[arg-type]


GIVEN = [{"yes": 0.7, "outside": 0.3}, {"outside": 1.0}, {"no": 0.5, "red car": 0.5}]


@pytest.mark.parametrize(("average", "count"), [("all", 3), ("answered", 2)])
def test_the_loss_of_classes_averages_over_questions(model: X2VLM, average: str, count: int) -> None:
    task = classes(average)
    rows = [TaskRow([picture(n)], ["is it"], answers) for n, answers in enumerate(GIVEN)]
    fused, targets = prepared(task, model, rows)
    logs = model.answer_logits([fused[0].states]).log_softmax(-1)
    expected = -(0.7 * logs[0, 0] + 0.5 * logs[2, 1] + 0.5 * logs[2, 2]) / count
    assert_close(task.loss(model, fused, targets)["answer"], expected)
    counts = task.counts("answer", targets)
    assert counts is None if average == "all" else counts.tolist() == [1, 0, 1]


def test_an_answer_outside_the_list_is_wrong() -> None:
    task = classes("answered")
    found = task.measure([Prediction("1", "yes", ["outside"]), Prediction("2", "no", ["no"])])
    assert (found["accuracy"], found["chance"]) == (0.5, pytest.approx(1 / 6))
    assert task.results([Prediction("7", "yes", [])]) == [{"question_id": 7, "answer": "yes"}]


def test_the_answer_head_has_a_class_for_each_answer() -> None:
    task = AnswerClassification(answer_list=ANSWERS)
    assert task.missing_heads(HeadsConfig(answers=3)) == {}
    assert task.missing_heads(HeadsConfig(answers=4)) == {"answers": "expected 3, found 4"}
    assert "answers" in task.missing_heads(HeadsConfig())
    assert "answer_images" in task.missing_heads(HeadsConfig(answers=3, answer_images=2))
    away = AnswerClassification(answer_list="nowhere.json")
    assert away.missing_heads(HeadsConfig(answers=9)) == {}
    with pytest.raises(DataError, match=r"nowhere\.json"):
        ClassificationTask(away)


def test_the_decoder_and_the_matching_head_are_required() -> None:
    assert "decoder_layers" in VQA().missing_heads(HeadsConfig())
    assert VQA().missing_heads(HeadsConfig(decoder_layers=1)) == {}
    assert MultipleChoice().missing_heads(HeadsConfig()) == {}
    assert "built" in MultipleChoice().missing_heads(HeadsConfig(built=("itc",)))


def choice(label: Any, options: int = 3) -> Record:
    return {
        "image": picture(2),
        "question": "Why",
        "options": [f"Reason {n}" for n in range(options)],
        "label": label,
    }


def test_each_option_is_a_text_with_the_question() -> None:
    config = MultipleChoice(options=3)
    row = config.build().draw(choice(2), TRAINING)
    assert row.texts == ["why reason 0", "why reason 1", "why reason 2"]
    assert (row.targets, row.truth) == ({"label": 2}, 2)
    assert config.pairs == ((0, 0), (1, 0), (2, 0))


@pytest.mark.parametrize("record", [choice(3), choice("1"), choice(0, options=2)])
def test_choices_that_do_not_fit(record: Record) -> None:
    with pytest.raises(DataError, match=r"^(label|options): expected"):
        MultipleChoice(options=3).build().draw(record, TRAINING)


def test_the_choice_is_the_option_that_matches_best(model: X2VLM) -> None:
    config = MultipleChoice(options=3)
    task = config.build()
    rows = [task.draw({**choice(1), "image": picture(n)}, TRAINING) for n in range(2)]
    fused, targets = prepared(task, model, rows)
    odds = torch.stack([model.itm_logits(option.states).log_softmax(1) for option in fused], 1)
    scores = odds[..., 1] - odds[..., 0]
    assert_close(task.loss(model, fused, targets)["choice"], -scores.log_softmax(1)[:, 1].mean())
    assert task.predict(model, fused, targets) == scores.argmax(1).tolist()
    found = predict_records(config, model, [{**choice(None), "image": row.images[0]} for row in rows])
    assert found == scores.argmax(1).tolist()
