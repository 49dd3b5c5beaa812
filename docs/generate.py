"""Write the reference pages that only the code can know: recipe keys, components, hooks, command line, errors.

python docs/generate.py            writes docs/reference/*.md
python docs/generate.py --check    writes nothing; exit status 1 and the names of stale pages if there are any
python docs/generate.py --quick    leaves out text-overlays.md, which takes a minute
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from jsonargparse import ArgumentParser
from pydantic import BaseModel

from x2kit import errors
from x2kit.cli import SUBCOMMANDS, module_name
from x2kit.cli.recipe_keys import KEY_HELP
from x2kit.cli.recipes.swaps import swaps_as_json, swaps_as_table
from x2kit.errors import Reason, RecipeError
from x2kit.plugin import (
    API_VERSION,
    STEP_LOSSES,
    BuildReport,
    EncodedRow,
    EncodedTexts,
    FusedTexts,
    FusionFacts,
    Hit,
    ImageSpec,
    Index,
    IndexSpec,
    IndexStats,
    ItemValues,
    Objective,
    ParameterGroup,
    Prediction,
    Pretraining,
    PretrainingConfig,
    Ranking,
    Ranks,
    Reader,
    Reporter,
    Rows,
    RunFacts,
    Source,
    SpecialIds,
    StreamFeatures,
    Subcommands,
    Task,
    TaskContext,
    TaskRow,
    TextFacts,
    Texts,
    Tokenizer,
    View,
    VisionFacts,
    encoders,
    hookspecs,
)
from x2kit.plugin.choice import OnResume
from x2kit.plugin.components import ComponentConfig
from x2kit.plugin.loading.admission import hook_names
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.registry import KINDS, Registered
from x2kit.plugin.toolkit.packed import GroupedTokens, PackedContext, ReadTokens, TokenGroup
from x2kit.recipe.catalogue import read_one, shipped
from x2kit.recipe.changes import marked_keys
from x2kit.recipe.keys import keys_of
from x2kit.recipe.schema import ROOT, Entries, Section, Shape, below

REFERENCE = Path(__file__).parent / "reference"
NOTE = "<!-- Written by docs/generate.py from the code. Change the code, then run it again. -->"
PUBLIC = {
    *(
        "forward",
        "prepare",
        "pool_regions",
        "token_embedding",
        "read_partly",
        "read_next",
        "fuse_next",
        "save_assets",
        "no_decay",
        "fresh",
        "hidden_matrices",
    ),
    *("encode", "decode", "starts_word", "save", "log_frequencies", "to_json"),
    *("__len__", "__getitem__", "texts", "fingerprint"),
    *("start", "log", "end", "__call__"),
    *("image", "video", "text", "view", "pixels"),
    *("draw", "collate", "choose_images", "counts", "loss", "predict", "measure", "results"),
    *("spread", "collect", "select"),
    *("expand", "gather", "from_rank_zero", "concatenate", "add"),
    *(
        "upsert",
        "update",
        "delete",
        "count",
        "scan",
        "search",
        "recall",
        "stats",
        "compact",
        "close",
        "check",
    ),
    *("require_columns", "check_queries"),
}
"""Methods of working objects that a plugin writes, overrides or calls."""
WITH_DEFAULT = {"missing_heads", "build", "check", "run", "records", "scaled", "state_size"}
"""Methods of settings that a plugin may override."""
CONTRACTS: dict[str, tuple[str, Sequence[type]]] = {
    "vision": (
        "Vision encoders",
        (KINDS["vision"], encoders.VisionEncoder, encoders.VisionFeatures, ImageSpec, VisionFacts),
    ),
    "text": ("Text encoders", (KINDS["text"], encoders.TextEncoder, Tokenizer, SpecialIds, TextFacts)),
    "fusion": (
        "Fusion encoders",
        (
            *(KINDS["fusion"], encoders.FusionEncoder, encoders.Context, FusionFacts),
            *(PackedContext, ReadTokens, GroupedTokens, TokenGroup),
        ),
    ),
    "head": ("Heads", (KINDS["head"],)),
    "source": ("Data sources", (KINDS["source"], Source)),
    "task": (
        "Tasks",
        (
            *(KINDS["task"], Task, TaskRow, Reader, EncodedRow, Texts, FusedTexts, Prediction),
            *(PretrainingConfig, Pretraining, View, TaskContext, ItemValues, Ranking, Ranks),
        ),
    ),
    "objective": ("Objectives", (KINDS["objective"], Objective, StreamFeatures, EncodedTexts)),
    "optimizer": ("Optimisers", (KINDS["optimizer"], ParameterGroup)),
    "reporter": ("Reporters", (KINDS["reporter"], Reporter, RunFacts)),
    "index": ("Indexes", (KINDS["index"], Index, IndexSpec, Rows, Hit, BuildReport, IndexStats)),
    "subcommand": ("Subcommands", (Subcommands,)),
}
"""A page of docs/reference/hooks for each kind: its title and its classes."""
FREE_NAME = {
    "data.streams": "STREAM",
    "data.streams.STREAM.objectives": "OBJECTIVE",
    "evaluation.tasks": "TASK",
    "evaluation.sources": "TASK",
    "evaluation.expectations": "NAME",
    "training.reporters": "REPORTER",
}
"""What stands for a name that the recipe chooses; the names of losses are fixed and are listed below the table."""


def page(title: str, *parts: str) -> str:
    """A page of parts with a blank line between them."""
    return "\n\n".join([NOTE, f"# {title}", *(part.strip() for part in parts if part.strip())]) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; a bar inside a cell does not end it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(_cell(cell) for cell in line)} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def documented(thing: Any) -> str:
    """The docstring as Markdown: what it says of arguments becomes a list."""
    lines: list[str] = []
    for line in inspect.cleandoc(thing.__doc__ or "").splitlines():
        head = re.fullmatch(r"(Args|Attributes|Returns|Raises): ?(.*)", line)
        entry = re.fullmatch(r"    (\w[\w, ]*): (.*)", line)
        if head:
            lines += ["", f"**{head[1].replace('Args', 'Arguments')}** {head[2]}".strip()]
            lines += [] if head[2] else [""]
        elif entry:
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        else:
            lines.append(f"  {line.strip()}" if line.startswith("     ") else line)
    return "\n".join(lines)


def sentence(text: str) -> str:
    """With a capital in front and a full stop behind."""
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


# Recipe keys


def sections(shape: Shape = ROOT, key: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Every section of a recipe with its key, parents first."""
    if isinstance(shape, Entries):
        yield from sections(shape.of, f"{key}.{FREE_NAME.get(key, 'LOSS')}")
    elif isinstance(shape, Section):
        yield key, shape.model
        for name in shape.model.model_fields:
            yield from sections(below(shape, name), f"{key}.{name}".strip("."))


