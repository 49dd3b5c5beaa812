"""Write the card's sections on data, hardware and reproduction. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from x2kit.io.run_directory import RECIPE
from x2kit.plugin.components import ComponentConfig
from x2kit.publishing.facts import Facts, StreamFacts
from x2kit.publishing.redaction import Redactor, changed_keys
from x2kit.publishing.target import Target
from x2kit.recipe.yaml_text import inline

UNKNOWN = "not recorded"


def training_data(facts: Facts, redactor: Redactor) -> Iterator[str]:
    """Yield the table of the streams, by source and fingerprint."""
    if not facts.streams:
        yield "Not recorded: the weights directory has no training recipe."
        return
    lines = [
        "| stream | task | source | settings | languages | fingerprint |",
        "|---|---|---|---|---|---|",
        *(_stream_row(stream, redactor) for stream in facts.streams),
    ]
    yield "\n".join(lines)
    yield (
        "The fingerprint is a hash of the records: the same data gives the same one. Licence of the data: "
        f"{UNKNOWN}. Settings that are not shown have their defaults; `{RECIPE}` has all."
    )


def _stream_row(stream: StreamFacts, redactor: Redactor) -> str:
    languages = UNKNOWN if stream.languages is None else ", ".join(stream.languages)
    mark = "" if stream.fingerprint is None else f"`{stream.fingerprint}`"
    return (
        f"| {stream.name} | {stream.task.component_name()} | {stream.source.component_name()} | "
        f"{settings_of(stream.source, redactor)} | {languages} | {mark or UNKNOWN} |"
    )


def settings_of(component: ComponentConfig, redactor: Redactor) -> str:
    """Format the settings that differ from their defaults, for a cell of a table."""
    given = redactor.value(component.model_dump(mode="json", exclude_defaults=True))
    return (
        ", ".join(f"{name}={inline(value)}" for name, value in given.items()).replace("|", "\\|")
        or "defaults"
    )


def training_facts(facts: Facts) -> Iterator[str]:
    """Yield steps, optimisation, hardware, hours and versions."""
    if not facts.versions:
        yield "Steps, hardware and hours are not recorded: these are weights without a run."
        return
    settings, versions = facts.recipe.training, facts.versions
    rows = {
        "steps": f"{facts.metrics[-1]['step']:,}" if facts.metrics else UNKNOWN,
        "seed": settings.seed,
        "rows a step": ", ".join(
            f"{name} {stream.batch_size}" for name, stream in facts.recipe.data.streams.items()
        ),
        "peak learning rate": settings.lr,
        "precision": versions.get("precision", UNKNOWN),
        "hardware": _hardware(facts),
        "time": _time(facts.seconds),
        "versions": _packages(facts),
    }
    yield "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _hardware(facts: Facts) -> str:
    versions = facts.versions
    processor = versions.get("processor") or "processor not recorded"
    cores = "" if versions.get("cores") is None else f", {versions['cores']} cores"
    system = str(versions.get("machine", "")).partition("-")[0]
    parts = [f"{processor}{cores}", _threads(versions.get("threads")), system]
    if versions.get("accelerator"):
        count = versions.get("processes") or 1
        parts.insert(0, f"{count} × {versions['accelerator']}")
    elif versions.get("device"):
        parts.insert(0, f"device {versions['device']}")
    return "; ".join(part for part in parts if part)


def _threads(count: int | None) -> str:
    return "" if count is None else f"{count} thread{'' if count == 1 else 's'}"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return UNKNOWN
    shown = f"{seconds / 60:.1f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
    return f"{shown} of training steps (`metrics.jsonl` of the run), without validation"


def _packages(facts: Facts) -> str:
    packages: dict[str, Any] = facts.versions.get("packages") or {}
    named = [f"{name} {version}" for name, version in packages.items() if version is not None]
    return ", ".join([f"Python {facts.versions.get('python', UNKNOWN)}", *named])


def reproduction(facts: Facts, target: Target, redactor: Redactor, version: str) -> Iterator[str]:
    """Yield the commands that train and evaluate the model again, and what they need."""
    if not facts.streams:
        yield "The weights directory has no training recipe, so the training cannot be repeated from it."
        return
    name = target.name
    files = [plugin for plugin in facts.plugins if plugin.kind == "file"]
    options = "".join(f" --plugin {plugin.name}" for plugin in files)
    lines = [
        f"pip install x2kit=={(facts.versions.get('packages') or {}).get('x2kit') or version}",
        *([] if target.repository is None else [_download(target)]),
        f"x2kit train {name}/{RECIPE} --run-dir runs/{name}{options}",
    ]
    if facts.recipe.evaluation is not None:
        splits = dict.fromkeys(str(result.get("split")) for result in facts.results.values())
        lines += [f"x2kit evaluate runs/{name} --split {split}{options}" for split in splits]
    yield "```bash\n" + "\n".join(lines) + "\n```"
    yield (
        f"The recipe has every setting and the seed ({facts.recipe.training.seed}). Another run gives close numbers; "
        "other versions and other hardware change them."
    )
    before = yaml.safe_load((facts.weights / RECIPE).read_text(encoding="utf-8"))
    keys = [key for key in changed_keys(before, redactor.value(before)) if key.startswith(("data", "model"))]
    if keys:
        yield "Paths of the author's machine are shortened in the recipe. Set these keys to your copies:"
        yield "\n".join(f"- `{key}`" for key in keys)


def _download(target: Target) -> str:
    revision = "" if target.revision is None else f" --revision {target.revision}"
    return f"hf download {target.repository}{revision} --local-dir {target.name}"
