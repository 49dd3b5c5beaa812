"""Run the commands of an installed x2kit that need no data: every help, the recipes, the scaffold of plugins."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import x2kit
from tests.release.environments import Environment

KINDS = ("vision", "text", "fusion", "head", "source", "task", "objective", "optimizer", "reporter", "index")


def show_helps(environment: Environment) -> str:
    """Run `--help` of x2kit, each subcommand and each action. Raises: CommandFailed."""
    names = listed(environment.x2kit("--help"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        texts = list(pool.map(lambda name: environment.x2kit(name, "--help"), names))
        actions = [(name, action) for name, text in zip(names, texts, strict=True) for action in listed(text)]
        list(pool.map(lambda words: environment.x2kit(*words, "--help"), actions))
    assert len(names) > 15, names
    return f"{1 + len(names) + len(actions)} times --help"


def listed(text: str) -> list[str]:
    """List the subcommands in the text of a help."""
    return re.findall(
        r"^    (\S+)", text.partition("Available subcommands:")[2].partition("\n\n")[0], re.MULTILINE
    )


def show_recipes(environment: Environment) -> str:
    """List the shipped recipes, and show and copy one. Raises: CommandFailed, AssertionError."""
    listing = environment.x2kit("recipes", "list")
    assert "quickstart/multilingual" in listing, listing
    environment.x2kit("recipes", "show", "pretrain/x2vlm-base-4m")
    environment.x2kit("recipes", "validate", "official/x2vlm-base")
    return "recipes list, show, validate"


def validate_recipes(environment: Environment) -> str:
    """Validate every shipped recipe, which takes the extras `quickstart` and `peft`. Raises: CommandFailed."""
    environment.x2kit("recipes", "validate", "--all")
    return "recipes validate --all"


def show_plugins(environment: Environment) -> str:
    """Check the versions, that each first-party plugin is active, and write a plugin of each kind.

    Raises: CommandFailed, AssertionError.
    """
    assert environment.x2kit("--version").strip() == f"x2kit {x2kit.__version__}"
    assert environment.installed("x2kit") == x2kit.__version__
    plugins = json.loads(environment.x2kit("plugins", "list", "--json"))["plugins"]
    broken = [plugin for plugin in plugins if plugin["status"] != "active"]
    assert not broken, broken
    for kind in KINDS:
        environment.x2kit("plugins", "new", f"acme-{kind}", "--kind", kind)
    return f"{len(plugins)} plugins are active, a plugin of each of {len(KINDS)} kinds is written"


def refuse_extras(environment: Environment) -> str:
    """Check that features of extras end in a message that names the extra. Raises: CommandFailed, AssertionError."""
    for extra, arguments in MISSING.items():
        said = " ".join(environment.x2kit(*arguments, status=2).split())
        assert f"x2kit[{extra}]" in said, (
            f"x2kit {' '.join(arguments)} does not name the extra {extra}: {said}"
        )
    return f"without extras, {', '.join(MISSING)} are named where they are needed"


MISSING = {
    "quickstart": ("train", "quickstart/multilingual", "--training.steps", "2", "--run-dir", "runs/none"),
    "demo": ("demo", "runs/shapes"),
    "search": ("search", "index", "shapes/images", "--model", "runs/shapes", "--index", "shapes.index"),
}
"""A command of each extra that has a command of its own; `runs/shapes` is the run of `own_files`."""


def steps(environment: Environment, count: int) -> str:
    """Train the quickstart for some steps. Raises: CommandFailed, AssertionError."""
    settings = ("--training.steps", str(count), "--run-dir", "runs/quickstart")
    environment.x2kit("train", "quickstart/multilingual", *settings)
    assert (environment.work / "runs/quickstart/weights/model.safetensors").is_file()
    last = list(metrics(environment))[-1]
    assert last["step"] == count, last
    return f"x2kit train quickstart/multilingual --training.steps {count}: loss {last['loss']:.3f}"


def metrics(environment: Environment) -> Iterator[dict[str, float]]:
    """Yield the lines of metrics of the quickstart."""
    file = environment.work / "runs/quickstart/metrics.jsonl"
    yield from map(json.loads, file.read_text(encoding="utf-8").splitlines())