def recipe_keys() -> str:
    """Every key of a recipe that is not a component's."""
    parts = [
        "A key is nested YAML in a recipe file, and has dots on the command line: "
        "`--training.steps 200`. The settings of the components that a recipe names (encoders, sources, tasks) "
        "are on [their own page](components.md). On the terminal: `x2kit train --training.help`.",
    ]
    for key, model in sections():
        title = f"`{key}`" if key else "The recipe"
        base = "" if key else (
            "A file may also name another recipe, or a list of them, as its `base`: a path relative to "
            "the file, or the name of a shipped recipe. The file is laid over it."
        )  # fmt: skip
        parts += [f"## {title}", documented(model), base, _keys(model)]
    rows = [
        [f"`{layout}`", ", ".join(f"`{name}`" for name in names)] for layout, names in STEP_LOSSES.items()
    ]
    parts += ["## Losses by layout of rows", table(["layout", "losses"], rows)]
    parts += [
        "## Keys that may change on resume",
        "With `x2kit train --resume`. A key includes all keys below it; no other key may change.",
        table(["key", "effect of a change"], [[f"`{key}`", _meaning(mark)] for key, mark in marked_keys()]),
    ]
    return page("Recipe keys", *parts)


def _meaning(mark: OnResume) -> str:
    return "it applies to the remaining steps" if mark.numbers_change else "no number of the run changes"


def _keys(model: type[BaseModel]) -> str:
    rows = []
    for fact in keys_of(model):
        default = "**required**" if fact.default is None else f"`{fact.default}`"
        default = fact.default if fact.default == "see its keys" else default
        rows.append([f"`{fact.name}`", fact.type, default, fact.description])
    return table(["key", "type", "default", "meaning"], rows) if rows else "It has no settings."


# Components


