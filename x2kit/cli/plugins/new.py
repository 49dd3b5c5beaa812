"""`x2kit plugins new`: write a plugin from the templates in `x2kit/templates/plugin`.

Templates end in `.tmpl`. `MODULE` in paths and `$name`, `$module`, `$class_name` etc. in texts are substituted. The
result passes its tests without changes.
"""

from __future__ import annotations

import importlib.util
import keyword
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath
from string import Template
from typing import Literal, TypeAlias

import jsonargparse

import x2kit
import x2kit.plugin
from x2kit.cli.plugins.file import join_modules
from x2kit.errors import X2KitError
from x2kit.plugin.components import Kind
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.registry import KINDS

HELP = "create a plugin: a distribution that installs and passes its tests, or one file"
MAX_LENGTH = 32
"""Maximum length of a name, so that lines of the templates stay short enough."""
SUFFIX = ".tmpl"
TEMPLATE_NAMES = {
    *("Any", "ClassVar", "Counter", "F", "Field", "Iterable", "Iterator", "Layer", "Mapping", "Path"),
    *("Callable", "Optimizer", "Sequence", "SignOfMomentum", "Table", "Tensor"),
}
"""Names that the templates import or define, other than those of x2kit.plugin."""

Scaffold: TypeAlias = Kind | Literal["pretraining"]
SCAFFOLDS: tuple[Scaffold, ...] = (*KINDS, "pretraining")
"""What can be written: a component of each kind, and a task whose losses are those of pretraining."""
WORDS: dict[Scaffold, str] = {
    "vision": "vision encoder",
    "text": "text encoder",
    "fusion": "fusion encoder",
    "head": "head",
    "source": "data source",
    "task": "task",
    "pretraining": "task of a pretraining stream",
    "objective": "training objective",
    "optimizer": "optimiser",
    "reporter": "reporter",
    "index": "index",
}
RECIPES: dict[Scaffold, str] = {
    "vision": "model:\n  vision: {class_name}",
    "text": "model:\n  text: {class_name}",
    "fusion": "model:\n  fusion: {class_name}",
    "head": "model:\n  heads:\n    extra:\n      {module}: {class_name}",
    "source": (
        "data:\n  streams:\n    images:\n      task: ImageText\n      source:\n"
        "        class_path: {class_name}\n        init_args: {{file: captions.tsv}}"
    ),
    "task": (
        "model:\n  heads:\n    extra:\n      {module}: {class_name}Head\n"
        "data:\n  streams:\n    {module}:\n      task: {class_name}\n      source: &files\n"
        '        class_path: JsonLines\n        init_args: {{files: ["{{split}}.jsonl"]}}\n      batch_size: 16\n'
        "evaluation:\n  tasks:\n    {module}: {class_name}\n  source: *files"
    ),
    "pretraining": (
        "data:\n  streams:\n    {module}:\n      task: {class_name}\n      source:\n        class_path: JsonLines\n"
        '        init_args: {{files: ["{{split}}.jsonl"]}}\n      batch_size: 16'
    ),
    "objective": "data:\n  streams:\n    STREAM:\n      objectives:\n        {module}: {class_name}",
    "optimizer": "training:\n  optimizer: {class_name}",
    "reporter": "training:\n  reporters:\n    {module}: {class_name}",
}
COMMANDS: dict[Scaffold, str] = {
    "index": "x2kit search index FOLDER --model MODEL --index DIR --store {class_name}",
}
"""Commands that name a component which recipes do not."""


