"""Compute the features of a frozen vision encoder once, before the first step. Imports torch.

    DIR/KEY/    features of one source by one encoder (`x2kit.data.features.shards`)

KEY is a hash of everything that the features depend on: weights, code and precision of the encoder, size and
normalisation of its images, the settings of their views, and the records. A change of any leads to another folder.
Shards that exist are complete and stay; the ranks of a run share the others.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from x2kit.data.config import StreamConfig
from x2kit.data.features.records import RenderedView, render_views
from x2kit.data.features.rules import CachedImages, cached_images
from x2kit.data.features.shards import FeatureFolder, to_numbers
from x2kit.data.media.threads import default_workers, in_threads
from x2kit.data.pipeline.streams import open_sources
from x2kit.data.transforms.view import Pixels, stack_pixels
from x2kit.distributed.processes import Processes
from x2kit.errors import DataError, Fault, RecipeError, StorageError, X2KitError
from x2kit.io.atomic import atomic_file, clear_leftovers, format_bytes, make_folder, storage_errors
from x2kit.io.cache import locked_entry
from x2kit.io.identity import own_version
from x2kit.model import X2VLM
from x2kit.model.device import (
    autocast,
    choose_precision,
    use_deterministic_algorithms,
    use_matmul_precision,
)
from x2kit.plugin import VisionFeatures
from x2kit.plugin.component_faults import component_faults
from x2kit.plugin.sources import Record, Renewing, Source
from x2kit.terminal import PlainConsole, TaskProgress
from x2kit.training.stepper import Parts, Recipe

MANIFEST = "manifest.json"
FORM = 1
"""Of the shards; another one has other keys."""
BATCH = 32
"""Images that are encoded at once."""
WORTH_IT = 2.0
"""Reads of a view in a run from which on a cache saves time; a run of fewer prints a message."""
MANIFEST_BYTES = 2**20
"""Most bytes that are read of the manifest of another entry."""

Say = Callable[[str], None]


def with_cached_features(recipe: Recipe, parts: Parts, say: Say) -> Parts:
    """Return the parts of a run with batches of cached features, after the missing ones are computed; collective.

    Args:
        recipe: resolved; without `data.feature_cache`, or without steps, the parts are returned unchanged.
        parts: from `assemble`, with the weights of the first step.
        say: receives messages about size, place and reuse.
    Raises: RecipeError for a source with new records in every epoch; StorageError if the disk has no room;
        KeyboardInterrupt after an interruption, with finished shards kept.
    """
    data, folder = recipe.data, recipe.data.feature_cache
    if folder is None or not recipe.training.steps:
        return parts
    if "vision" not in parts.trained.frozen:
        raise X2KitError(
            "data.feature_cache: the vision encoder is not frozen; set training.trainable.vision: none"
        )
    data.limits.apply()
    cached = cached_images(data)
    streams = {name: data.streams[name] for name in cached}
    sources = dict(zip(streams, open_sources(stream.source for stream in streams.values()), strict=True))
    _require_fixed(streams, sources)
    encoder = _Encoder(recipe, parts)
    outputs = encoder(torch.zeros(1, *encoder.image_shape))
    jobs: dict[FeatureFolder, _Job] = {}
    found: dict[str, FeatureFolder] = {}
    for name, facts in _facts(encoder, parts, streams, cached, outputs).items():
        place = folder / blake2b(json.dumps(facts).encode(), digest_size=10).hexdigest()
        layout = _layout(place, len(sources[name]), cached[name], outputs)
        job = _Job(layout, facts, streams[name], cached[name], sources[name])
        reads = jobs[layout].reads if layout in jobs else 0.0
        reads += recipe.training.steps * streams[name].records_a_step / (layout.records * layout.views)
        jobs[layout], found[name] = replace(job, reads=reads), layout
    for job in jobs.values():
        _complete(job, encoder, parts.processes, say)
    return parts._replace(batches=replace(parts.batches, features=found))


def _require_fixed(streams: Mapping[str, StreamConfig], sources: Mapping[str, Source]) -> None:
    faults = [
        Fault(
            f"data.streams.{name}.source",
            "",
            f"{streams[name].source.component_name()} has new records in every epoch, so features of its images cannot "
            "be reused; give each source that it is made of a stream of its own, or set data.feature_cache to null",
        )
        for name, source in sources.items()
        if isinstance(source, Renewing) and source.renews_each_epoch
    ]
    if faults:
        raise RecipeError(faults)


class _Encoder:
    """The frozen vision encoder, in the precision of the run."""

    def __init__(self, recipe: Recipe, parts: Parts) -> None:
        self.model, self.config, self._device = parts.model, recipe.model.vision, parts.device
        self.precision = choose_precision(recipe.training.precision, parts.device)
        use_matmul_precision(self.precision)
        if recipe.training.deterministic:
            use_deterministic_algorithms()
        spec = self.model.image_spec
        self.image_shape = spec.channels, spec.size, spec.size

    def __call__(self, images: Tensor) -> VisionFeatures:
        """Encode images [B, C, H, W]; the features are on the CPU."""
        with torch.no_grad(), autocast(self._device, self.precision):
            features = self.model.encode_images(images.to(self._device))
        return VisionFeatures(features.summary.cpu(), features.patches.cpu(), features.grid)


def _facts(
    encoder: _Encoder,
    parts: Parts,
    streams: Mapping[str, StreamConfig],
    cached: Mapping[str, CachedImages],
    outputs: VisionFeatures,
) -> dict[str, dict[str, Any]]:
    """Return what the features of each stream depend on; collective, computed by rank 0 alone."""

    def compute() -> dict[str, dict[str, Any]]:
        of_encoder = {
            "form": FORM,
            "x2kit": own_version(),
            "encoder": encoder.config.component_name(),
            "settings": encoder.config.model_dump(mode="json"),
            "weights": _hash_of_tensors(encoder.model),
            "code": _hash_of_code(encoder.model),
            "images": encoder.model.image_spec._asdict(),
            "precision": encoder.precision,
            "outputs": [str(outputs.summary.dtype), str(outputs.patches.dtype)],
        }
        fingerprints = parts.batches.fingerprints()
        return {
            name: {
                **of_encoder,
                "views": stream.transform.model_dump(mode="json"),
                "cached": cached[name]._asdict(),
                "source": stream.source.component_name(),
                "records": fingerprints[name],
            }
            for name, stream in streams.items()
        }

    found: dict[str, dict[str, Any]] = parts.processes.from_rank_zero(
        compute() if parts.processes.is_rank_zero else None
    )
    return found


def _hash_of_tensors(model: X2VLM) -> str:
    """Hash the parameters and buffers of the vision encoder, also those that are not saved."""
    digest = blake2b(digest_size=16)
    tensors = {**dict(model.vision.named_parameters()), **dict(model.vision.named_buffers())}
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _hash_of_code(model: X2VLM) -> str:
    """Hash the files that define the modules of the vision encoder, such as that of a plugin, wherever they lie."""
    modules = {type(module).__module__ for module in model.vision.modules()}
    files = {getattr(sys.modules.get(name), "__file__", None) for name in modules}
    hashes = sorted(
        blake2b(Path(file).read_bytes()).digest() for file in files if file and Path(file).is_file()
    )
    return blake2b(b"".join(hashes), digest_size=16).hexdigest()


def _layout(place: Path, records: int, cached: CachedImages, outputs: VisionFeatures) -> FeatureFolder:
    return FeatureFolder(
        place,
        records,
        cached.images,
        cached.views,
        (outputs.grid[0], outputs.grid[1]),
        outputs.patches.shape[2],
        outputs.summary.dtype,
        outputs.patches.dtype,
    )


@dataclass(frozen=True)
class _Job:
    """A folder to complete, what its features are computed of, and how often the run reads each view of an image."""

    folder: FeatureFolder
    facts: Mapping[str, Any]
    config: StreamConfig
    cached: CachedImages
    source: Source
    reads: float = 0.0


def _complete(job: _Job, encoder: _Encoder, processes: Processes, say: Say) -> None:
    """Compute the missing shards of a folder, each rank its share; one run at a time, others wait for it.

    Nothing is written to a complete folder, which may be read-only.
    """
    folder, began = job.folder, time.monotonic()
    with _locked(folder.path) if processes.is_rank_zero and folder.missing() else nullcontext():
        missing: list[int] = processes.from_rank_zero(_begin(job, say) if processes.is_rank_zero else None)
        try:
            _compute_shards(job, missing[processes.rank :: processes.count], encoder, processes)
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(
                f"stopped while features were computed; finished shards are kept in {folder.path}, and the same "
                "command computes the others"
            ) from stop
        processes.wait()
        absent = [shard for shard in missing if folder.read(shard) is None]
        _require_shared(folder, processes.gather(absent))
    if missing:
        _require_images(folder)
        say(f"data.feature_cache: computed in {time.monotonic() - began:.0f} s")


def _locked(path: Path) -> Any:
    if path.parent.exists() and not path.parent.is_dir():
        raise StorageError(f"data.feature_cache: {path.parent}: is a file, not a folder")
    return locked_entry(path)


def _begin(job: _Job, say: Say) -> list[int]:
    """Report size and place, and require room for what is missing. Returns: the missing shards."""
    folder = job.folder
    others = [] if folder.path.exists() else _differences(folder.path, job.facts)
    missing = folder.missing()
    if missing:
        with storage_errors(folder.path):
            make_folder(folder.path)
        for message in clear_leftovers(folder.path):
            say(message)
    needed, total = (sum(map(folder.bytes_of, each)) for each in (missing, range(folder.shards)))
    images, views = f"{folder.records * folder.images:,} images", f" in {folder.views} views"
    say(
        f"data.feature_cache: {images}{views if folder.views > 1 else ''}, {format_bytes(total)} in {folder.path}; "
        + (f"{format_bytes(needed)} to compute" if missing else "complete")
    )
    for message in others:
        say(message)
    if missing and job.reads < WORTH_IT:
        say(
            f"data.feature_cache: this run reads each view of an image {job.reads:.2g} times; a cache saves time from "
            "the second time on, in this run or later ones"
        )
    free = shutil.disk_usage(folder.path).free
    if needed > free:
        raise StorageError(
            f"data.feature_cache: {folder.path}: {format_bytes(needed)} needed, {format_bytes(free)} free; choose a "
            "folder on another disk, delete entries that are not used, or set data.feature_cache to null"
        )
    if missing:
        with atomic_file(folder.path / MANIFEST) as partial_file:
            partial_file.write_text(json.dumps(job.facts, indent=1) + "\n", encoding="utf-8")
    return missing


def _differences(path: Path, facts: Mapping[str, Any]) -> list[str]:
    """Describe the entry of the same folder that differs from a new one in the fewest facts."""
    found = []
    for manifest in sorted(path.parent.glob(f"*/{MANIFEST}")):
        try:
            if manifest.stat().st_size > MANIFEST_BYTES:
                continue
            other = json.loads(manifest.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # not an entry: nothing to compare
            continue
        if isinstance(other, dict):
            changed = [name for name in facts if other.get(name) != json.loads(json.dumps(facts[name]))]
            found.append((len(changed), manifest.parent.name, changed))
    if not found:
        return []
    _, name, changed = min(found)
    return [f"data.feature_cache: {path.parent / name} is not used, as it differs in {', '.join(changed)}"]


def _require_shared(folder: FeatureFolder, absent: list[list[int]]) -> None:
    for rank, shards in enumerate(absent):
        if shards:
            raise StorageError(
                f"data.feature_cache: rank {rank} does not find {folder.file(shards[0])}, which another rank wrote; "
                "the folder must be on a disk that all ranks share"
            )


def _require_images(folder: FeatureFolder) -> None:
    """Raise DataError if no image could be read."""
    shards = (folder.read(shard) for shard in range(folder.shards))
    if not any(bool(tensors["views"].any()) for tensors in shards if tensors is not None):
        raise DataError(
            f"data.feature_cache: no image of the {folder.records:,} records could be read; x2kit data check says why"
        )


def _compute_shards(job: _Job, shards: Sequence[int], encoder: _Encoder, processes: Processes) -> None:
    """Compute and write shards, and show the progress of rank 0."""
    rows = [job.folder.rows_of(shard) for shard in shards]
    console = PlainConsole(stderr=True, quiet=not processes.is_rank_zero)
    with TaskProgress(console) if shards else nullcontext() as progress:
        for number, shard in enumerate(shards):
            told = partial(_tell, progress, sum(rows[:number]), sum(rows))
            job.folder.write(shard, _compute(job, shard, encoder, told))


def _tell(progress: TaskProgress | None, before: int, total: int, done: int) -> None:
    if progress is not None:
        progress("features of images", before + done, total)


def _compute(job: _Job, shard: int, encoder: _Encoder, told: Callable[[int], None]) -> dict[str, Tensor]:
    """Compute the tensors of a shard."""
    tensors, spec = job.folder.empty(shard), encoder.model.image_spec

    def render(numbered: tuple[int, Record | None]) -> list[RenderedView]:
        index, record = numbered
        return render_views(record, index, job.config, job.cached, spec)

    waiting: list[tuple[int, Pixels]] = []
    row = 0
    records = _records(job, job.folder.records_of(shard))
    for views in in_threads(render, records, ahead=BATCH, workers=default_workers()):
        for view in views:
            tensors["views"][row] = to_numbers(view.view, view.stamp)
            if view.pixels is not None:
                waiting.append((row, view.pixels))
            row += 1
        while len(waiting) >= BATCH:
            _encode(waiting[:BATCH], encoder, tensors)
            del waiting[:BATCH]
            told(row)
    _encode(waiting, encoder, tensors)
    told(row)
    return tensors


def _records(job: _Job, indices: range) -> Iterator[tuple[int, Record | None]]:
    """Read records; None for broken ones, which the streams that draw them report."""
    for index in indices:
        record: Record | None = None
        with suppress(DataError), component_faults(job.config.source):
            record = job.source[index]
        yield index, record


def _encode(images: Sequence[tuple[int, Pixels]], encoder: _Encoder, tensors: Mapping[str, Tensor]) -> None:
    """Encode images, each given with its row, and write their features to these rows."""
    if not images:
        return
    rows = torch.tensor([row for row, _ in images])
    features = encoder(stack_pixels([pixels for _, pixels in images]))
    tensors["summary"][rows] = features.summary
    tensors["patches"][rows] = features.patches