def shipped_components() -> list[Registered]:
    """What x2kit itself brings; other plugins of this environment are left out."""
    plugins = load_plugins()
    if plugins.quarantined:
        raise SystemExit("\n".join(state.error or state.name for state in plugins.quarantined))
    return [entry for entry in plugins.registry if entry.distribution.split(" ")[0] == "x2kit"]


def _file(kind: str) -> str:
    return "indexes" if kind == "index" else kind  # index.md would be the page of the folder


def components() -> str:
    """Every component with its settings."""
    entries = shipped_components()
    parts = [
        "The components that x2kit's plugins register. A recipe names a component by its class name, with settings "
        "under `init_args`; on the command line a setting is a key of its own: `--model.vision.depth 6`. "
        "`x2kit plugins` lists those of your environment.",
    ]
    for kind in KINDS:
        parts.append(f"## {CONTRACTS[kind][0]}")
        for entry in entries:
            if entry.component.kind == kind:
                parts += [f"### {entry.component.component_name()}", f"Plugin `{entry.plugin}`."]
                parts += [documented(entry.component), *_settings(entry.component)]
    return page("Components", *parts)


def _settings(component: type[ComponentConfig]) -> Iterator[str]:
    yield _keys(component)
    shape = Section(component)
    for name in component.model_fields:
        inner = below(shape, name)
        if isinstance(inner, Section):
            yield f"Settings inside `{name}`. {documented(inner.model)}"
            yield _keys(inner.model)


# Hooks


def hooks() -> str:
    """Every hook with its exact signature, and the pages of the kinds of component."""
    parts = [
        f"A plugin is a module that implements hooks. The API has version {API_VERSION} ([what may change]"
        "(plugin-api.md)). A plugin may name the versions that it supports, "
        '`x2kit_api = "1"` or a range such as `">=1,<3"`; with another version of x2kit it is quarantined. '
        "[Write a plugin](../how-to/write-a-plugin.md) shows a hook and a component in use.",
    ]
    for name in hook_names():
        hook = getattr(hookspecs, name)
        parts += [f"## {name}", f"```text\n{name}{_signature(hook)}\n```", documented(hook)]
    kinds = [
        [f"[{title}](hooks/{_file(kind)}.md)", _names(types)] for kind, (title, types) in CONTRACTS.items()
    ]
    parts += [
        "## Contracts by kind",
        "The base class of a component is its kind; `build` or `open` returns an object of the contract. All names "
        "are imported from `x2kit.plugin`. In shapes, B is rows, L text tokens, N patches, D width; masks are bool "
        "and True is kept.",
        table(["kind", "classes"], kinds),
        "## All encoders",
        *_contract(encoders.Encoder),
    ]
    return page("Hooks", *parts)


def _names(types: Sequence[type]) -> str:
    return ", ".join(f"`{one.__name__}`" for one in types)


def kind_page(title: str, types: Sequence[type]) -> str:
    """The base class, the contract and the named tuples of one kind."""
    parts = [part for one in types for part in (f"## {one.__name__}", *_contract(one))]
    return page(title, "[All hooks and kinds](../hooks.md).", *parts)


def _contract(owner: type) -> Iterator[str]:
    fields = getattr(owner, "_fields", None)
    if fields:
        yield f"`{', '.join(fields)}`"
    yield documented(owner)
    if issubclass(owner, ComponentConfig):
        names = owner.__abstractmethods__ | WITH_DEFAULT & set(vars(owner))
        own = vars(owner).items()
        properties = [[f"`{name}`", each.__doc__ or ""] for name, each in own if isinstance(each, property)]
        yield table(["property", "meaning"], properties) if properties else ""
    else:
        names = {name for name, value in vars(owner).items() if inspect.isfunction(value)} & PUBLIC
    yield from _methods(owner, sorted(names))


def _methods(owner: type, names: Sequence[str]) -> Iterator[str]:
    for name in sorted(names, key=list(vars(owner)).index):
        method = getattr(owner, name)
        yield f"```text\n{name}{_signature(method)}\n```"
        yield documented(method)


def _signature(function: Callable[..., Any]) -> str:
    return str(inspect.signature(function)).replace("'", "")


# The model