@dataclass(frozen=True)
class Names:
    """Names of a plugin's distribution, module and class.

    Attributes:
        distribution: name for pip, `my-encoder`.
        module: import name, `my_encoder`.
        class_name: name in recipes, `MyEncoder`.
    """

    distribution: str
    module: str
    class_name: str

    @classmethod
    def of(cls, name: str, scaffold: Scaffold) -> Names:
        """Derive all names from a distribution's. Raises X2KitError if one is invalid or taken."""
        if not re.fullmatch(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?", name):
            raise _invalid_name(name, "use letters, digits, and single - _ . between them, as in my-encoder")
        if len(name) > MAX_LENGTH:
            raise _invalid_name(name, f"it has {len(name)} characters, at most {MAX_LENGTH} are allowed")
        parts = re.split(r"[-_.]+", name)
        module = "_".join(parts).lower()
        found = cls(name, module, "".join(part[0].upper() + part[1:] for part in parts))
        if not module.isidentifier():
            raise _invalid_name(name, f"{module} is not a valid module name; begin with a letter")
        if keyword.iskeyword(module) or module in sys.stdlib_module_names:
            raise _invalid_name(name, f"{module} is a module or keyword of Python; choose another name")
        spec = importlib.util.find_spec(module)
        if spec is not None and spec.origin is not None:
            raise _invalid_name(
                name, f"a module {module} is already installed ({spec.origin}); choose another name"
            )
        if found.class_name in {*x2kit.plugin.__all__, *TEMPLATE_NAMES}:
            raise _invalid_name(
                name,
                f"its class would be {found.class_name}, a reserved name; choose another name",
            )
        kind = kind_of(scaffold)
        for entry in load_plugins().registry:
            if (entry.component.kind, entry.component.component_name()) == (kind, found.class_name):
                raise _invalid_name(
                    name,
                    f"its class would be {found.class_name}, and plugin {entry.plugin} "
                    f"({entry.distribution}) has a {WORDS[kind]} of this name; choose another name",
                )
        return found


def kind_of(scaffold: Scaffold) -> Kind:
    """Return the kind of the component."""
    return "task" if scaffold == "pretraining" else scaffold


def _invalid_name(name: str, reason: str) -> X2KitError:
    return X2KitError(f"invalid plugin name {name!r}: {reason}")


def write_plugin(names: Names, scaffold: Scaffold, directory: Path) -> list[Path]:
    """Write a distribution with one component.

    Args:
        directory: folder to create, with its parents.
    Returns: the files, sorted.
    Raises: X2KitError if the folder exists.
    """
    if directory.exists():
        raise X2KitError(f"{directory} exists; choose another --directory or name")
    templates = {**dict(_templates("any_kind")), **dict(_templates(scaffold))}
    texts = {
        path.replace("MODULE", names.module): template.read_text(encoding="utf-8")
        for path, template in templates.items()
    }
    values = _values(names, scaffold) | {
        "places": "\n".join(f"- `{path}`" for path, text in sorted(texts.items()) if "TODO" in text),
    }
    written = []
    for path, text in sorted(texts.items()):
        file = directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(Template(text).substitute(values), encoding="utf-8")
        written.append(file)
    return written


def write_file(names: Names, scaffold: Scaffold, directory: Path) -> list[Path]:
    """Write a plugin of one module, joined from the templates of a distribution.

    Args:
        directory: folder of the module, created if missing.
    Returns: the module, and its sample data, if any.
    Raises: X2KitError if one of the files exists; nothing is then written.
    """
    texts = {
        PurePosixPath(path): Template(template.read_text(encoding="utf-8")).substitute(
            _values(names, scaffold)
        )
        for path, template in _templates(scaffold)
        if path.startswith("MODULE/")
    }
    modules = {path.stem: text for path, text in texts.items() if path.suffix == ".py"}
    title = f"{names.class_name}, a {WORDS[scaffold]} in one file."
    written = {directory / f"{names.module}.py": join_modules(modules, names.module, title)}
    written |= {
        directory / path.relative_to("MODULE"): t for path, t in texts.items() if path.suffix != ".py"
    }
    for file in written:
        if file.exists():
            raise X2KitError(f"{file} exists; choose another --directory or name")
    for file, text in written.items():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return list(written)


def _values(names: Names, scaffold: Scaffold) -> dict[str, str]:
    return {
        "name": names.distribution,
        "module": names.module,
        "class_name": names.class_name,
        "kind": kind_of(scaffold),
        "kind_words": WORDS[scaffold],
        "x2kit_version": x2kit.__version__,
        "usage": _usage(names, scaffold),
    }


def _usage(names: Names, scaffold: Scaffold) -> str:
    values = {"module": names.module, "class_name": names.class_name}
    if scaffold in COMMANDS:
        return f"On the command line:\n\n```console\n$ {COMMANDS[scaffold].format(**values)}\n```"
    return f"In a recipe:\n\n```yaml\n{RECIPES[scaffold].format(**values)}\n```"


def _templates(part: str) -> Iterator[tuple[str, Traversable]]:
    """Yield output path and template of each file of a part."""
    pending = [(PurePosixPath(), files("x2kit") / "templates" / "plugin" / part)]
    while pending:
        place, folder = pending.pop()
        for entry in folder.iterdir():
            if entry.is_dir():
                pending.append((place / entry.name, entry))
            elif entry.name.endswith(SUFFIX):
                yield str(place / entry.name.removesuffix(SUFFIX)), entry


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the action's options."""
    parser.add_argument("name", help="name of the distribution, for example my-encoder")
    parser.add_argument(
        "--kind",
        required=True,
        choices=list(SCAFFOLDS),
        help="kind of its component; pretraining is a task with the losses of pretraining",
    )
    parser.add_argument("--file", action="store_true", help="write one module instead of a distribution")
    parser.add_argument(
        "--directory",
        metavar="DIR",
        help="folder to create, ./NAME by default; with --file the folder of the module, . by default",
    )


def run(options: jsonargparse.Namespace) -> int:
    """Write the plugin and print its files and the next command."""
    names = Names.of(options.name, options.kind)
    if options.file:
        module, *others = write_file(names, options.kind, Path(options.directory or "."))
        for file in (module, *others):
            print(file)
        print(f"next: x2kit plugins check {module if module.is_absolute() else f'./{module}'}")
        return 0
    directory = Path(options.directory or options.name)
    for file in write_plugin(names, options.kind, directory):
        print(file)
    place = directory if directory.is_absolute() else f"./{directory}"
    print(f"next: pip install -e {place} && x2kit plugins check {names.module}")
    return 0
