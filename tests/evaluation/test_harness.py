"""Evaluation of a weights directory, up to evaluation.json."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from tests.data.stubs import StubScenes, stream
from tests.evaluation.stubs import HEADS, StubFusion, StubPhotos, StubText, StubVision, tiny_model
from x2kit.data.config import DataConfig
from x2kit.errors import DataError, SettingError, WeightsError, X2KitError
from x2kit.evaluation import evaluate
from x2kit.evaluation.config import EvaluationConfig
from x2kit.evaluation.harness import read_result, write_result
from x2kit.evaluation.measuring import trained_with_images
from x2kit.model import save_weights
from x2kit.model.config import ModelConfig
from x2kit.plugin import Registry, TaskConfig, TaskContext
from x2kit.plugin.loading.manager import Plugins
from x2kit.tasks import Grounding, Retrieval

PLUGINS = Plugins(Registry(), ())


class Answer(TaskConfig):
    """A task of a stranger's."""

    value: float = 0.5

    def run(self, context: TaskContext) -> Mapping[str, Any]:
        return {"answer": self.value, "languages_seen": list(context.languages)}


def recipe(**evaluation: Any) -> Any:
    data = {
        "photos": stream("ImageText", source=StubPhotos(), languages=["en"]),
        "pairs": stream("ParallelText"),
    }
    settings = {"source": StubPhotos(), "tasks": {"retrieval": Retrieval(top_k=2), "grounding": Grounding()}}
    return SimpleNamespace(
        model=ModelConfig(vision=StubVision(), text=StubText(), fusion=StubFusion(), heads=HEADS),
        data=DataConfig(streams=data),
        evaluation=EvaluationConfig(**{**settings, **evaluation}),
    )


@pytest.fixture
def run(tmp_path: Path) -> Path:
    directory = tmp_path / "run"
    save_weights(tiny_model(), yaml.safe_dump({"evaluation": {"split": "test"}}), directory / "weights")
    (directory / "metrics.jsonl").write_text('{"step": 20, "loss": 1.0}\n{"step": 30, "loss": 0.9}\n')
    return directory


def test_the_result_describes_checkpoint_data_and_tasks(run: Path) -> None:
    result = evaluate(run, recipe(), PLUGINS)
    assert json.loads((run / "evaluation.json").read_text()) == result
    weights = run / "weights/model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert result["checkpoint"] == {"path": str(weights), "sha256": digest, "steps": 30}
    assert result["data"] == {
        "source": {"class_path": "StubPhotos", "init_args": {"split": "test", "count": 9, "told": True}},
        "fingerprint": "listed",
        "records": 9,
    }
    assert (result["task"], result["split"]) == ("retrieval", "test")
    assert result["tasks"]["retrieval"]["init_args"]["top_k"] == 2
    assert result["languages"].keys() == result["grounding"].keys() == {"en", "de"}
    assert [result["languages"][code]["trained_with_images"] for code in ("en", "de")] == [True, False]
    assert 0 <= result["mean_zero_shot"] <= 1
    assert 0 <= result["grounding"]["de"]["iou50"] <= 1
    assert len(result["warnings"]) >= 1  # the model is untrained


def test_evaluation_is_deterministic(run: Path) -> None:
    first, second = (evaluate(run, recipe(), PLUGINS) for _ in range(2))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_the_batch_size_changes_no_number(run: Path) -> None:
    first, second = (evaluate(run, recipe(batch_size=size), PLUGINS) for size in (1, 64))
    assert first["languages"] == second["languages"]


def test_another_split_has_another_file(run: Path) -> None:
    evaluate(run, recipe(), PLUGINS)
    before = (run / "evaluation.json").read_bytes()
    # The command line lays --split over the recipe, so the stored recipe says which one is the usual.
    evaluate(run, recipe(split="validation"), PLUGINS, "validation")
    assert (run / "evaluation.json").read_bytes() == before
    assert read_result(run / "evaluation-validation.json")["split"] == "validation"


def test_the_result_of_a_weights_directory_is_in_it(run: Path, tmp_path: Path) -> None:
    (run / "weights").rename(tmp_path / "published")
    result = evaluate(tmp_path / "published", recipe(), PLUGINS)
    assert (tmp_path / "published/evaluation.json").is_file()
    assert result["checkpoint"]["steps"] is None


def test_output_sets_the_file(run: Path, tmp_path: Path) -> None:
    evaluate(run, recipe(), PLUGINS, output=tmp_path / "new/result.json")
    assert (tmp_path / "new/result.json").is_file()
    assert not (run / "evaluation.json").exists()


@pytest.mark.parametrize(
    ("told", "languages", "measured"),
    [(True, ("de",), ["de"]), (True, None, ["en", "de"]), (False, None, ["en", "de"])],
)
def test_languages_are_those_of_the_recipe_or_the_source_or_the_records(
    run: Path, told: bool, languages: tuple[str, ...] | None, measured: list[str]
) -> None:
    result = evaluate(run, recipe(source=StubPhotos(told=told), languages=languages), PLUGINS)
    assert list(result["languages"]) == measured


def test_a_plugins_task_is_at_the_top_level(run: Path) -> None:
    tasks = {"retrieval": Retrieval(), "mine": Answer()}
    result = evaluate(run, recipe(tasks=tasks), PLUGINS)
    assert result["answer"] == 0.5
    assert result["languages_seen"] == ["en", "de"]