def model() -> str:
    """The model class: images and texts to tensors, then the methods for tensors."""
    from x2kit.model import X2VLM, boxes_in_pixels, load  # the only page that needs torch

    own = vars(X2VLM)
    public = [name for name in own if not name.startswith("_") and not isinstance(own[name], property)]
    methods = [name for name in public if callable(getattr(X2VLM, name)) and name != "from_pretrained"]
    facts = [[f"`{name}`", value.__doc__ or ""] for name, value in own.items() if isinstance(value, property)]
    people = ["read", "tokenize"]
    parts = [
        "`x2kit.model.load` gives an `X2VLM`, a `torch.nn.Module` of three encoders and the heads; `x2kit.load` gives "
        "it as `module` of an object with methods for [images and texts](../how-to/use-a-model.md). "
        "`x2kit.model.save_weights` writes its weights, recipe, tokenizer and preprocessing.",
        f"```text\nx2kit.model.load{_signature(load)}\n```",
        documented(load),
        "## Images and texts in",
        "Both take one image or text, or several in any order of types: paths, URLs, bytes of encoded files, "
        "PIL images, arrays, tensors. A single text is a `str`, a batch of images a tensor or an array of four axes.",
        *_methods(X2VLM, people),
        "## Coordinates",
        "| where | form | unit |\n| --- | --- | --- |\n"
        "| `regions` of a [record](records.md) | left, top, width, height | pixels of the stored image |\n"
        "| `Model.locate`, `Model.embed_regions` | left, top, width, height | pixels of the original image |\n"
        "| `X2VLM.predict_bbox`, `encode_regions`, the box losses | centre x, centre y, width, height | "
        "share of the image's width and height, 0 to 1 |",
        "The origin is the upper left corner. An image is resized to the encoder's square "
        "without keeping its aspect ratio, so shares of the image and of the square are equal.",
        f"```text\nx2kit.model.boxes_in_pixels{_signature(boxes_in_pixels)}\n```",
        documented(boxes_in_pixels),
        "Other forms: `torchvision.ops.box_convert`.",
        "## The class",
        f"```text\nX2VLM{_signature(X2VLM)}\n```",
        documented(X2VLM),
        table(["property", "meaning"], facts),
        "## Tensors in",
        "B rows, L text tokens, N patches, D width, E common width, M distinct images; masks are bool, True is kept.",
        *_methods(X2VLM, [name for name in methods if name not in people]),
    ]
    return page("The model", *parts)


# Command line


def command_line() -> str:
    """Every subcommand with its arguments and examples."""
    parts = [
        "`--help` of each subcommand prints the same. Exit status: 0, 2 for an error that you can fix, 130 on Ctrl-C."
    ]
    for subcommand, module, help in _subcommands():
        parser = ArgumentParser()
        module.add_arguments(parser)
        parts += [f"## x2kit {subcommand}", sentence(help), *_arguments(subcommand, parser)]
        paragraphs = module.EXAMPLES.removeprefix("examples:\n").split("\n\n")
        examples = [paragraph for paragraph in paragraphs if paragraph.startswith("  ")]
        parts.append(_text("\n\n".join(examples)))
        parts += [paragraph for paragraph in paragraphs if paragraph not in examples]
    keys = KEY_HELP.strip().removeprefix("recipe keys:\n").splitlines()
    parts += ["## Recipe keys as options", sentence(keys[0].strip()), _text("\n".join(keys[1:]))]
    return page("Command line", *parts)


def _subcommands() -> Iterator[tuple[str, ModuleType, str]]:
    """Name, module and help: x2kit's own, then those of its plugins."""
    for name in SUBCOMMANDS:
        module = import_module(module_name(name))
        yield name, module, module.HELP
    for brought in load_plugins().subcommands:
        if brought.distribution.split(" ")[0] == "x2kit":
            yield (
                brought.name,
                import_module(brought.module),
                f"{brought.help}; of the plugin {brought.plugin}",
            )


def _arguments(subcommand: str, parser: ArgumentParser) -> Iterator[str]:
    rows = []
    for action in parser._actions:
        inner = getattr(action, "_name_parser_map", None)
        if inner:  # actions of a subcommand
            for name, own in inner.items():
                yield f"### x2kit {subcommand} {name}"
                yield sentence(own.description or "")
                yield from _arguments(subcommand, own)
        elif action.dest != "help":
            choices = f"{{{','.join(action.choices)}}}" if action.choices else action.dest.upper()
            value = f" {action.metavar or choices}" if action.nargs != 0 else ""
            names = [f"`{name}{value}`" for name in action.option_strings] or [f"`{action.dest}`"]
            rows.append([", ".join(names), action.help or ""])
    if rows:
        yield table(["argument", "meaning"], rows)


