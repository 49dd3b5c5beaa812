"""Keep converted official checkpoints in the cache. Imports torch.

converted/KEY/          a weights directory; the key is a hash of file, tokenizer, plugins and version of x2kit
converted/KEY-TASK/     the same with the evaluation of the configuration in the file, which depends on the folder that
                        its paths are relative to; its other files are hard links
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from x2kit.errors import WeightsError
from x2kit.hub.repositories import fetch_tokenizer
from x2kit.interop.convert import FACTS, from_official, recorded_config
from x2kit.interop.official_tasks import official_evaluation
from x2kit.io.atomic import atomic_folder
from x2kit.io.cache import cache_folder, locked_entry
from x2kit.io.identity import Progress, own_version
from x2kit.io.run_directory import MODEL, RECIPE
from x2kit.model.config import HeadsConfig
from x2kit.plugin.choice import context_of
from x2kit.plugin.loading.carried import digest
from x2kit.plugin.loading.file_modules import is_path, locate
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.loading.trust import remember
from x2kit.plugin.registry import Registry

if TYPE_CHECKING:
    from x2kit.plugin.components import TextEncoderConfig

LAYOUT = 1
"""Part of every key; raised when conversion changes within a version of x2kit."""


def converted(
    file: Path,
    sha256: str,
    tokenizer: str | None,
    plugins: Sequence[str],
    progress: Progress,
) -> Path:
    """Return the weights directory of an official checkpoint, converted unless it is in the cache.

    Args:
        file: the checkpoint.
        sha256: its hash.
        tokenizer: name or directory; None for the usual one of the vocabulary.
        plugins: files and modules whose components may match, in addition to installed ones.
        progress: called before the conversion.
    Raises: WeightsError if it cannot be converted, or its tokenizer is unknown; StorageError for a full disk.
    """
    names = [str(locate(name, Path())) if is_path(name) else name for name in plugins]
    directory = cache_folder() / "converted" / _key(sha256, tokenizer, names)
    loaded = load_plugins(names)
    loaded.require(names)
    with locked_entry(directory):
        if not (directory / MODEL).is_file():
            _clear(directory)
            progress(f"converting {file.name}", 0, None)
            _convert(file, directory, loaded.registry, tokenizer, names)
            remember(names, directory)  # the user named these plugins for this checkpoint
        return _with_evaluation(directory, loaded.registry, names)


def _clear(directory: Path) -> None:
    """Remove what killed conversions have left; the caller holds the lock, so none is running."""
    for leftover in directory.parent.glob(f".{directory.name}.*.partial"):
        shutil.rmtree(leftover)


def _key(sha256: str, tokenizer: str | None, plugins: Sequence[str]) -> str:
    own = None if tokenizer is None else digest(Path(tokenizer)) if Path(tokenizer).is_dir() else tokenizer
    parts = [digest(Path(name)) if is_path(name) else name for name in plugins]
    facts = json.dumps([LAYOUT, own_version(), sha256, own, parts])
    return hashlib.sha256(facts.encode()).hexdigest()[:24]


def _convert(
    file: Path, directory: Path, registry: Registry, tokenizer: str | None, plugins: Sequence[str]
) -> None:
    def chosen(text: TextEncoderConfig) -> str:
        name = tokenizer or text.usual_tokenizer()
        if name is None:
            raise WeightsError(
                f"{file}: official checkpoints have no tokenizer; pass tokenizer=NAME_OR_DIRECTORY, for example "
                '"bert-base-uncased" or "xlm-roberta-base", or write a weights directory with x2kit convert --tokenizer'
            )
        try:
            return fetch_tokenizer(name)
        except WeightsError as error:
            raise WeightsError(
                f"{file}: {error}\n  a copy in a directory: tokenizer=DIRECTORY, or x2kit convert --tokenizer DIRECTORY"
            ) from error

    from_official(file, directory, registry, chosen, plugins=plugins, data=None)


def _with_evaluation(directory: Path, registry: Registry, plugins: Sequence[str]) -> Path:
    """Return the directory, or a copy with the evaluation of the checkpoint's configuration, if it has one."""
    facts = json.loads((directory / FACTS).read_text(encoding="utf-8"))
    tree: dict[str, Any] = yaml.safe_load((directory / RECIPE).read_text(encoding="utf-8"))
    heads = HeadsConfig.model_validate(tree["model"].get("heads") or {}, context=context_of(registry))
    found = official_evaluation(recorded_config(facts["beside"]), heads, Path.cwd())
    if found is None:
        return directory
    _, settings = found
    text = yaml.safe_dump({**tree, "evaluation": settings}, sort_keys=False, allow_unicode=True)
    copy = directory.with_name(f"{directory.name}-{hashlib.sha256(text.encode()).hexdigest()[:8]}")
    if not (copy / RECIPE).is_file():
        _link(directory, copy, {RECIPE: text})
        remember(plugins, copy)
    return copy


def _link(source: Path, target: Path, texts: Mapping[str, str]) -> None:
    """Copy a folder by hard links, with other texts for some files."""
    with atomic_folder(target) as place:
        for file in sorted(source.rglob("*")):
            copy = place / file.relative_to(source)
            if file.is_dir():
                copy.mkdir()
            elif copy.name in texts:
                copy.write_text(texts[copy.name], encoding="utf-8")
            else:
                try:
                    os.link(file, copy)
                except OSError:  # a file system without hard links
                    shutil.copy2(file, copy)
