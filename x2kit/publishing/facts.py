"""Read what a model card says from a run or weights directory. Imports no torch until the weights are loaded."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from x2kit.errors import X2KitError
from x2kit.io.run_directory import (
    INITIALISATION,
    METRICS,
    PREPROCESSING,
    RECIPE,
    SELECTION,
    VERSIONS,
    read_metrics,
)
from x2kit.model.config import ENCODERS
from x2kit.model.saved_recipe import MANIFEST
from x2kit.plugin.components import ComponentConfig
from x2kit.plugin.facts import Published
from x2kit.plugin.loading.file_modules import is_path
from x2kit.plugin.registry import owner_of
from x2kit.plugin.tokenizers import IdsOnly
from x2kit.recipe.reading import ResolvedRecipe, read_recipe

if TYPE_CHECKING:
    from x2kit.inference import Model
    from x2kit.recipe import Recipe

RESULTS = "evaluation*.json"


class Part(NamedTuple):
    """An encoder of the model.

    Attributes:
        role: vision, text or fusion.
        component: its settings.
        owner: distribution and version, or file, of the plugin that supplies it.
        parameters: number of its parameters.
        published: weights that it started from; None without any.
    """

    role: str
    component: ComponentConfig
    owner: str
    parameters: int
    published: Published | None


class StreamFacts(NamedTuple):
    """A stream of training data: task, source, languages if known without reading it, and fingerprint if recorded."""

    name: str
    task: ComponentConfig
    source: ComponentConfig
    languages: tuple[str, ...] | None
    has_images: bool
    fingerprint: str | None


class NeededPlugin(NamedTuple):
    """A plugin that is not part of x2kit: a distribution, a module or a file with its SHA-256."""

    name: str
    kind: str
    detail: str


@dataclass(frozen=True)
class Facts:
    """What is known of a model that is published.

    Attributes:
        weights: the weights directory.
        resolved: its recipe, with the plugins that it was read with.
        parts: the encoders.
        parameters: of the whole model.
        heads: names of its parts besides the encoders, as in `x2kit.inference.model.PARTS`, and of plugins' heads.
        image: `preprocessing.json`.
        width: of the embeddings; None without a contrastive head.
        reads_texts: whether the model has a tokenizer; converted weights may take ids only.
        streams: the training data.
        results: results of `x2kit evaluate` by file name, the one of the recipe's split first.
        sha256: of the weights file.
        plugins: needed to load the model, besides x2kit.
        versions: of the run; empty if not recorded, as for converted weights.
        metrics: of the run, by step.
        selection: the validation that selected the weights; None for those of the last step.
        initialisation: report of `model.init_from`; None without.
        left_out: files that are not published, with the reason.
        missing: facts that are not recorded.
    """

    weights: Path
    resolved: ResolvedRecipe
    parts: tuple[Part, ...]
    parameters: int
    heads: tuple[str, ...]
    image: Mapping[str, Any]
    width: int | None
    reads_texts: bool
    streams: tuple[StreamFacts, ...]
    results: Mapping[str, Mapping[str, Any]]
    sha256: str
    plugins: tuple[NeededPlugin, ...]
    versions: Mapping[str, Any]
    metrics: Sequence[Mapping[str, Any]]
    selection: Mapping[str, Any] | None
    initialisation: Mapping[str, Any] | None
    left_out: dict[str, str] = field(default_factory=dict)
    missing: tuple[str, ...] = ()

    @property
    def recipe(self) -> Recipe:
        """The recipe of the weights."""
        return self.resolved.recipe

    @property
    def seconds(self) -> float | None:
        """Seconds of training steps, validation not included; None if not recorded."""
        found = [line["seconds"] for line in self.metrics if "seconds" in line]
        return sum(found) if found else None

    def languages(self) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
        """Languages trained with images, those trained with texts only, and those measured without either."""
        images: dict[str, None] = {}
        texts: dict[str, None] = {}
        for stream in self.streams:
            (images if stream.has_images else texts).update(dict.fromkeys(stream.languages or ()))
        measured = dict.fromkeys(
            code for result in self.results.values() for code in measured_languages(result)
        )
        only = tuple(code for code in texts if code not in images)
        return tuple(images), only, tuple(code for code in measured if code not in {*images, *texts})


def measured_languages(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield the languages of a result and of its tasks; any mapping of rows that say how a language was trained."""
    for value in result.values():
        if not isinstance(value, Mapping):
            continue
        rows = {code: row for code, row in value.items() if isinstance(row, Mapping)}
        if rows and all("trained_with_images" in row for row in rows.values()):
            yield from map(str, rows)
        else:
            yield from measured_languages(value)


