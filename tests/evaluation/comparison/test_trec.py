"""Run and qrels files: pytrec_eval finds the recall and the reciprocal ranks that x2kit reports."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from x2kit.errors import X2KitError
from x2kit.evaluation.comparison.measurements import open_measurement
from x2kit.evaluation.comparison.trec import descending, plain, write_trec
from x2kit.evaluation.items import items_file, read_items
from x2kit.evaluation.rankings import rankings_file, read_rankings, write_rankings
from x2kit.plugin import ItemValues, Ranking
from x2kit.tasks.retrieval.ranking import ranked

pytrec_eval = pytest.importorskip("pytrec_eval")
MEASURES = {"recip_rank", "success.1,5,10", "recall.1,5,10"}
NAMES = {"r1": "success_1", "r5": "success_5", "r10": "success_10", "reciprocal_rank": "recip_rank"}


def scored(stem: Path) -> dict[str, dict[str, float]]:
    """What trec_eval says of each query of a run and its qrels."""
    with stem.with_suffix(".qrels").open() as qrels, stem.with_suffix(".run").open() as run:
        evaluator = pytrec_eval.RelevanceEvaluator(pytrec_eval.parse_qrel(qrels), MEASURES)
        found: dict[str, dict[str, float]] = evaluator.evaluate(pytrec_eval.parse_run(run))
    return found


def stem_of(folder: Path, part: str, language: str, label: str) -> Path:
    return folder / f"retrieval.{part}.{language}.{label}.x"


def test_trec_eval_agrees_on_every_query(runs: tuple[Path, Path], tmp_path: Path) -> None:
    measurement = open_measurement(runs[0])
    written = write_trec(measurement, tmp_path)
    assert len(written) == 2 * 2 * 2  # languages, directions, run and qrels
    parts = [
        part for part in read_items(items_file(measurement.file, "retrieval")) if "reranked" in part.part
    ]
    assert len(parts) == 4
    for part in parts:
        found = scored(stem_of(tmp_path, part.part, part.language, "one"))
        for name, theirs in NAMES.items():
            expected = dict(zip(part.ids, part.values[name], strict=True))
            assert {query: one[theirs] for query, one in found.items()} == pytest.approx(expected, abs=1e-6)


def test_recall_of_texts_with_one_image_equals_ours(runs: tuple[Path, Path], tmp_path: Path) -> None:
    measurement = open_measurement(runs[1])
    write_trec(measurement, tmp_path)
    found = scored(stem_of(tmp_path, "reranked.text_to_image", "de", "two"))
    stated = measurement.numbers("retrieval")["languages"]["de"]["reranked"]["text_to_image"]
    for k in (1, 5, 10):
        assert np.mean([one[f"recall_{k}"] for one in found.values()]) == pytest.approx(stated[f"r{k}"])


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("kept", [40, 8])
def test_ties_count_as_misses_there_too(levels: int, kept: int, tmp_path: Path) -> None:
    """Scores of a few levels, several positives: the ranks within the saved documents are those of `ranks`."""
    rng = torch.Generator().manual_seed(levels)
    scores = torch.randint(levels, (30, 40), generator=rng) / levels
    answers = [sorted({number % 40, number * 7 % 40}) for number in range(30)]
    places, best = ranked(scores, answers, kept)
    assert best is not None
    queries, documents = [f"q {number}" for number in range(30)], [f"d{number}" for number in range(40)]
    ranking = Ranking(documents, best.columns, best.scores, answers)
    values = ItemValues("en", "", queries, {"r1": [0.0] * 30}, "way", ranking=ranking)
    write_rankings(tmp_path / "evaluation-retrieval-rankings.safetensors", [values])
    write_trec(measurement_of(tmp_path), tmp_path)
    found = scored(stem_of(tmp_path, "way", "en", "stub"))
    theirs = [found[f"q_{number}"]["recip_rank"] for number in range(30)]
    expected = [1 / (place + 1) if place < kept else 0.0 for place in places.tolist()]
    if kept == 40:
        assert theirs == pytest.approx(expected)
    else:  # among documents tied at the cut it is not known which are kept
        assert [
            one for one, place in zip(theirs, places.tolist(), strict=True) if place == 0
        ] == pytest.approx([1.0] * int((places == 0).sum()))


def measurement_of(folder: Path) -> Any:
    from x2kit.evaluation.comparison.measurements import Measurement

    tasks = {"retrieval": {"rankings": {}}}
    return Measurement("stub", folder / "evaluation.json", {"tasks": tasks, "checkpoint": {}})


def test_best_columns_are_those_of_a_plain_sort() -> None:
    scores = torch.tensor([[0.5, 0.9, 0.5, 0.1], [0.2, 0.2, 0.2, 0.2]])
    best = ranked(scores, [[0], [1]], 3).best
    assert best is not None
    assert best.columns[0].tolist() == [1, 2, 0]  # the positive behind the negative that it ties with
    assert best.scores[0].tolist() == pytest.approx([0.9, 0.5, 0.5])
    all_equal = ranked(scores, [[0], [1]], 4).best
    assert all_equal is not None
    assert all_equal.columns[1].tolist()[-1] == 1


def test_equal_scores_become_descending_ones() -> None:
    found = descending(np.array([[1, 1, 1, 0.5]], dtype=np.float32))
    assert (np.diff(found) < 0).all()
    assert found[0] == pytest.approx([1, 1, 1, 0.5], abs=1e-6)
    assert found[0, [0, 3]].tolist() == [1, 0.5]


def test_names_hold_neither_separators_nor_folders() -> None:
    assert plain("../runs/my run") == "_runs_my_run"


def test_damaged_rankings_are_named(runs: tuple[Path, Path], tmp_path: Path) -> None:
    file = tmp_path / "rankings.safetensors"
    content = rankings_file(open_measurement(runs[0]).file, "retrieval").read_bytes()
    for damage in (b"", content[:100], content[:-8]):
        file.write_bytes(damage)
        with pytest.raises(
            X2KitError, match=r"rankings\.safetensors: no readable rankings.*x2kit evaluate RUN"
        ):
            read_rankings(file)


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    ranking = Ranking(["a"], [[3]], [[0.5]], [[0]])
    write_rankings(tmp_path / "r", [ItemValues("en", "", ["q"], {"r1": [1.0]}, "way", ranking=ranking)])
    with pytest.raises(X2KitError, match="do not fit each other"):
        read_rankings(tmp_path / "r")
