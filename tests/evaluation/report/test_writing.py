"""Report of a run directory."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.data.stubs import stream
from tests.evaluation.report.reading import Page
from tests.evaluation.stubs import (
    HEADS,
    Attend,
    Patches,
    SavedWords,
    StubFusion,
    StubPhotos,
    StubText,
    StubVision,
    Words,
    tiny_model,
)
from x2kit.data.config import DataConfig
from x2kit.errors import WeightsError, X2KitError
from x2kit.evaluation import evaluate
from x2kit.evaluation.config import EvaluationConfig
from x2kit.evaluation.report import write_report
from x2kit.model import X2VLM, save_weights
from x2kit.model.config import ModelConfig
from x2kit.plugin import Registry
from x2kit.plugin.loading.manager import Plugins
from x2kit.tasks import Grounding, Retrieval, WeakGrounding

PLUGINS = Plugins(Registry(), ())
RECIPE: Any = SimpleNamespace(
    description="What it is <for>.",
    model=ModelConfig(vision=StubVision(), text=StubText(), fusion=StubFusion(), heads=HEADS),
    training=SimpleNamespace(steps=3),
    data=DataConfig(streams={"photos": stream("ImageText", source=StubPhotos(), languages=["en"])}),
    evaluation=EvaluationConfig(
        source=StubPhotos(), tasks={"retrieval": Retrieval(top_k=2), "grounding": Grounding()}
    ),
    to_yaml=lambda: "description: What it is <for>.\n",
)


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = tmp_path / "my-run"
    save_weights(tiny_model(), "evaluation: {split: test}\n", directory / "weights")
    lines = [
        {"step": step, "time": 60.0 * step, "loss": 1.0 / step, "photos.itc": 0.5, "seconds": 60.0}
        for step in (1, 2, 3)
    ]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


def read(file: Path) -> Page:
    return Page(file.read_text(encoding="utf-8"))


def test_the_report_of_a_measured_run_has_numbers_curves_and_examples(run: Path) -> None:
    result = evaluate(run, RECIPE, PLUGINS)
    file = write_report(run, RECIPE, PLUGINS)
    assert file == run / "report.html"
    page = read(file)
    assert page.open == []
    assert page.sources == []
    assert page.title == "my-run"
    assert {"results", "curves", "queries", "texts", "grounding", "run"} <= page.ids
    assert "What it is <for>." in page.text
    assert "3 steps" in page.text
    assert f"{100 * result['mean_zero_shot']:.1f} %" in page.text
    assert result["checkpoint"]["sha256"] in page.text
    assert "other weights" not in page.text
    assert result["warnings"][0] in page.text
    assert "zero-shot: no image-text training data" in page.text


def test_the_report_of_a_run_without_evaluation_names_the_command(run: Path) -> None:
    page = read(write_report(run, RECIPE, PLUGINS))
    assert f"x2kit evaluate {run}" in page.text
    assert {"curves", "queries", "texts", "grounding"} <= page.ids


def test_the_report_says_what_selected_the_weights(run: Path) -> None:
    selection = {"metric": "retrieval.mean_recall", "split": "val", "value": 0.5, "step": 2, "validations": 3}
    (run / "weights/selection.json").write_text(json.dumps(selection))
    evaluate(run, RECIPE, PLUGINS)
    page = write_report(run, RECIPE, PLUGINS).read_text(encoding="utf-8")
    assert "The weights are those of step 2, selected by retrieval.mean_recall on the split val." in page


def test_training_time_excludes_pauses(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    lines[2]["time"] += 5 * 3600  # resumed five hours later
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert "trained in 3 minutes" in read(write_report(run, RECIPE, PLUGINS)).text


def test_numbers_of_other_weights_have_a_warning(run: Path) -> None:
    evaluate(run, RECIPE, PLUGINS)
    result = json.loads((run / "evaluation.json").read_text())
    result["checkpoint"]["sha256"] = "0" * 64
    (run / "evaluation.json").write_text(json.dumps(result))
    assert "These numbers are of other weights" in read(write_report(run, RECIPE, PLUGINS)).text


@pytest.mark.parametrize(
    ("built", "shown", "missing"),
    [("bbox", {"grounding"}, {"queries", "texts"}), ("itc", set(), {"grounding"})],
)
def test_a_model_with_few_heads_shows_their_sections(
    tmp_path: Path, built: Any, shown: set[str], missing: set[str]
) -> None:
    heads = HEADS.model_copy(update={"built": (built,)})
    model = X2VLM(Patches(), Words(SavedWords()), Attend(), heads)
    save_weights(model, "evaluation: {split: test}\n", tmp_path / "weights")
    few = SimpleNamespace(**{**vars(RECIPE), "model": RECIPE.model.model_copy(update={"heads": heads})})
    page = read(write_report(tmp_path, few, PLUGINS))  # type: ignore[arg-type]
    assert page.ids >= shown
    assert not page.ids & missing


def test_boxes_by_attention_are_shown_for_a_model_without_box_head(tmp_path: Path) -> None:
    heads = HEADS.model_copy(update={"built": ("itm",)})
    save_weights(
        X2VLM(Patches(), Words(SavedWords()), Attend(), heads), "evaluation: {}\n", tmp_path / "weights"
    )
    weak = EvaluationConfig(source=StubPhotos(), tasks={"weak": WeakGrounding()})
    model = RECIPE.model.model_copy(update={"heads": heads})
    recipe = SimpleNamespace(**{**vars(RECIPE), "model": model, "evaluation": weak})
    page = read(write_report(tmp_path, recipe, PLUGINS))  # type: ignore[arg-type]
    assert "grounding" in page.ids


def test_a_weights_directory_alone_gives_a_report_without_curves(run: Path) -> None:
    page = read(write_report(run / "weights", RECIPE, PLUGINS))
    assert "metrics.jsonl is empty" in page.text
    assert "queries" in page.ids


def test_reports_are_deterministic_and_leave_no_other_file(run: Path) -> None:
    before = set(run.iterdir())
    first = write_report(run, RECIPE, PLUGINS).read_text()
    assert write_report(run, RECIPE, PLUGINS).read_text() == first
    assert set(run.iterdir()) == before | {run / "report.html"}


def test_a_damaged_result_is_refused_with_its_path(run: Path) -> None:
    (run / "evaluation.json").write_text("{")
    with pytest.raises(X2KitError, match=r"evaluation\.json: no readable result"):
        write_report(run, RECIPE, PLUGINS)


def test_a_run_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights; expected"):
        write_report(tmp_path, RECIPE, PLUGINS)
