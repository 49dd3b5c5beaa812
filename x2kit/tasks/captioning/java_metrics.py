"""METEOR and SPICE of pycocoevalcap, which run Java. Imports no torch."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import shutil
from collections.abc import Mapping, Sequence

from x2kit.errors import SettingError
from x2kit.tasks.captioning.metric import Words

CLASSES = {"meteor": "Meteor", "spice": "Spice"}


def require_installed(names: Sequence[str]) -> None:
    """Raise SettingError if pycocoevalcap or Java is missing."""
    missing = [
        what
        for what, found in (
            ("pycocoevalcap (pip install 'x2kit[captions]')", importlib.util.find_spec("pycocoevalcap")),
            ("java (a Java runtime on the path)", shutil.which("java")),
        )
        if found is None
    ]
    if missing:
        raise SettingError(
            "java_metrics", f"{', '.join(names)} need {' and '.join(missing)}; or leave the setting empty"
        )


def measure(
    names: Sequence[str], captions: Sequence[Words], references: Sequence[Sequence[Words]]
) -> Mapping[str, float]:
    """Compute the metrics of whole sets, in [0, 1]; arguments as for `cider_d`.

    Raises: SettingError as `require_installed`.
    """
    require_installed(names)
    truth = {row: [" ".join(words) for words in refs] for row, refs in enumerate(references)}
    given = {row: [" ".join(words)] for row, words in enumerate(captions)}
    found = {}
    for name in names:
        scorer = getattr(importlib.import_module(f"pycocoevalcap.{name}.{name}"), CLASSES[name])()
        with contextlib.redirect_stdout(io.StringIO()):  # it prints its progress
            found[name] = float(scorer.compute_score(truth, given)[0])
    return found
