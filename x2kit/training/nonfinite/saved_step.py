"""A step whose numbers went wrong, saved such that `x2kit debug` can make it again. Imports torch.

    RUN/non-finite/step-0000812/
      state.pt        step, batch, the parameters before its update; tensors and plain values only
      records.json    which losses were not finite, and the ids of all records of the batch, by stream
      recipe.yaml     of the run as it was
      SHA256SUMS      of every file, as `sha256sum --check` reads them

Steps count from 1 in names and messages, as in metrics.jsonl.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from x2kit.data.pipeline.batch import (
    Batch,
    MaskedTexts,
    PairedRows,
    ParallelRows,
    RegionImages,
    Regions,
    TextRows,
    Texts,
    Whole,
)
from x2kit.errors import CheckpointError, StorageError
from x2kit.io.atomic import atomic_folder
from x2kit.io.run_directory import RECIPE
from x2kit.model.saved_recipe import write_recipe
from x2kit.training.checkpoint.checkpoints import (
    STATE,
    bytes_of,
    checkpoints,
    read_state,
    step_of,
    write_state,
)
from x2kit.training.config import TrainingConfig

FOLDER, RECORDS = "non-finite", "records.json"
SHOWN = 5
"""Record ids of each stream in a message; all of them are in the file."""
_NAME = re.compile(r"step-(\d+)")
_TUPLES: dict[str, Any] = {
    kind.__name__: kind
    for kind in (Batch, PairedRows, ParallelRows, TextRows, Texts, MaskedTexts, Regions, RegionImages, Whole)
}


class SavedStep(NamedTuple):
    """A step and what it was made of.

    Attributes:
        step: from 0.
        batch: of all processes, on any device.
        names: of the values that were not finite.
        model: the parameters before the update, by name.
        recipe: as YAML.
        scale: of the losses in fp16.
    """

    step: int
    batch: Batch
    names: list[str]
    model: Mapping[str, Tensor]
    recipe: str
    scale: float = 1.0


def save_step(run: Path, saved: SavedStep) -> Path:
    """Write a step into a run directory, whole or not at all.

    Returns: the folder.
    Raises: StorageError if the disk takes no more.
    """
    path = run / FOLDER / f"step-{saved.step + 1:07d}"
    batch = saved.batch._replace(broken=[])
    state = {
        "step": saved.step,
        "names": saved.names,
        "batch": _plain(batch),
        "model": dict(saved.model),
        "scale": saved.scale,
    }
    with atomic_folder(path, needs=bytes_of(state)) as directory:
        write_recipe(saved.recipe, directory)
        records = {"step": saved.step + 1, "not_finite": saved.names, "records": batch.records}
        text = json.dumps(records, ensure_ascii=False, indent=1)
        (directory / RECORDS).write_text(f"{text}\n", encoding="utf-8")
        write_state(directory, state)
    return path


def saved_steps(run: Path) -> dict[int, Path]:
    """The folders of the steps that a run saved, by step from 1, oldest first."""
    found = {
        int(match[1]): path for path in (run / FOLDER).glob("step-*") if (match := _NAME.fullmatch(path.name))
    }
    return dict(sorted(found.items()))


def load_step(folder: Path) -> SavedStep:
    """What `save_step` wrote, on the CPU. Raises CheckpointError if it is damaged."""
    state = read_state(folder)
    try:
        recipe = (folder / RECIPE).read_text(encoding="utf-8")
        return SavedStep(
            state["step"], _tuples(state["batch"]), state["names"], state["model"], recipe, state["scale"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / STATE}: not a step that training saved: {error}") from error


def end_of_run(run: Path, saved: SavedStep, config: TrainingConfig, in_a_row: bool) -> str:
    """Save the step after which a run ends, and say everything about it.

    Args:
        run: the run directory.
        saved: the step.
        config: of the run.
        in_a_row: it ends because `max_skipped` updates were left out in a row.
    """
    lines = [f"step {saved.step + 1}: not finite: {', '.join(saved.names)}"]
    if in_a_row:
        lines.append(f"  the last of {config.max_skipped} in a row (training.max_skipped)")
    lines += [f"  records of stream {name}: {_first(ids)}" for name, ids in saved.batch.records.items()]
    try:
        lines.append(f"  saved in {save_step(run, saved)}; to look into it: x2kit debug {run}")
    except StorageError as error:
        lines.append(f"  {error}")
    kept = checkpoints(run)
    newest = f"the checkpoint of step {step_of(kept[-1])} is kept" if kept else "there is no checkpoint yet"
    lines.append(f"  the update was left out; {newest}")
    lines.append(
        "  a lower training.lr, a longer training.warmup or training.precision fp32 are what usually helps"
    )
    if not in_a_row:
        lines.append(
            f"  to go on without such updates: x2kit train --resume --run-dir {run} --training.non_finite skip"
        )
    return "\n".join(lines)


def _first(ids: list[str]) -> str:
    more = f", … {len(ids)} in all" if len(ids) > SHOWN else ""
    return ", ".join(ids[:SHOWN]) + more


def _plain(value: Any) -> Any:
    """Named tuples as dicts, for a file that is read without running code."""
    if type(value).__name__ in _TUPLES and isinstance(value, tuple):
        named = value._asdict()  # type: ignore[attr-defined]
        return {
            "named_tuple": type(value).__name__,
            "fields": {name: _plain(inner) for name, inner in named.items()},
        }
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _tuples(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"named_tuple", "fields"}:
        return _TUPLES[value["named_tuple"]](
            **{name: _tuples(inner) for name, inner in value["fields"].items()}
        )
    if isinstance(value, dict):
        return {name: _tuples(inner) for name, inner in value.items()}
    return value