def test_a_second_task_of_a_kind_is_under_its_name(run: Path) -> None:
    # Its name is a key of the first one's result, which it must not overwrite.
    tasks = {"strict": Grounding(iou=0.75), "grounding": Grounding(iou=0.25), "mine": Answer()}
    result = evaluate(run, recipe(tasks=tasks), PLUGINS)
    assert result["grounding_iou"] == 0.75
    assert "iou75" in result["grounding"]["en"]
    assert "iou25" in result["tasks"]["grounding"]["result"]["grounding"]["en"]
    assert result["answer"] == 0.5


def test_no_task_overwrites_the_description(run: Path) -> None:
    class Sly(Answer):
        def run(self, context: TaskContext) -> Mapping[str, Any]:
            return {"checkpoint": "another", "warnings": [], "score": 1}

    result = evaluate(run, recipe(tasks={"retrieval": Retrieval(), "sly": Sly()}), PLUGINS)
    assert result["checkpoint"]["steps"] == 30
    assert result["tasks"]["sly"]["result"] == {"checkpoint": "another", "warnings": [], "score": 1}


def test_a_plugins_key_languages_is_not_read(run: Path) -> None:
    class Other(Answer):
        def run(self, context: TaskContext) -> Mapping[str, Any]:
            return {"languages": ["en"], "grounding": {"en": 3}, "grounding_iou": 0.5}

    result = evaluate(run, recipe(tasks={"other": Other()}), PLUGINS)
    assert result["languages"] == ["en"]
    assert result["warnings"] == []


def test_a_number_outside_json_is_refused_and_leaves_no_file(run: Path) -> None:
    with pytest.raises(X2KitError, match=r"evaluation\.json: a task's result is not JSON-serialisable"):
        evaluate(run, recipe(tasks={"mine": Answer(value=float("nan"))}), PLUGINS)
    assert [path.name for path in run.iterdir() if "evaluation" in path.name] == []


def test_a_failing_write_leaves_the_old_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "evaluation.json"
    write_result({"seconds": 1}, file)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(OSError("full")))
    with pytest.raises(OSError, match="full"):
        write_result({"seconds": 2}, file)
    assert read_result(file) == {"seconds": 1}


def test_a_run_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights; expected"):
        evaluate(tmp_path, recipe(), PLUGINS)


def test_weights_of_another_model_are_refused(run: Path) -> None:
    other = recipe()
    other.model = other.model.model_copy(update={"heads": HEADS.model_copy(update={"embed_dim": 6})})
    with pytest.raises(WeightsError, match="does not fit"):
        evaluate(run, other, PLUGINS)


def test_a_missing_or_damaged_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(X2KitError, match="x2kit evaluate writes one"):
        read_result(tmp_path / "evaluation.json")
    (tmp_path / "evaluation.json").write_text("{")
    with pytest.raises(X2KitError, match="no readable result"):
        read_result(tmp_path / "evaluation.json")


def test_zero_shot_is_reported_only_if_certain() -> None:
    languages = ("en", "de", "fr")
    english = stream("ImageText", source=StubPhotos(), languages=["en"])
    german = stream("RegionText", source=StubPhotos(), languages=["de"])
    unknown = stream("ImageText", source=StubPhotos(told=False))
    texts = stream("ParallelText")
    assert trained_with_images(DataConfig(streams={"a": english, "b": texts}), languages) == ("en",)
    assert trained_with_images(DataConfig(streams={"a": english, "b": german}), languages) == ("en", "de")
    assert trained_with_images(DataConfig(streams={"a": english, "b": unknown}), languages) == languages


def test_a_source_without_splits_is_refused_with_its_setting(run: Path) -> None:
    with pytest.raises(SettingError, match="split: StubScenes has no splits"):
        evaluate(run, recipe(source=StubScenes()), PLUGINS)


def test_all_tasks_are_checked_before_the_first_runs(run: Path) -> None:
    began = []

    class Late(Answer):
        def check(self, context: TaskContext) -> None:
            raise DataError("nothing to measure here")

    class First(Answer):
        def run(self, context: TaskContext) -> Mapping[str, Any]:
            began.append(self)
            return {}

    with pytest.raises(DataError, match="nothing to measure here"):
        evaluate(run, recipe(tasks={"first": First(), "late": Late()}), PLUGINS)
    assert not began


def test_a_language_without_captions_is_refused_before_encoding(run: Path) -> None:
    shown: list[str] = []
    with pytest.raises(DataError, match="no record has a caption in fr"):
        evaluate(
            run,
            recipe(languages=("en", "fr")),
            PLUGINS,
            progress=lambda what, done, total: shown.append(what),
        )
    assert shown == []


def test_a_task_may_have_a_separate_source(run: Path) -> None:
    own = recipe(sources={"grounding": StubPhotos(count=4)})
    result = evaluate(run, own, PLUGINS)
    assert result["languages"]["en"]["candidates"] == 9
    assert result["grounding"]["en"]["images"] == 4
    assert result["data"]["records"] == 9
    assert result["data"]["sources"]["grounding"]["records"] == 4
    assert result["data"]["sources"]["grounding"]["source"]["init_args"]["split"] == "test"


def test_a_source_of_no_task_is_refused_with_the_tasks() -> None:
    with pytest.raises(ValidationError, match="no task is called groundings; tasks: retrieval, grounding"):
        recipe(sources={"groundings": StubPhotos()})
