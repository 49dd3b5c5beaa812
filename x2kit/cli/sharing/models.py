"""`x2kit models`: list published models, show and fetch any model by name."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jsonargparse

from x2kit.cli.model_names import NAMES
from x2kit.cli.parser import ArgumentParser, add_plugin_argument
from x2kit.errors import WeightsError
from x2kit.hub.availability import availability
from x2kit.hub.catalogue import PublishedModel, catalogue
from x2kit.hub.names import HubModel, LocalModel, ModelName, parse_name
from x2kit.hub.published import checkpoint_of, folder_of, recorded_sha256
from x2kit.hub.repositories import cached_repository
from x2kit.io.atomic import format_bytes
from x2kit.io.run_directory import MODEL
from x2kit.terminal import ByteProgress

HELP = "list published models, show what a name stands for, fetch it into the cache"
EXAMPLES = """\
examples:
  x2kit models list
  x2kit models show x2vlm-base-4m
  x2kit models show runs/mine
  x2kit models fetch cclm-x2vlm-base               # resumes an interrupted download
  x2kit models fetch hf-hub:acme/scenes@v1

The cache is $X2KIT_CACHE, else ~/.cache/x2kit; X2KIT_OFFLINE=1 forbids downloads. X2KIT_CATALOGUE=FILE adds models of
your own, in the form of x2kit/hub/catalogue.yaml.
"""
UNKNOWN = "unknown"


ACTIONS = {
    "list": "list the published models",
    "show": "show what a name stands for; nothing is downloaded",
    "fetch": "fetch a model into the cache, check its hash, convert it",
}


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the actions."""
    actions = parser.add_subcommands(dest="action", title="actions", description="")
    for name, text in ACTIONS.items():
        action = ArgumentParser(description=text)
        actions.add_subcommand(name, action, help=text)
        if name != "list":
            action.add_argument("name", help=NAMES)
        if name == "fetch":
            action.add_argument(
                "--tokenizer",
                type=str,
                metavar="NAME_OR_DIR",
                help="of an official checkpoint; that of the catalogue, or the usual one of its vocabulary, by default",
            )
            add_plugin_argument(action)
        action.add_argument("--json", action="store_true", help="print JSON")


def run(options: jsonargparse.Namespace) -> int:
    """Run the action."""
    {"list": _list, "show": _show, "fetch": _fetch}[options.action](options[options.action])
    return 0


def _list(options: jsonargparse.Namespace) -> None:
    models = catalogue().values()
    if options.json:
        print(json.dumps([_published(model) for model in models], ensure_ascii=False, indent=2))
        return
    header = ("NAME", "PARAMETERS", "DOWNLOAD", "LANGUAGES", "TASKS", "LICENCE", "CACHED")
    print("\n".join(_aligned([header, *map(_row, models)])))


def _row(model: PublishedModel) -> tuple[str, ...]:
    found = availability(model)
    state = "yes" if found.here else "by hand" if model.page else "no"
    return (
        model.name,
        UNKNOWN if model.parameters is None else f"{model.parameters / 1e6:,.0f}M",
        UNKNOWN if model.size is None else format_bytes(model.size),
        ", ".join(model.languages) or UNKNOWN,
        ", ".join(model.tasks) or UNKNOWN,
        model.licence or UNKNOWN,
        state,
    )


def _show(options: jsonargparse.Namespace) -> None:
    model = parse_name(options.name)
    facts = _facts(model)
    if options.json:
        print(json.dumps(facts, ensure_ascii=False, indent=2))
        return
    for key, value in facts.items():
        for number, line in enumerate(_text(value).splitlines()):
            print(f"{'' if number else key.replace('_', ' ') + ':':<18}{line}")


def _facts(model: ModelName) -> dict[str, Any]:
    if isinstance(model, PublishedModel):
        return _published(model)
    if isinstance(model, HubModel):
        found = cached_repository(model)
        state = {"name": model.name, "kind": "repository of the Hugging Face Hub", **_state(model)}
        if found is None:
            return state
        return state | {"revision": found.revision, **_assembled(found.folder)}
    return _local(model)


def _local(model: LocalModel) -> dict[str, Any]:
    if (obstacle := availability(model).obstacle) is not None:
        raise WeightsError(obstacle)
    if model.is_file:
        size = format_bytes(model.path.stat().st_size)
        return {"name": model.name, "kind": "official checkpoint", "size": size}
    kind = "run directory" if (model.path / "weights").is_dir() else "weights directory"
    return {"name": model.name, "kind": kind, **_assembled(model.path)}


def _published(model: PublishedModel) -> dict[str, Any]:
    facts = model.model_dump(mode="json")
    for key in ("address", "page", "archive", "member", "overlays"):
        if not facts[key]:  # does not apply, which is not unknown
            del facts[key]
    by_hand = {} if model.page is None else {"save_as": str(folder_of(model) / model.download)}
    return {"name": model.name, "kind": "published checkpoint"} | facts | by_hand | _state(model)


def _state(model: PublishedModel | HubModel) -> dict[str, Any]:
    found = availability(model)
    state: dict[str, Any] = {"cached": found.here}
    if found.here and isinstance(model, PublishedModel):
        state |= {"checkpoint": str(checkpoint_of(model)), "recorded_sha256": recorded_sha256(model)}
    if not found.here:
        state["next"] = found.obstacle or found.download
    return state


def _assembled(folder: Path) -> dict[str, Any]:
    """Describe the parts of a weights directory from its recipe; no plugin is imported."""
    from x2kit.model.saved_recipe import describe_recipe

    weights = folder / "weights" if (folder / "weights").is_dir() else folder
    size = format_bytes((weights / MODEL).stat().st_size)
    return {"weights": str(weights), "size": size, **describe_recipe(weights / "recipe.yaml")}


def _fetch(options: jsonargparse.Namespace) -> None:
    from x2kit.interop.named_weights import named_weights

    with ByteProgress() as progress:
        found = named_weights(
            options.name, tokenizer=options.tokenizer, plugins=options.plugin, progress=progress
        )
    if options.json:
        paths = {"directory": str(found.directory), "file": str(found.file)}
        print(json.dumps({"name": found.name, **paths, **found.origin}, indent=2))
        return
    for fact, value in found.origin.items():
        print(f"{fact}: {value}")
    print(f"weights: {found.directory}")


def _text(value: Any) -> str:
    if value is None or value in ([], ()):
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