def read_facts(directory: Path, plugins: Sequence[str] = (), trust_plugins: bool = False) -> Facts:
    """Read the facts of a run or weights directory; loads the weights on the CPU.

    Args:
        directory: a run or weights directory.
        plugins: files and modules that may be imported in addition to installed plugins.
        trust_plugins: import every plugin that the directory names.
    Raises: WeightsError for a directory without weights; RecipeError or PluginError for its recipe; X2KitError for a
        result of other weights.
    """
    from x2kit.inference import load
    from x2kit.model.saving import weights_directory

    weights = weights_directory(directory)
    run = weights.parent if weights.name == "weights" and weights != directory else directory
    model = load(
        weights, "cpu", plugins=plugins, trust_plugins=trust_plugins
    )  # imports the plugins that it trusts
    resolved = read_recipe([weights / RECIPE], (), plugins, checks="none", saved=True)
    versions = _json(run / VERSIONS) or {}
    results, left_out = _results(run, model.fingerprint)
    initialisation = _json(run / INITIALISATION)
    return Facts(
        weights=weights,
        resolved=resolved,
        parts=tuple(_parts(resolved.recipe, model, versions)),
        parameters=sum(parameter.numel() for parameter in model.module.parameters()),
        heads=_heads(model),
        image=_json(weights / PREPROCESSING) or {},
        width=model.dim if model.has("itc") else None,
        reads_texts=not isinstance(model.module.tokenizer, IdsOnly),
        streams=tuple(_streams(resolved.recipe, versions.get("data") or {})),
        results=results,
        sha256=model.fingerprint,
        plugins=tuple(_needed_plugins(weights, resolved)),
        versions=versions,
        metrics=read_metrics(run),
        selection=_json(weights / SELECTION),
        initialisation=initialisation,
        left_out=left_out,
        missing=tuple(_missing(run, results)),
    )


def _parts(recipe: Recipe, model: Model, versions: Mapping[str, Any]) -> Iterator[Part]:
    recorded = versions.get("published")
    for role in ENCODERS:
        component = getattr(recipe.model, role)
        if recorded is None:  # a run of an earlier version, or no run
            published = component.published()
        else:
            published = Published(**recorded[role]) if role in recorded else None
        owner = owner_of(type(component))
        count = sum(parameter.numel() for parameter in getattr(model.module, role).parameters())
        distribution = "unknown" if owner is None else owner.distribution
        yield Part(role, component, Path(distribution).name, count, published)


def _heads(model: Model) -> tuple[str, ...]:
    from x2kit.inference.model import PARTS

    return (*(part for part in PARTS if model.has(part)), *getattr(model.module, "extra_heads", ()))


def _streams(recipe: Recipe, fingerprints: Mapping[str, str]) -> Iterator[StreamFacts]:
    for name, stream in recipe.data.streams.items():
        languages = stream.languages or stream.source.languages()
        yield StreamFacts(
            name, stream.task, stream.source, languages, stream.has_images, fingerprints.get(name)
        )


def _results(run: Path, sha256: str) -> tuple[dict[str, Mapping[str, Any]], dict[str, str]]:
    """Read the results beside the weights. Raises X2KitError for those of other weights.

    Returns: results by file name, and files of tasks that are not results, such as predictions.
    """
    results: dict[str, Mapping[str, Any]] = {}
    left_out = {}
    for file in sorted(run.glob(RESULTS), key=lambda file: (len(file.name), file.name)):
        found = _json(file)
        checkpoint = found.get("checkpoint") if isinstance(found, Mapping) else None
        if found is None or not isinstance(checkpoint, Mapping) or "tasks" not in found:
            left_out[file.name] = "written by a task; it may contain texts and names of the measured data"
            continue
        if checkpoint.get("sha256") != sha256:
            other = str(checkpoint.get("sha256"))[:12]
            raise X2KitError(
                f"{file}: measured with other weights (SHA-256 {other}…, these have {sha256[:12]}…)\n"
                f"  measure these: x2kit evaluate {run} --split {found.get('split')}, or remove the file"
            )
        results[file.name] = found
    return results, left_out


def _needed_plugins(weights: Path, resolved: ResolvedRecipe) -> Iterator[NeededPlugin]:
    """List file plugins with their hashes, modules, and distributions other than x2kit whose components are used."""
    manifest = _json(weights / MANIFEST) or {}
    hashes = manifest.get("files") or {}
    for name in resolved.recipe.plugins:
        if is_path(name):
            key = f"plugins/{Path(name).name}"
            digest = (hashes.get(key) or {}).get("sha256") or _digest(Path(name))
            yield NeededPlugin(Path(name).name, "file", f"SHA-256 {digest}")
        else:
            versions = (manifest.get("modules") or {}).get(name) or {}
            shown = ", ".join(f"{owner} {version}" for owner, version in versions.items())
            yield NeededPlugin(name, "module", shown or "version not recorded")
    used = {type(getattr(resolved.recipe.model, role)) for role in ENCODERS}
    owners = {owner.distribution for component in used if (owner := owner_of(component)) is not None}
    files = {str(Path(name)) for name in resolved.recipe.plugins}
    for distribution in sorted(owners - files):
        name, _, version = distribution.partition(" ")
        if name != "x2kit" and not is_path(distribution) and name not in resolved.recipe.plugins:
            yield NeededPlugin(name, "distribution", f"version {version}")


def _digest(path: Path) -> str:
    from x2kit.plugin.loading.carried import digest

    return digest(path)


def _missing(run: Path, results: Mapping[str, Any]) -> Iterator[str]:
    versions = _json(run / VERSIONS)
    if versions is None:
        yield "versions, device and data fingerprints of the training (versions.json)"
    elif "processor" not in versions:
        yield "name of the processor (the run was made by an earlier version of x2kit)"
    if not (run / METRICS).is_file():
        yield "steps and hours of the training (metrics.jsonl)"
    if not results:
        yield "results (evaluation.json)"


def _json(file: Path) -> Any:
    """Read a JSON file; None if missing. Raises X2KitError for a damaged one."""
    if not file.is_file():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise X2KitError(f"{file}: damaged: {error}") from error
