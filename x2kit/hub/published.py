"""Keep checkpoints of published models in the cache, each with its hash. Imports no torch.

models/NAME/FILE           the checkpoint
models/NAME/ARCHIVE        the archive around it, if that is published; deleted after the checkpoint was taken out
models/NAME/fetched.json   SHA-256 of the download and of the checkpoint

A file that is put there by hand is taken like a download. Where no hash is published, that of the first file is
recorded and every later file is compared with it.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from x2kit.errors import StorageError, WeightsError
from x2kit.hub.catalogue import PublishedModel
from x2kit.hub.fetching import Expected, download, part_of
from x2kit.io.atomic import atomic_file, format_bytes
from x2kit.io.cache import cache_folder, locked_entry, offline_variable
from x2kit.io.identity import Progress, no_progress, sha256_of

RECORD = "fetched.json"
SUFFIXES = (".th", ".pth", ".pt", ".safetensors")
"""Suffixes of checkpoints in an archive."""
MAX_CHECKPOINT = 32 * 2**30
"""Largest checkpoint that is taken out of an archive, in bytes."""


class Checkpoint(NamedTuple):
    """A checkpoint in the cache and its SHA-256."""

    file: Path
    sha256: str


def folder_of(model: PublishedModel) -> Path:
    """Return the folder of a model in the cache."""
    return cache_folder() / "models" / model.name


def checkpoint_of(model: PublishedModel) -> Path:
    """Return the place of a model's checkpoint in the cache."""
    return folder_of(model) / model.file


def is_cached(model: PublishedModel) -> bool:
    """Return whether the checkpoint, or the archive around it, is in the cache."""
    return checkpoint_of(model).is_file() or (folder_of(model) / model.download).is_file()


def partial_bytes(model: PublishedModel) -> int:
    """Return the bytes of an interrupted download that are kept."""
    part = part_of(folder_of(model) / model.download)
    return part.stat().st_size if part.is_file() else 0


def recorded_sha256(model: PublishedModel) -> str | None:
    """Return the recorded hash of the checkpoint; None before its first use."""
    found: str | None = _read_record(folder_of(model)).get(model.file, {}).get("sha256")
    return found


def obstacle(model: PublishedModel) -> str | None:
    """Return why a checkpoint that is not in the cache cannot be downloaded, and what to do; None if it can."""
    if model.page is not None:
        return f"{model.name}: cannot be downloaded without a browser\n{_by_hand(model, model.page)}"
    if (variable := offline_variable()) is not None:
        return (
            f"{model.name}: not in the cache, and {variable} forbids downloads; with a network: x2kit models fetch "
            f"{model.name}\n{_by_hand(model, str(model.address))}"
        )
    return None


def fetch_published(model: PublishedModel, progress: Progress = no_progress) -> Checkpoint:
    """Return the checkpoint of a published model, downloaded unless it is in the cache.

    Raises: WeightsError if it cannot be fetched, with the file to download by hand and its place; or if it differs from
        its published or recorded hash. StorageError for a full disk.
    """
    folder, file = folder_of(model), checkpoint_of(model)
    with locked_entry(folder):
        record = _read_record(folder)
        if not file.is_file() and model.archive is not None:
            _take_out(model, folder / model.archive, file, record, progress)
        elif not file.is_file():
            _download(model, file, record, progress)
        published = model.sha256 if model.archive is None else None
        return Checkpoint(file, _checked(file, published, record, folder, progress))


def _download(model: PublishedModel, target: Path, record: dict[str, Any], progress: Progress) -> None:
    if (reason := obstacle(model)) is not None:
        raise WeightsError(reason)
    assert model.address is not None
    recorded = record.get(target.name, {}).get("sha256")
    try:
        download(model.address, target, Expected(model.size, model.sha256 or recorded), progress)
    except StorageError:
        raise
    except WeightsError as error:
        raise WeightsError(f"{model.name}: {error}\n{_by_hand(model, model.address)}") from error


def _by_hand(model: PublishedModel, address: str) -> str:
    place = folder_of(model) / model.download
    what = "the archive" if model.archive else "the checkpoint"
    text = f"  by hand: download {what} from {address}\n  and save it as {place}"
    return f"{text}, or its checkpoint as {checkpoint_of(model)}" if model.archive else text


def _checked(
    file: Path, published: str | None, record: dict[str, Any], folder: Path, progress: Progress
) -> str:
    """Return the hash of a file, compared with the published or recorded one; it is computed for a new file only."""
    status = file.stat()
    facts = {"size": status.st_size, "mtime_ns": status.st_mtime_ns}
    known = record.get(file.name, {})
    wanted: str | None = published or known.get("sha256")
    if wanted is not None and {**facts, "sha256": wanted} == known:
        return wanted
    found = sha256_of(file, progress)
    if wanted is not None and found != wanted:
        origin = "published" if published else f"recorded in {folder / RECORD} when it was first fetched"
        raise WeightsError(
            f"{file}: SHA-256 {found}, but {wanted} was {origin}; delete the file to fetch it again"
            + ("" if published else f", or {RECORD} to accept this one")
        )
    record[file.name] = {**facts, "sha256": found}
    with atomic_file(folder / RECORD) as partial:
        partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return found


def _read_record(folder: Path) -> dict[str, Any]:
    file = folder / RECORD
    if not file.is_file():
        return {}
    try:
        record: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        if all(isinstance(facts, dict) for facts in record.values()):
            return record
    except (ValueError, AttributeError):
        pass
    raise WeightsError(f"{file}: damaged; delete it, and the hash of the checkpoint is recorded again")


def _take_out(
    model: PublishedModel, archive: Path, file: Path, record: dict[str, Any], progress: Progress
) -> None:
    """Copy the checkpoint out of the archive; a downloaded archive is deleted."""
    downloaded = not archive.is_file()
    if downloaded:
        _download(model, archive, record, progress)
    _checked(archive, model.sha256, record, archive.parent, progress)
    try:
        with tarfile.open(archive) as tar:
            member = _member(tar, model, archive)
            source = tar.extractfile(member)
            assert source is not None  # a regular file
            # Only the bytes are copied, to a name of ours: paths and links in the archive have no effect.
            with atomic_file(file) as partial, partial.open("wb") as copy:
                shutil.copyfileobj(source, copy, 2**20)
    except (tarfile.TarError, EOFError) as error:
        raise WeightsError(
            f"{archive}: damaged, or not a tar archive: {error}; delete it to fetch it again"
        ) from error
    if downloaded:
        archive.unlink()


def _member(tar: tarfile.TarFile, model: PublishedModel, archive: Path) -> tarfile.TarInfo:
    files = [member for member in tar if member.isreg() and member.name.endswith(SUFFIXES)]
    wanted = [member for member in files if _ends(member.name, model.member)]
    if len(wanted) != 1:
        names = ", ".join(member.name for member in files) or "none"
        asked = "one checkpoint" if model.member is None else f"one checkpoint {model.member}"
        raise WeightsError(
            f"{archive}: expected {asked}, found {names}; take yours out and save it as {checkpoint_of(model)}"
        )
    (member,) = wanted
    if member.size > MAX_CHECKPOINT:
        raise WeightsError(
            f"{archive}: {member.name} has {format_bytes(member.size)}, more than the limit of "
            f"{format_bytes(MAX_CHECKPOINT)}"
        )
    return member


def _ends(name: str, end: str | None) -> bool:
    if end is None:
        return True
    parts = PurePosixPath(end).parts
    return PurePosixPath(name).parts[-len(parts) :] == parts
