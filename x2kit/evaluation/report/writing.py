"""Write report.html of a run: read its results, run the model on examples, draw the page. Imports torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from x2kit.data.config import loss_phases
from x2kit.evaluation.config import EvaluationConfig, Recipe, require_evaluation
from x2kit.evaluation.harness import RESULT, describe_checkpoint, read_result
from x2kit.evaluation.measuring import trained_with_images
from x2kit.evaluation.report.curves import draw_curves
from x2kit.evaluation.report.gallery import Thumbnails, draw_queries, draw_texts
from x2kit.evaluation.report.markup import Markup, join, tag
from x2kit.evaluation.report.page import Section, draw_facts, draw_page, folded
from x2kit.evaluation.report.probe import Probe, languages_shown, make_probe
from x2kit.evaluation.report.results import draw_results, scored_tasks
from x2kit.evaluation.report.scenes import draw_scenes
from x2kit.evaluation.report.task_examples import task_section
from x2kit.evaluation.warnings import retrieval_rows
from x2kit.io.atomic import atomic_file
from x2kit.io.run_directory import MODEL, VERSIONS, read_metrics
from x2kit.model.build import build_model
from x2kit.model.device import choose_device
from x2kit.model.saving import read_weights, weights_directory
from x2kit.model.x2vlm import X2VLM
from x2kit.plugin.loading.manager import Plugins
from x2kit.tasks import Grounding, Retrieval, WeakGrounding
from x2kit.tasks.grounding.config import RegionTask
from x2kit.tasks.records import find_languages

REPORT = "report.html"


class Steps(Protocol):
    """The part of `training` that a report reads."""

    @property
    def steps(self) -> int: ...


class ReportedRecipe(Recipe, Protocol):
    """The parts of a recipe that a report reads; implemented by `x2kit.Recipe`."""

    @property
    def description(self) -> str: ...
    @property
    def training(self) -> Steps: ...


class Run(NamedTuple):
    """Files of a run directory.

    Attributes:
        directory: of the run.
        metrics: lines of metrics.jsonl; none for a weights directory.
        result: of evaluation.json; None if the run was not evaluated.
        checkpoint: path, SHA-256 and steps of the weights.
        versions: of versions.json; empty if there is none.
    """

    directory: Path
    metrics: list[dict[str, Any]]
    result: dict[str, Any] | None
    checkpoint: dict[str, Any]
    versions: dict[str, Any]


def write_report(run: Path, recipe: ReportedRecipe, plugins: Plugins, *, device: str = "auto") -> Path:
    """Write report.html into a run directory.

    Numbers and curves are read from the run; examples are computed now, on up to 500 records of the split.

    Args:
        run: a run directory, or a weights directory, which has no curves.
        recipe: of the run.
        plugins: those that the recipe was resolved with.
        device: auto, or a torch device.
    Returns: the file.
    Raises: RecipeError for a recipe without evaluation; WeightsError for a directory without weights; DataError for a
        broken record.
    """
    weights = weights_directory(run)
    found = read_run(run, weights)
    split = found.result["split"] if found.result else require_evaluation(recipe).split
    examples = draw_examples(weights, recipe, split, found.result, device)
    sections = [
        Section("results", "Results", _about_results(found), _results(found)),
        Section(
            "curves",
            "Training curves",
            "Each axis starts at 0 and is scaled separately; the number at the right is the last value. Curves of long "
            "runs are means of neighbouring steps.",
            draw_curves(found.metrics, loss_phases(recipe.data, recipe.training.steps)),
        ),
        *examples,
        Section("run", "Provenance", "", _provenance(found, recipe, plugins)),
    ]
    page = draw_page(run.resolve().name, recipe.description, _facts(found), sections)
    with atomic_file(run / REPORT) as partial:
        partial.write_text(page, encoding="utf-8")
    return run / REPORT


def read_run(run: Path, weights: Path) -> Run:
    """Read metrics, result, checkpoint and versions of a run. Raises X2KitError for a damaged evaluation.json."""
    versions = run / VERSIONS
    return Run(
        run,
        read_metrics(run),
        read_result(run / RESULT) if (run / RESULT).is_file() else None,
        describe_checkpoint(weights),
        json.loads(versions.read_text(encoding="utf-8")) if versions.is_file() else {},
    )


def draw_examples(
    weights: Path, recipe: ReportedRecipe, split: str, result: Mapping[str, Any] | None, device: str
) -> list[Section]:
    """Draw predictions on part of the split: captions, images, boxes."""
    config = require_evaluation(recipe)
    recipe.data.limits.apply()
    model = build_model(recipe.model, assets=weights)
    read_weights(model, weights / MODEL)
    model.to(choose_device(device)).eval()
    sections = []
    if any(isinstance(task, Retrieval | RegionTask) for task in config.tasks.values()):
        sections = _probe_sections(model, recipe, config, split, result or {})
    return sections + _task_sections(model, recipe, config, split, result or {})


def _probe_sections(
    model: X2VLM, recipe: ReportedRecipe, config: EvaluationConfig, split: str, result: Mapping[str, Any]
) -> list[Section]:
    """Draw examples of retrieval and grounding on the shared source, with the heads that the model has."""
    source_config = config.source.for_split(split)
    source = source_config.open()
    measured = retrieval_rows(result)
    codes = tuple(measured) or config.languages or source_config.languages() or find_languages(source)
    trained = trained_with_images(recipe.data, codes)
    tasks = list(config.tasks.values())
    probe = make_probe(
        model,
        source,
        len(codes) == 1,
        next((task for task in tasks if isinstance(task, Retrieval)), Retrieval()),
        next((task for task in tasks if isinstance(task, RegionTask)), Grounding()),
        config.batch_size,
    )
    shown = languages_shown(codes, trained, {code: row["mean_r1"] for code, row in measured.items()})
    thumbnails = Thumbnails(probe.part, model.image_spec)
    sections = []
    if hasattr(model, "vision_proj") and hasattr(model, "itm_head"):
        sections += _retrieval_sections(probe, shown, trained, thumbnails, split, len(source))
    if hasattr(model, "bbox_head") or isinstance(probe.grounding, WeakGrounding):
        sections += _box_section(probe, shown, thumbnails)
    return sections


def _task_sections(
    model: X2VLM, recipe: ReportedRecipe, config: EvaluationConfig, split: str, result: Mapping[str, Any]
) -> list[Section]:
    """Draw examples of the tasks that were measured row by row."""
    sections, scored = [], scored_tasks(result)
    for name, task in config.tasks.items():
        if name not in scored or not task.losses:
            continue
        scores = scored[name]["scores"]
        trained = trained_with_images(recipe.data, tuple(scores))
        source = config.sources.get(name, config.source).for_split(split).open()
        codes = languages_shown(
            tuple(scores), trained, {code: row[task.score] for code, row in scores.items()}
        )
        sections.append(task_section(name, task, model, source, codes, config.batch_size))
    return [section for section in sections if section is not None]


def _retrieval_sections(
    probe: Probe, codes: Sequence[str], trained: Sequence[str], thumbnails: Thumbnails, split: str, total: int
) -> list[Section]:
    found = [probe.captions(code, code in trained) for code in codes]
    languages = [language for language in found if language is not None]
    if not languages:
        return []
    shown = len(probe.images)
    records = f"all {total:,}" if shown == total else f"{shown:,} of the {total:,}"
    about = (
        f"Captions of the split {split} and the five most similar images, among {records}. Shown are the first "
        "captions whose image is ranked first and the first that miss it, whatever the share of either. The true image "
        "has a green frame; if it is not among the five, it comes last with its rank. Below each image: the cosine "
        "similarity, which orders them, and the probability of the matching head."
    )
    if any(code not in trained for code in codes) and len(languages) > 1:
        about += " Of the measured zero-shot languages the best, a middle and the worst are shown."
    return [
        Section(
            "queries",
            "Captions and retrieved images",
            about,
            join([draw_queries(probe, language, thumbnails) for language in languages]),
        ),
        Section(
            "texts",
            "Images and retrieved captions",
            "Evenly spaced images of the split and the five most similar captions of each language; the true one has "
            "a green frame.",
            draw_texts(probe, languages, thumbnails),
        ),
    ]


def _box_section(probe: Probe, codes: Sequence[str], thumbnails: Thumbnails) -> list[Section]:
    drawn = draw_scenes(probe, codes, thumbnails)
    if drawn is None:
        return []
    about = join(
        "The model gets each region's text and the whole image. ",
        tag("span", class_="key"),
        " true box, ",
        tag("span", class_="key guess"),
        f" predicted box; the number is their intersection over union, ✓ from {probe.grounding.iou}. The "
        "images are evenly spaced in the split and equal for every language.",
    )
    return [Section("grounding", "Grounding", about, drawn)]


def _results(run: Run) -> Markup:
    if run.result is None:
        return tag(
            "p",
            "This run is not evaluated. Run ",
            tag("code", f"x2kit evaluate {run.directory}"),
            " and ",
            tag("code", f"x2kit report {run.directory}"),
            " to see the numbers here.",
            class_="warning",
        )
    stale = run.result["checkpoint"]["sha256"] != run.checkpoint["sha256"]
    warning = tag(
        "p",
        tag("b", "These numbers are of other weights "),
        "than the run's current ones. Run ",
        tag("code", f"x2kit evaluate {run.directory}"),
        " to update them.",
        class_="warning",
        role="alert",
    )
    return join(warning if stale else None, draw_results(run.result))


def _about_results(run: Run) -> str:
    if run.result is None:
        return ""
    about = f"Measured on {run.result['data']['records']:,} records of the split {run.result['split']}."
    if selection := run.result.get("selection"):
        about += (
            f" The weights are those of step {selection['step']}, selected by {selection['metric']} on the split "
            f"{selection['split']}."
        )
    if run.result.get("mean_zero_shot") is None:
        return about
    return f"Zero-shot languages have no image-text training data, only parallel texts. {about}"


def _provenance(run: Run, recipe: ReportedRecipe, plugins: Plugins) -> Markup:
    packages = run.versions.get("packages", {})
    data = (run.result or {}).get("data", {})
    return join(
        draw_facts(
            {
                "weights": str(run.checkpoint["path"]),
                "SHA-256": run.checkpoint["sha256"],
                "steps": _optional(run.checkpoint["steps"]),
                "seed": _optional(run.versions.get("seed")),
                "measured data": _optional(data.get("fingerprint")),
                "evaluation took": f"{run.result['seconds']:.0f} s" if run.result else None,
                "python": _optional(run.versions.get("python")),
                "packages": ", ".join(f"{name} {version}" for name, version in packages.items()) or None,
                "machine": _optional(run.versions.get("machine")),
                "plugins": ", ".join(
                    f"{state.name} ({state.distribution})"
                    for state in plugins.states
                    if state.status == "active"
                ),
            }
        ),
        folded("The recipe with every default", recipe.to_yaml()),
        folded("evaluation.json", json.dumps(run.result, ensure_ascii=False, indent=2))
        if run.result
        else None,
    )


def _facts(run: Run) -> str:
    model = (run.result or {}).get("model", {})
    facts = [
        f"{run.checkpoint['steps']:,} steps" if run.checkpoint["steps"] is not None else None,
        f"{model['parameters'] / 1e6:.1f} million parameters" if model else None,
        _took(run.metrics),
        f"x2kit {run.versions['packages']['x2kit']}" if run.versions.get("packages") else None,
    ]
    return " · ".join(fact for fact in facts if fact)


def _took(metrics: Sequence[Mapping[str, Any]]) -> str | None:
    """Sum the training time, without pauses between stop and resume; None for runs that did not log `seconds`."""
    if not metrics or not all("seconds" in line for line in metrics):
        return None
    minutes = sum(line["seconds"] for line in metrics) / 60
    return f"trained in {minutes:.0f} minutes" if minutes >= 1 else "trained in less than a minute"


def _optional(value: Any) -> str | None:
    return None if value is None else str(value)
