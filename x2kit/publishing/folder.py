"""Write the files of a published model, without code and without what identifies a machine. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from x2kit.errors import X2KitError
from x2kit.io.atomic import storage_errors
from x2kit.io.identity import sha256_of
from x2kit.io.run_directory import LORA, MODEL, PREPROCESSING, RECIPE, SELECTION
from x2kit.model.saved_recipe import MANIFEST
from x2kit.publishing.facts import Facts
from x2kit.publishing.redaction import Redactor
from x2kit.publishing.results import eval_results
from x2kit.recipe.yaml_text import to_yaml

CARD, GENERATED, PUBLISHED = "README.md", "README.generated.md", "published.json"
FOLDERS = ("tokenizer", "vision", "text", "fusion")
CODE = frozenset(
    [".py", ".pyc", ".pyd", ".so", ".dll", ".dylib", ".exe", ".sh", ".bat", ".ps1", ".ipynb", ".js", ".jar"]
)
"""Suffixes of programs."""
PICKLES = frozenset([".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth", ".ckpt"])
"""Suffixes of pickled files, which run code when they are read."""
VOCABULARIES = ("tokenizer.json", "vocab.json")
"""Files whose texts are tokens, never paths."""
_FILES = "files"


@dataclass(frozen=True)
class PreviousCard:
    """The card that is there already.

    Attributes:
        text: its content; None if there is none.
        generated: SHA-256 of the card that x2kit wrote last; None if it wrote none.
        files: files of the last publication, with their SHA-256.
    """

    text: bytes | None = None
    generated: str | None = None
    files: Mapping[str, str] | None = None

    @property
    def changed(self) -> bool:
        """Whether a person wrote or changed the card."""
        return self.text is not None and hashlib.sha256(self.text).hexdigest() != self.generated


def parse_published(content: bytes | None, name: str) -> tuple[str | None, dict[str, str]]:
    """Parse `published.json`. Raises X2KitError if it is damaged.

    Returns: SHA-256 of the generated card, and of all files by name.
    """
    if content is None:
        return None, {}
    try:
        found = json.loads(content)
        return str(found["card_sha256"]), {str(name): str(digest) for name, digest in found[_FILES].items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise X2KitError(f"{name}: not written by x2kit publish, or damaged: {error}") from error


def read_previous(directory: Path) -> PreviousCard:
    """Read the card of a directory that may be replaced.

    Raises: X2KitError for a directory with files that x2kit publish did not write, or that were changed since, except
        for the card.
    """
    if not directory.exists():
        return PreviousCard()
    if not directory.is_dir():
        raise X2KitError(f"{directory}: is a file; choose another --to")
    found = {
        file.relative_to(directory).as_posix(): file for file in directory.rglob("*") if not file.is_dir()
    }
    if not found:
        return PreviousCard()
    if PUBLISHED not in found:
        raise X2KitError(
            f"{directory}: is not empty and has no {PUBLISHED}, so x2kit publish did not write it; choose another --to"
        )
    generated, written = parse_published(found[PUBLISHED].read_bytes(), str(directory / PUBLISHED))
    kept = {CARD, GENERATED, PUBLISHED}
    foreign = sorted(name for name in found if name not in written and name not in kept)
    changed = sorted(
        name
        for name, digest in written.items()
        if name in found and name not in kept and sha256_of(found[name]) != digest
    )
    if foreign or changed:
        what = [f"not written by x2kit publish: {', '.join(foreign)}"] if foreign else []
        what += [f"changed since: {', '.join(changed)}"] if changed else []
        raise X2KitError(f"{directory}: {'; '.join(what)}; move these files, or choose another --to")
    text = found[CARD].read_bytes() if CARD in found else None
    return PreviousCard(text, generated, written)


def redacted_contents(facts: Facts) -> Redactor:
    """Return a redactor that knows every text of the recipe and the results."""
    return Redactor(facts.recipe.model_dump(mode="json"), _recipe(facts), dict(facts.results))


def fill_folder(
    folder: Path, facts: Facts, redactor: Redactor, datasets: Mapping[str, str], version: str
) -> dict[str, str]:
    """Write everything except card, example image and `published.json`.

    Args:
        folder: an empty folder.
        facts: of the model.
        redactor: of `redacted_contents`.
        datasets: see `eval_results`.
        version: of x2kit.
    Returns: files of the weights directory that are not published, with the reason.
    Raises: StorageError if the disk is full.
    """
    with storage_errors(folder):
        left_out = dict(_copy_weights(facts.weights, folder, redactor))
        _write_recipe(folder, facts, redactor)
        for name, result in facts.results.items():
            shown = redactor.value({**result, "checkpoint": {**result["checkpoint"], "path": MODEL}})
            _write_json(folder / name, shown)
            listed = eval_results(shown, datasets, version)
            if yaml.safe_load(listed):
                target = folder / ".eval_results" / f"{Path(name).stem}.yaml"
                target.parent.mkdir(exist_ok=True)
                target.write_text(listed, encoding="utf-8")
    return left_out


def _recipe(facts: Facts) -> dict[str, Any]:
    tree = yaml.safe_load((facts.weights / RECIPE).read_text(encoding="utf-8"))
    assert isinstance(tree, dict)
    return tree


def _write_recipe(folder: Path, facts: Facts, redactor: Redactor) -> None:
    """Write the recipe without reporters, whose settings name accounts and servers, and the hashes of its plugins."""
    tree = _recipe(facts)
    plugins = tree.pop("plugins", None)
    tree = redactor.value(tree)
    if (tree.get("training") or {}).get("reporters"):
        tree["training"]["reporters"] = {}
    if plugins:
        names = [f"plugins/{Path(name).name}" if "/" in name or "\\" in name else name for name in plugins]
        tree = {"description": tree.pop("description", ""), "plugins": names, **tree}
    (folder / RECIPE).write_text(to_yaml(tree), encoding="utf-8")
    manifest = facts.weights / MANIFEST
    known = json.loads(manifest.read_text(encoding="utf-8")) if manifest.is_file() else {}
    needed = [
        f"{plugin.name} {plugin.detail.removeprefix('version ')}"
        for plugin in facts.plugins
        if plugin.kind == "distribution"
    ]
    own = [name for name in known.get("installed", ()) if name.startswith("x2kit ")]
    # other plugins of the machine have nothing to do with this model
    _write_json(
        folder / MANIFEST,
        {
            "files": known.get("files", {}),
            "modules": known.get("modules", {}),
            "installed": sorted({*own, *needed}),
        },
    )


def _copy_weights(weights: Path, folder: Path, redactor: Redactor) -> Iterator[tuple[str, str]]:
    """Copy the files of a weights directory; yield those that are not published, with the reason."""
    for file in sorted(weights.rglob("*")):
        name = file.relative_to(weights).as_posix()
        top = name.partition("/")[0]
        if file.is_dir() or name in (RECIPE, MANIFEST):
            continue
        if top == "plugins":
            continue  # named with their hashes in the card
        if reason := _refused(file, name, top):
            yield name, reason
            continue
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix == ".json" and name not in (PREPROCESSING,) and file.name not in VOCABULARIES:
            _copy_json(file, target, redactor)
        else:
            shutil.copyfile(file, target)


def _refused(file: Path, name: str, top: str) -> str:
    """Say why a file is not published; empty if it is."""
    if name not in (MODEL, LORA, PREPROCESSING, SELECTION) and (top not in FOLDERS or "/" not in name):
        return "not part of a weights directory"
    if file.is_symlink() and not file.resolve().is_relative_to(file.parents[name.count("/")].resolve()):
        return "a link to a file outside the weights directory"
    if file.suffix.lower() in CODE:
        return "code"
    if file.suffix.lower() in PICKLES:
        return "a pickled file, which can run code; save it as safetensors or JSON"
    return ""


def _copy_json(file: Path, target: Path, redactor: Redactor) -> None:
    """Copy settings of an encoder or tokenizer, without the paths that libraries note in them."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, ValueError):
        shutil.copyfile(file, target)
        return
    cleaned = _without_own_paths(content, redactor)
    if cleaned == content:
        shutil.copyfile(file, target)
    else:
        _write_json(target, cleaned)