def _text(text: str) -> str:
    return f"```text\n{inspect.cleandoc(text)}\n```"


# Errors


def error_classes() -> str:
    """Every error class, what it is for and what it extends."""
    parts = [
        "Errors caused by a recipe, a plugin, a file or the machine. The command line prints the message without a "
        "traceback; any other exception is a bug in x2kit.",
    ]
    for name, value in vars(errors).items():
        if isinstance(value, type) and value.__module__ == errors.__name__:
            bases = ", ".join(f"`{base.__name__}`" for base in value.__bases__ if base is not object)
            parts += [f"## {name}", f"A kind of {bases}." if bases else "", documented(value)]
    parts += [
        "## Reason",
        "The reasons for skipping a record: values of `DataError.reason`, by which broken records are counted. In a "
        "plugin: `raise DataError(message, reason=Reason.FIELD_MISSING)`. "
        "[Check your data](../how-to/check-your-data.md) describes the counts.",
        table(
            ["`Reason`", "called", "meaning"],
            [[f"`{reason.name}`", reason.value, reason.explanation] for reason in Reason],
        ),
    ]
    return page("Errors", *parts)


# Recipes


def recipes() -> str:
    """Every shipped recipe and overlay by folder."""
    parts = [
        "Every name is a file of `recipes/`; `x2kit recipes show NAME` prints it with the place of "
        "each value, and comments in the file give sources. Parameters, memory, "
        "operations and hours of all of them: `x2kit recipes validate --all`, see "
        "[Write a recipe](../how-to/write-a-recipe.md#what-it-costs). Batch sizes are global ones, of all devices "
        "together. Recipes of `pretrain/` and `finetune/` name files of data that are yours, relative to the working "
        "directory: `x2kit recipes copy` makes one of them a file of your own.",
    ]
    folders: dict[str, list[list[str]]] = {}
    for file in shipped():
        name, node = str(file.name), read_one(file).child("description")
        folders.setdefault(name.split("/")[0], []).append(
            [f"`{name}`", " ".join(str(node and node.value).split())]
        )
    for folder, rows in folders.items():
        parts += [f"## `{folder}/`", table(["recipe", "description"], rows)]
    return page("Recipes", *parts)


def text_overlays() -> str:
    """Every text overlay over every shipped recipe, with the parameters of the model."""
    entries, faults = swaps_as_json("text")
    if faults:
        raise RecipeError(faults)
    head, *rows = swaps_as_table(entries)
    return page(
        "Text overlays over every recipe",
        "Parameters in millions of each shipped recipe under each overlay that exchanges the text encoder, with no "
        "other setting. Trained from scratch, the new encoder has the sizes of the one that it replaces. XLM-R has its "
        "published vocabulary where the recipe fixes a published one; other vocabularies are trained on the run's "
        "texts, and are taken to have the most ids that they can get where these texts are not shipped. "
        "`x2kit recipes validate --swaps text` checks and prints the same. Overlays that name published weights "
        "(`overlays/pretrained/`) are checked where these are downloaded, and are not in the table.",
        table(head, [[f"`{row[0]}`", *row[1:]] for row in rows]),
    )


SLOW_PAGES: dict[str, Callable[[], str]] = {"text-overlays.md": text_overlays}
"""Pages that take a minute, which `--quick` leaves out."""
PAGES: dict[str, Callable[[], str]] = {
    "recipes.md": recipes,
    "recipe-keys.md": recipe_keys,
    "components.md": components,
    "hooks.md": hooks,
    **{f"hooks/{_file(kind)}.md": partial(kind_page, *contract) for kind, contract in CONTRACTS.items()},
    "model.md": model,
    "cli.md": command_line,
    "errors.md": error_classes,
}


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or with --check say which are stale; --quick leaves out slow ones. Returns the exit status."""
    stale = []
    for name, write in (PAGES if "--quick" in arguments else PAGES | SLOW_PAGES).items():
        file, text = REFERENCE / name, write()
        if file.is_file() and file.read_text(encoding="utf-8") == text:
            continue
        stale.append(name)
        if "--check" not in arguments:
            file.parent.mkdir(exist_ok=True)
            file.write_text(text, encoding="utf-8")
    if "--check" in arguments and stale:
        sys.stderr.write(f"stale: {', '.join(stale)}; run: python docs/generate.py\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
