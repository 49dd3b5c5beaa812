"""Answers and descriptions by the task of the recipe, with probabilities and log-likelihoods."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from x2kit_fusion import CrossBert

from tests.evaluation.stubs import Attend, Patches, SavedWords, Words
from tests.model.generation.test_left_to_right import BertOfWords
from tests.model.tiny import TinyVision
from tests.tasks.vqa.test_task import Reading
from x2kit.errors import DataError, HeadError, WeightsError, X2KitError
from x2kit.inference import Model
from x2kit.inference.answering import ANSWERING, DESCRIBING
from x2kit.inference.saved_tasks import SavedTasks
from x2kit.model import X2VLM, build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.plugin.loading.manager import load_plugins
from x2kit.recipe.catalogue import find

from .conftest import picture

ANSWERS = ["yes", "no", "red car"]
QUESTION = "Is it a dog?"


def saved(
    heads: dict[str, Any], measured: Any = None, trained: Any = None, unknown: bool = False
) -> SavedTasks:
    """Tasks of a recipe with these tasks in `evaluation` and in a stream."""
    tree: dict[str, Any] = {"model": {"heads": heads}}
    if not unknown:
        tree["data"] = {"streams": {"pairs": {"kind": "image-text"}, "questions": {"task": trained}}}
    tree["evaluation"] = {"tasks": {"retrieval": "Retrieval"} | ({"questions": measured} if measured else {})}
    return SavedTasks(tree, load_plugins([]).registry, "run/weights/recipe.yaml")


def task(name: str, **settings: Any) -> dict[str, Any]:
    return {"class_path": name, "init_args": settings}


DECODER = {"built": ["itm"], "decoder_layers": 1}
CLASSES = {"built": ["itm"], "answers": 3}


@pytest.fixture(scope="module")
def module() -> X2VLM:
    """Matching head, decoder and answer head."""
    torch.manual_seed(0)
    made = X2VLM(Patches(), Words(SavedWords()), Attend(), HeadsConfig(built=("itm",), answers=3), Reading())
    for head in (made.itm_head, made.answer_head):
        nn.init.normal_(head[-1].weight)
    return made.eval()


def answering(module: X2VLM, tasks: SavedTasks | None) -> Model:
    return Model(module, "tiny", tasks=tasks)


def test_a_decoder_ranks_the_list_of_the_recipe(module: X2VLM) -> None:
    user = answering(module, saved(DECODER, task("VQA", answer_list=ANSWERS)))
    found = user.answer(picture(0), QUESTION)
    assert (found.image, found.question) == ("images[0]", QUESTION)
    assert sorted(each.text for each in found.candidates) == sorted(ANSWERS)
    shares = [each.probability for each in found.candidates]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(1)
    assert all(each.log_likelihood is not None and each.log_likelihood < 0 for each in found.candidates)
    assert user.answer(picture(0), QUESTION, count=1).candidates == found.candidates[:1]


def test_given_answers_replace_the_list(module: X2VLM) -> None:
    user = answering(module, saved(DECODER, task("VQA", answer_list=ANSWERS)))
    found = user.answer(picture(0), QUESTION, ["blue", "green", "blue"])
    assert sorted(each.text for each in found.candidates) == ["blue", "green"]


def test_without_a_list_answers_are_generated_likeliest_first(module: X2VLM) -> None:
    user = answering(module, saved(DECODER, trained=task("VQA", num_beams=1, max_answer_tokens=4)))
    found = user.answer(picture(0), QUESTION, count=4).candidates
    assert len(found) == 4
    for each in found:
        assert each.log_likelihood is not None
        assert each.probability == pytest.approx(math.exp(each.log_likelihood))
    assert [each.probability for each in found] == sorted((each.probability for each in found), reverse=True)


def test_the_list_is_tokenized_once(module: X2VLM, monkeypatch: pytest.MonkeyPatch) -> None:
    user = answering(module, saved(DECODER, task("VQA", answer_list=ANSWERS)))
    first = user.answer(picture(0), QUESTION)
    encode, seen = module.tokenizer.encode, []
    monkeypatch.setattr(
        module.tokenizer, "encode", lambda texts, longest: seen.extend(texts) or encode(texts, longest)
    )
    assert user.answer(picture(0), QUESTION) == first
    assert seen == ["is it a dog"]


def test_an_answer_head_chooses_among_its_classes(module: X2VLM) -> None:
    user = answering(module, saved(CLASSES, task("AnswerClassification", answer_list=ANSWERS)))
    every = user.answer(picture(0), QUESTION).candidates
    assert sorted(each.text for each in every) == sorted(ANSWERS)
    assert sum(math.exp(each.log_likelihood or 0) for each in every) == pytest.approx(1)
    some = user.answer(picture(0), QUESTION, ["no", "yes"]).candidates
    assert sum(each.probability for each in some) == pytest.approx(1)
    known = {each.text: each.log_likelihood for each in every}
    assert [each.log_likelihood for each in some] == pytest.approx([known[each.text] for each in some])
    with pytest.raises(DataError, match="'red cat' is none of the 3 answers of this model; nearest: red car"):
        user.answer(picture(0), QUESTION, ["yes", "red cat"])


def test_the_measured_task_comes_before_the_trained_one(module: X2VLM) -> None:
    tasks = saved(DECODER, task("VQA", answer_list=["a"]), task("VQA", answer_list=["b"]))
    assert [each.text for each in answering(module, tasks).answer(picture(0), QUESTION).candidates] == ["a"]


def test_weights_of_unknown_training_answer_by_an_installed_task(module: X2VLM) -> None:
    user = answering(module, saved(DECODER, unknown=True))
    assert len(user.answer(picture(0), QUESTION, ANSWERS).candidates) == 3


@pytest.mark.parametrize("tasks", [None, saved(DECODER), saved({"built": ["itm"]}, trained=task("VQA"))])
def test_a_model_that_answers_nothing_names_recipes_and_the_other_way(
    module: X2VLM, tasks: SavedTasks | None
) -> None:
    with pytest.raises(HeadError, match=f"answers no questions: .*{ANSWERING}.*matching=True"):
        answering(module, tasks).answer(picture(0), QUESTION)


def test_named_recipes_are_shipped() -> None:
    for name in (*ANSWERING.split(", "), *DESCRIBING.split(", ")):
        assert find(name).path.is_file()


def test_matching_ranks_question_and_answer_only_if_asked(module: X2VLM) -> None:
    user = answering(module, None)
    found = user.answer(picture(0), QUESTION, ANSWERS, count=2, matching=True).candidates
    texts = [f"{QUESTION} {each}" for each in ANSWERS]
    odds = [math.log(each.probability / (1 - each.probability)) for each in user.match(picture(0), texts)]
    expected = sorted(zip(torch.tensor(odds).softmax(0).tolist(), ANSWERS, strict=True), reverse=True)
    assert [each.text for each in found] == [text for _, text in expected[:2]]
    assert [each.probability for each in found] == pytest.approx(
        [share for share, _ in expected[:2]], abs=1e-3
    )
    assert all(each.log_likelihood is None for each in found)
    with pytest.raises(X2KitError, match=r"pass answers=\[\.\.\.\]"):
        user.answer(picture(0), QUESTION, matching=True)


def test_an_invalid_task_of_the_recipe_is_named(module: X2VLM) -> None:
    user = answering(module, saved(DECODER, task("VQA", beams=3)))
    with pytest.raises(WeightsError, match=r"run/weights/recipe.yaml: evaluation.tasks.questions.*beams"):
        user.answer(picture(0), QUESTION)


def test_a_broken_image_is_named(module: X2VLM, tmp_path: Path) -> None:
    user = answering(module, saved(DECODER, task("VQA", answer_list=ANSWERS)))
    with pytest.raises(DataError, match=r"absent\.png"):
        user.answer(tmp_path / "absent.png", QUESTION)
    with pytest.raises(X2KitError, match="count: expected 1 or more, found 0"):
        user.answer(picture(0), QUESTION, count=0)


@pytest.fixture(scope="module")
def writer() -> X2VLM:
    torch.manual_seed(0)
    config = ModelConfig(
        vision=TinyVision(width=16),
        text=BertOfWords(layers=1, width=16, heads=2, max_length=40),
        fusion=CrossBert(layers=1, heads=2, dropout=0.0, init_std=0.2),
        heads=HeadsConfig(built=("mlm",), frames=2),
    )
    return build_model(config).eval()


CAPTIONS = task("Captioning", prompt="a", min_length=0, max_length=4, num_beams=2)


def test_descriptions_are_those_of_the_task_likeliest_first(writer: X2VLM) -> None:
    user = Model(writer, "tiny", tasks=saved({"built": ["mlm"]}, trained=CAPTIONS))
    found = user.describe(picture(0), count=3)
    assert (found.image, found.prompt, len(found.candidates)) == ("images[0]", None, 3)
    likely = [each.log_likelihood or 0 for each in found.candidates]
    assert likely == sorted(likely, reverse=True)
    assert [each.probability for each in found.candidates] == pytest.approx(
        [math.exp(each) for each in likely]
    )


def test_a_prompt_begins_the_description(writer: X2VLM) -> None:
    user = Model(writer, "tiny", tasks=saved({"built": ["mlm"]}, trained=CAPTIONS))
    default, other = user.describe(picture(0)), user.describe(picture(0), "a red dog")
    assert user.describe(picture(0), "a").candidates == default.candidates
    assert other.prompt == "a red dog"
    assert other.candidates != default.candidates


def test_a_video_is_described(writer: X2VLM) -> None:
    user = Model(writer, "tiny", tasks=saved({"built": ["mlm"], "frames": 2}, trained=CAPTIONS))
    assert user.describe([picture(0), picture(1)]).candidates


def test_a_masked_language_head_alone_writes_no_captions(writer: X2VLM) -> None:
    with pytest.raises(HeadError, match=f"writes no captions: .*{DESCRIBING}"):
        Model(writer, "tiny", tasks=saved({"built": ["mlm"]})).describe(picture(0))