def _without_own_paths(content: Any, redactor: Redactor) -> Any:
    """Shorten texts that are paths of this machine; others may be tokens and stay."""
    if isinstance(content, dict):
        return {key: _without_own_paths(item, redactor) for key, item in content.items()}
    if isinstance(content, list):
        return [_without_own_paths(item, redactor) for item in content]
    if isinstance(content, str) and redactor.is_of_this_machine(content):
        return redactor.text(content)
    return content


def _write_json(file: Path, content: Any) -> None:
    file.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def write_card(folder: Path, card: str, previous: PreviousCard, version: str) -> bool:
    """Write the card, keeping one that a person changed, and the list of all files.

    Returns: whether a person's card was kept; the generated one is then README.generated.md.
    """
    data = card.encode()
    with storage_errors(folder):
        (folder / (GENERATED if previous.changed else CARD)).write_bytes(data)
        if previous.changed:
            assert previous.text is not None
            (folder / CARD).write_bytes(previous.text)
        files = {
            file.relative_to(folder).as_posix(): sha256_of(file)
            for file in sorted(folder.rglob("*"))
            if file.is_file()
        }
        _write_json(
            folder / PUBLISHED,
            {"x2kit": version, "card_sha256": hashlib.sha256(data).hexdigest(), _FILES: files},
        )
    return previous.changed
