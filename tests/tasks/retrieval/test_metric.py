"""Retrieval metric and re-ranking; recorded scores are in tests/parity."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor

from tests.evaluation.stubs import Listed, photo
from tests.model import plain as plain_model
from x2kit.errors import DataError
from x2kit.model import X2VLM
from x2kit.plugin import Context, Ranks, TaskContext, VisionFeatures
from x2kit.tasks.records import captions, read_entries
from x2kit.tasks.retrieval import metric as module
from x2kit.tasks.retrieval.config import Rerank, Retrieval
from x2kit.tasks.retrieval.metric import matching_accuracy, measure_retrieval, queries_of, reranked
from x2kit.tasks.retrieval.ranking import ranks
from x2kit.tasks.scoring import ImageBank, TextBank

Make = Callable[..., TaskContext]
WAYS = ("image_to_text", "text_to_image")


class Looked(SimpleNamespace):
    """Stands for a model whose matching logit of image i and text j is written in a table; counts the pairs."""

    def prepare_images(self, features: VisionFeatures) -> Context:
        return Context(features.patches, torch.empty(0))

    def fuse(self, text: Tensor, mask: Tensor, context: Context, summary_rows: int) -> Tensor:
        return torch.stack([context.tokens[context.rows][:, 0, 0], text[:, 0, 0]], 1)[:, None]

    def itm_logits(self, fused: Tensor) -> Tensor:
        i, j = fused[:, 0].long().T
        self.asked += list(zip(i.tolist(), j.tolist(), strict=True))
        return torch.stack([torch.zeros(len(i)), self.table[i, j]], 1)


def looked_up(table: Tensor, temperature: float = 0.1) -> tuple[Any, ImageBank, TextBank]:
    """The model, and banks in which images and texts are their own numbers."""
    count_i, count_j = table.shape
    model = Looked(table=table, asked=[], device=torch.device("cpu"), temperature=torch.tensor(temperature))
    numbers_i, numbers_j = torch.arange(count_i).float(), torch.arange(count_j)
    images = ImageBank(numbers_i[:, None], numbers_i[:, None, None], numbers_i[:, None], (1, 1))
    texts = TextBank(
        numbers_j.float()[:, None], numbers_j, torch.ones(count_j, dtype=torch.int64), torch.empty(0)
    )
    return model, images, texts


def test_matching_scores_candidates_by_logit_and_the_rest_by_a_constant() -> None:
    table = torch.tensor([[-3.0, 1.0, 2.0], [4.0, 5.0, 6.0]])
    similarity = torch.tensor([[0.9, 0.2, 0.1], [0.1, 0.5, 0.8]])
    model, images, texts = looked_up(table)
    config = Retrieval(top_k=1, rerank="matching")
    scores = reranked(config, model, images, texts, torch.arange(2), similarity)
    assert scores.image_to_text[:].tolist() == [[-3.0, -100.0, -100.0], [-100.0, -100.0, 6.0]]
    assert scores.text_to_image[:].tolist() == [[-3.0, -100.0], [-100.0, 5.0], [-100.0, 6.0]]


def plain_order(
    similarity: list[float], matching: list[float], config: Retrieval, temperature: float
) -> list[int]:
    """The rule, word by word: candidates by their combined score, then the rest by similarity."""
    by_similarity = sorted(range(len(similarity)), key=lambda column: -similarity[column])
    candidates, rest = by_similarity[: config.top_k], by_similarity[config.top_k :]

    def combined(column: int) -> float:
        log_p = -math.log1p(math.exp(-matching[column]))
        return similarity[column] / temperature + config.itm_weight * log_p

    return sorted(candidates, key=lambda column: -combined(column)) + rest


@pytest.mark.parametrize("top_k", [1, 3, 50])
@pytest.mark.parametrize("weight", [0.0, 0.5, 4.0])
def test_combined_ranks_equal_the_plain_form(top_k: int, weight: float) -> None:
    torch.manual_seed(top_k)
    similarity, table = torch.rand(7, 12) * 2 - 1, torch.randn(7, 12) * 4
    model, images, texts = looked_up(table, temperature=0.2)
    config = Retrieval(top_k=top_k, itm_weight=weight)
    scores = reranked(config, model, images, texts, torch.arange(7), similarity)
    for matrix, plain, logits in zip(scores, (similarity, similarity.T), (table, table.T), strict=True):
        for row in range(len(plain)):
            order = plain_order(plain[row].tolist(), logits[row].tolist(), config, 0.2)
            found = ranks(matrix[row : row + 1].expand(len(order), -1), [[column] for column in order])
            assert found.tolist() == list(range(len(order)))


def test_a_pair_is_scored_once_for_both_directions() -> None:
    torch.manual_seed(1)
    similarity = torch.rand(9, 9)
    model, images, texts = looked_up(torch.zeros(9, 9))
    reranked(Retrieval(top_k=4), model, images, texts, torch.arange(9), similarity)
    rows, columns = similarity.topk(4, 1).indices, similarity.topk(4, 0).indices
    wanted = {(i, j) for i in range(9) for j in rows[i].tolist()}
    wanted |= {(i, j) for j in range(9) for i in columns[:, j].tolist()}
    assert len(model.asked) == len(wanted) < 2 * 4 * 9
    assert set(model.asked) == wanted


def test_counts_means_and_chance_of_several_captions(context: Make) -> None:
    result = measure_retrieval(Retrieval(top_k=3), context())
    english = result["languages"]["en"]
    assert (english["queries"], english["candidates"]) == (18, 9)
    assert english["image_to_text"].items() >= {"queries": 9, "candidates": 18}.items()
    assert english["text_to_image"].items() >= {"queries": 18, "candidates": 9}.items()
    # An image has 2 of 18 texts on average, a text 1 of 9 images.
    assert english["chance_r1"] == pytest.approx(1 / 9)
    assert english["mean_r1"] == (english["image_to_text"]["r1"] + english["text_to_image"]["r1"]) / 2
    assert english["trained_with_images"] is True
    german = result["languages"]["de"]
    assert german["trained_with_images"] is False
    assert result["mean_trained"] == english["mean_r1"]
    assert result["mean_zero_shot"] == german["mean_r1"]
    assert result["mean_all"] == (english["mean_r1"] + german["mean_r1"]) / 2
    assert result["mean_reranked_zero_shot"] == german["reranked"]["mean_r1"]
    assert result["rerank"] == {"method": "combined", "top_k": 3, "itm_weight": 0.5}


@pytest.mark.parametrize("method", ["matching", "none"])
def test_the_mean_recall_is_that_of_the_final_ranking(context: Make, method: Rerank) -> None:
    result = measure_retrieval(Retrieval(top_k=3, rerank=method), context())
    final = [row.get("reranked", row) for row in result["languages"].values()]
    six = [[row[way][k] for way in WAYS for k in ("r1", "r5", "r10")] for row in final]
    assert [row["mean_recall"] for row in final] == [pytest.approx(sum(one) / 6) for one in six]
    assert result["mean_recall"] == pytest.approx(sum(map(sum, six)) / 12)
    for way in WAYS:
        assert result[f"mean_recall_{way}"] == pytest.approx(
            sum(row[way]["mean_recall"] for row in final) / 2
        )


def test_every_main_number_is_in_the_result(context: Make) -> None:
    result = measure_retrieval(Retrieval(), context())
    assert set(Retrieval.metrics) == {name for name in result if name.startswith("mean_")}


@pytest.mark.parametrize(("setting", "expected"), [(None, None), (5, 5), ({"en": 5, "fr": 1}, 5)])
def test_the_captions_of_an_image_are_counted(context: Make, setting: Any, expected: int | None) -> None:
    result = measure_retrieval(Retrieval(captions=setting, rerank="none"), context())
    counts = {"fewest": 1, "mean": 2, "most": 3, "expected": expected}
    assert result["languages"]["en"]["captions_per_image"] == counts


def test_recalls_equal_those_of_the_plain_similarity(context: Make, model: X2VLM) -> None:
    given = context(languages=("de",))
    source = cast(Listed, given.source)
    words = [(index, text["de"]) for index, record in enumerate(source.records) for text in record["caption"]]  # type: ignore[index]
    similarity = plain_model.similarity(
        model, [record["image"] for record in source.records], [text for _, text in words]
    )
    best_image = similarity.argmax(0).tolist()
    expected = sum(found == index for found, (index, _) in zip(best_image, words, strict=True)) / len(words)
    result = measure_retrieval(Retrieval(rerank="none"), given)["languages"]["de"]
    assert result["text_to_image"]["r1"] == pytest.approx(expected)
    best_text = [words[column][0] for column in similarity.argmax(1).tolist()]
    expected = sum(found == index for index, found in enumerate(best_text)) / len(best_text)
    assert result["image_to_text"]["r1"] == pytest.approx(expected)


def test_none_never_calls_the_matching_head(context: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "fuse_pairs", lambda *_, **__: pytest.fail("asked"))
    result = measure_retrieval(Retrieval(rerank="none"), context())
    assert "reranked" not in result["languages"]["en"]
    assert not any("reranked" in key for key in result)


@pytest.mark.parametrize("method", ["combined", "matching"])
def test_an_image_without_a_text_is_no_candidate_in_that_language(context: Make, method: Rerank) -> None:
    records = [photo(index) for index in range(6)]
    records[2]["caption"] = {"en": "only english"}
    result = measure_retrieval(Retrieval(rerank=method), context(source=Listed(records)))["languages"]
    assert (result["en"]["candidates"], result["de"]["candidates"]) == (6, 5)
    without = measure_retrieval(
        Retrieval(rerank=method), context(source=Listed([r for r in records if r["id"] != "photo-2"]))
    )["languages"]
    assert result["de"] == without["de"]


def test_a_language_without_captions_is_refused(context: Make) -> None:
    with pytest.raises(DataError, match=r"no record has a caption in sw.*--evaluation\.languages"):
        measure_retrieval(Retrieval(), context(languages=("en", "sw")))


def test_equal_captions_of_two_images_count_as_misses(context: Make) -> None:
    same = {"en": "the same words"}
    source = Listed([photo(index, caption=same) for index in range(4)])
    result = measure_retrieval(Retrieval(rerank="none"), context(source=source, languages=("en",)))
    assert result["languages"]["en"]["image_to_text"]["r1"] == 0


def test_the_mean_over_no_language_is_none(context: Make) -> None:
    result = measure_retrieval(Retrieval(), context(trained_with_images=("en", "de")))
    assert result["mean_zero_shot"] is None
    assert result["mean_trained"] == result["mean_all"]


def test_progress_names_stage_and_language(context: Make) -> None:
    told: list[tuple[str, int, int]] = []
    measure_retrieval(Retrieval(), context(progress=lambda *parts: told.append(parts)))
    assert ("images", 9, 9) in told
    assert [what for what, done, total in told if done == total] == [
        "images",
        "matching, en",
        "matching, de",
    ]


def test_captions_and_scores_agree_on_the_order_of_texts(context: Make) -> None:
    entries = [SimpleNamespace(id=str(i), caption=photo(i, captions=2)["caption"]) for i in range(3)]
    assert captions(cast(Any, entries), "en", False, 40).images == [0, 0, 1, 1, 2, 2]


def test_matching_accuracy_is_over_the_scored_pairs() -> None:
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 2.0]])
    pairs = torch.tensor([[0, 0], [0, 1], [1, 1], [1, 2], [2, 0]])
    owners = torch.tensor([0, 0, 1])  # pairs 0, 1, 3 are true
    assert matching_accuracy(logits, pairs, owners) == {
        "positive_accuracy": pytest.approx(1 / 3),
        "negative_accuracy": 0.0,
    }
    assert matching_accuracy(logits[:1], pairs[:1], owners)["negative_accuracy"] is None


def test_a_result_has_the_accuracy_of_the_matching_head_unless_nothing_is_re_ranked(context: Make) -> None:
    accuracies = measure_retrieval(Retrieval(top_k=3), context())["languages"]["en"]["matching"]
    assert all(0 <= share <= 1 for share in accuracies.values())
    plain = measure_retrieval(Retrieval(top_k=3, rerank="none"), context())["languages"]["en"]
    assert "matching" not in plain


def test_images_of_equal_captions_are_positives_under_text(context: Make) -> None:
    same = {"en": "the same words"}
    given = context(source=Listed([photo(index, caption=same) for index in range(4)]), languages=("en",))
    row, text = (
        measure_retrieval(Retrieval(rerank="none", positives=positives), given)
        for positives in ("row", "text")
    )
    assert row["languages"]["en"].items() >= {"shared_captions": 4, "highest_r1": (0 + 1 / 4) / 2}.items()
    assert row["languages"]["en"]["image_to_text"]["highest_r1"] == 0
    assert row["languages"]["en"]["text_to_image"]["highest_r1"] == 1 / 4
    assert text["languages"]["en"].items() >= {"shared_captions": 4, "highest_r1": 1, "mean_r1": 1}.items()
    assert (row["positives"], text["positives"]) == ("row", "text")


def test_texts_of_equal_images_are_positives_under_image(context: Make) -> None:
    one = photo(0)["image"]
    records = [photo(index, image=one if index < 2 else photo(index)["image"]) for index in range(4)]
    given = context(source=Listed(records), languages=("en",))
    row, image = (
        measure_retrieval(Retrieval(rerank="none", positives=positives), given)["languages"]["en"]
        for positives in ("row", "image")
    )
    assert row["text_to_image"]["highest_r1"] == 1 / 2  # the texts of the two can never be hits
    assert image["highest_r1"] == 1


def test_the_common_subset_is_measured_in_every_language(context: Make) -> None:
    records = [photo(index) for index in range(6)]
    records[2]["caption"] = {"en": "only english"}
    records[4]["caption"] = {"de": "nur deutsch"}
    config = Retrieval(rerank="none", common_subset=True)
    found = measure_retrieval(config, context(source=Listed(records)))["languages"]
    assert [found[code]["candidates"] for code in ("en", "de")] == [4, 4]
    complete = [record for record in records if record["id"] not in ("photo-2", "photo-4")]
    assert found == measure_retrieval(config, context(source=Listed(complete)))["languages"]


def test_an_empty_common_subset_is_refused(context: Make) -> None:
    records = [photo(0, caption={"en": "one"}), photo(1, caption={"de": "zwei"})]
    with pytest.raises(DataError, match="common_subset: no record has a caption in all of en, de"):
        measure_retrieval(Retrieval(common_subset=True), context(source=Listed(records)))


def test_languages_without_captions_are_listed_with_those_that_have_some() -> None:
    entries = read_entries(Listed([photo(0)]), Ranks())
    with pytest.raises(DataError, match=r"in sw, fi; .*--evaluation\.languages '\[en, de\]'"):
        queries_of(Retrieval(), ("en", "sw", "de", "fi"), entries)
