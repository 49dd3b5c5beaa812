"""Save a step that produced NaN or Inf, for `x2kit debug`. Imports torch.

    RUN/non-finite/step-0000812/
      state.pt        step, batch, parameters before its update; tensors and plain values only
      records.json    losses that were NaN or Inf, and the ids of all records of the batch, by stream
      recipe.yaml     of the run
      SHA256SUMS      of every file, for `sha256sum --check`

Steps count from 1 in names and messages, as in metrics.jsonl.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from x2kit.data.pipeline import batch as layout
from x2kit.data.pipeline.batch import Batch
from x2kit.errors import CheckpointError, StorageError
from x2kit.io.atomic import atomic_folder
from x2kit.io.run_directory import RECIPE
from x2kit.model.saved_recipe import write_recipe
from x2kit.training.checkpoint.checkpoints import STATE, newest_kept, read_state, tensor_bytes, write_state
from x2kit.training.config import TrainingConfig

FOLDER, RECORDS = "non-finite", "records.json"
SHOWN_IDS = 5
"""Record ids per stream in a message; records.json has all."""
_NAME = re.compile(r"step-(\d+)")
_NAMED_TUPLES: dict[str, Any] = {
    name: kind for name, kind in vars(layout).items() if isinstance(kind, type) and hasattr(kind, "_fields")
}
"""The parts of a batch."""


class SavedStep(NamedTuple):
    """The inputs of a step.

    Attributes:
        step: from 0.
        batch: of all ranks, on any device.
        names: values that were NaN or Inf.
        model: parameters before the update, by name.
        recipe: as YAML.
        scale: loss scale in fp16.
    """

    step: int
    batch: Batch
    names: list[str]
    model: Mapping[str, Tensor]
    recipe: str
    scale: float = 1.0


def save_step(run: Path, saved: SavedStep) -> Path:
    """Write a step into a run directory atomically.

    Returns: the folder.
    Raises: StorageError if the disk is full or refuses the write.
    """
    path = run / FOLDER / f"step-{saved.step + 1:07d}"
    batch = saved.batch._replace(broken=[])
    state = {
        "step": saved.step,
        "names": saved.names,
        "batch": _to_plain(batch),
        "model": dict(saved.model),
        "scale": saved.scale,
    }
    with atomic_folder(path, needs=tensor_bytes(state)) as directory:
        write_recipe(saved.recipe, directory)
        records = {"step": saved.step + 1, "not_finite": saved.names, "records": batch.records}
        text = json.dumps(records, ensure_ascii=False, indent=1)
        (directory / RECORDS).write_text(f"{text}\n", encoding="utf-8")
        write_state(directory, state)
    return path


def saved_steps(run: Path) -> dict[int, Path]:
    """List the folders of saved steps, by step from 1, oldest first."""
    found = {
        int(match[1]): path for path in (run / FOLDER).glob("step-*") if (match := _NAME.fullmatch(path.name))
    }
    return dict(sorted(found.items()))


def load_step(folder: Path) -> SavedStep:
    """Load a folder of `save_step` on the CPU. Raises CheckpointError if it is damaged."""
    state = read_state(folder)
    try:
        recipe = (folder / RECIPE).read_text(encoding="utf-8")
        return SavedStep(
            state["step"], _from_plain(state["batch"]), state["names"], state["model"], recipe, state["scale"]
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{folder / STATE}: not a saved step: {error}") from error


def save_and_describe(run: Path, saved: SavedStep, config: TrainingConfig, in_a_row: bool) -> str:
    """Save the step that stops a run, and describe it with its records and remedies.

    Args:
        run: the run directory.
        saved: the step.
        config: of the run.
        in_a_row: the run stops because `max_skipped` updates were skipped in a row.
    Returns: the message; it includes a StorageError of saving.
    """
    lines = [f"step {saved.step + 1}: not finite: {', '.join(saved.names)}"]
    if in_a_row:
        lines.append(f"  the last of {config.max_skipped} in a row (training.max_skipped)")
    lines += [f"  records of stream {name}: {_first_ids(ids)}" for name, ids in saved.batch.records.items()]
    try:
        lines.append(f"  saved in {save_step(run, saved)}; to find the module: x2kit debug {run}")
    except StorageError as error:
        lines.append(f"  {error}")
    lines.append(f"  the update was skipped; {newest_kept(run)}")
    lines.append("  a lower training.lr, a longer training.warmup or training.precision fp32 often helps")
    if not in_a_row:
        lines.append(
            f"  to resume without such updates: x2kit train --resume --run-dir {run} --training.non_finite skip"
        )
    return "\n".join(lines)


def _first_ids(ids: list[str]) -> str:
    more = f", … ({len(ids)} in total)" if len(ids) > SHOWN_IDS else ""
    return ", ".join(ids[:SHOWN_IDS]) + more


def _to_plain(value: Any) -> Any:
    """Convert named tuples to dicts, for a file that is loaded without running code."""
    if type(value).__name__ in _NAMED_TUPLES and isinstance(value, tuple):
        fields = value._asdict()  # type: ignore[attr-defined]
        return {"named_tuple": type(value).__name__, "fields": _to_plain(fields)}
    if isinstance(value, dict):
        return {name: _to_plain(inner) for name, inner in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_to_plain, value))
    return value.detach().cpu() if isinstance(value, Tensor) else value


def _from_plain(value: Any) -> Any:
    if isinstance(value, dict) and value.keys() == {"named_tuple", "fields"}:
        return _NAMED_TUPLES[value["named_tuple"]](**_from_plain(value["fields"]))
    if isinstance(value, dict):
        return {name: _from_plain(inner) for name, inner in value.items()}
    return tuple(map(_from_plain, value)) if isinstance(value, tuple) else value
