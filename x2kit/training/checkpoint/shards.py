"""Tensors that several processes write, each its own shards, and that any number of processes reads. Imports torch.

The files are those of torch.distributed.checkpoint (DCP):

    __0_0.distcp    the shards of rank 0, and what is no shard; tensors alone
    __1_0.distcp    the shards of rank 1, …
    shards.json     what lies where (see `x2kit.training.checkpoint.shard_index`)
    .metadata       the same for the tools of torch; x2kit does not read it
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from x2kit.distributed.processes import Processes
from x2kit.errors import CheckpointError, StorageError
from x2kit.io.atomic import storage_errors
from x2kit.training.checkpoint.checksums import HashedFile
from x2kit.training.checkpoint.shard_index import Index, read_index, tensors_of, write_index

SUFFIX = ".distcp"


def write_shards(
    directory: Path, tensors: Mapping[str, Tensor], processes: Processes, name: Path
) -> dict[str, str]:
    """Write what this process has of the tensors; all processes call this, with the same names.

    Args:
        directory: all of them see it; it is there.
        tensors: sharded ones, or whole ones that are equal in all processes; these are written by rank 0.
        processes: who writes.
        name: what `directory` will be called, for messages.
    Returns: the checksum of every file of shards, in all processes.
    Raises: StorageError, in all processes, if one of them cannot write.
    """
    writer = _Writer(directory, name, bytes_of_shards(tensors.values()))
    try:
        with _without_warnings():
            index = save(
                dict(tensors),
                storage_writer=writer,
                planner=DefaultSavePlanner(dedup_save_to_lowest_rank=True),
                process_group=processes.messages,
            )
    except CheckpointException as error:
        rank, found = _first(error)
        if not isinstance(found, StorageError):
            raise RuntimeError(f"rank {rank} cannot write its shards: {error}") from error
        raise StorageError(f"rank {rank}: {found}") from error
    sums = {file: checksum for own in processes.gather(writer.files.sums) for file, checksum in own.items()}
    if processes.is_rank_zero:
        with storage_errors(name):
            write_index(directory, index)
    return sums


class _Files(FileSystem):
    """Takes the checksum of every file while it is written, and remembers why one could not be."""

    def __init__(self) -> None:
        self.sums: dict[str, str] = {}
        self.failed: OSError | None = None

    @contextmanager
    def create_stream(self, path: Any, mode: str) -> Iterator[Any]:
        with super().create_stream(path, mode) as stream:
            written = HashedFile(cast(Any, stream))
            try:
                yield written
            finally:
                self.failed = written.failed
        self.sums[Path(path).name] = written.checksum

    def mkdir(self, path: Any) -> None:
        if not Path(path).is_dir():
            raise StorageError(f"{path}: not there; all processes have to see the run directory")


class _Writer(FileSystemWriter):
    """DCP's, which says in words of ours what went wrong with the disk of its process."""

    def __init__(self, directory: Path, name: Path, needs: int) -> None:
        super().__init__(directory, sync_files=True, overwrite=False)
        self.fs = self.files = _Files()
        self._name, self._needs = name, needs

    def write_data(self, plan: Any, planner: Any) -> Any:
        with storage_errors(self._name, self._needs):
            try:
                return super().write_data(plan, planner)
            except RuntimeError as error:
                raise self.files.failed or error from error  # torch does not say why it could not write

    def finish(self, metadata: Any, results: Any) -> None:
        with storage_errors(self._name):
            super().finish(metadata, results)

    def storage_meta(self) -> None:
        """Nothing of the place where the files were written, which is not where they stay."""


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Of DCP: that there is one process, which is no accident, and of what it itself makes use of."""
    with warnings.catch_warnings():
        for message in ("torch.distributed is ", "TypedStorage is deprecated"):
            warnings.filterwarnings("ignore", message, UserWarning)
        yield


def _first(error: CheckpointException) -> tuple[int, BaseException]:
    """The first of the processes that failed, and what it raised."""
    rank = min(error.failures)
    return rank, error.failures[rank][0]


def bytes_of_shards(tensors: Any) -> int:
    """The bytes that this process has of some tensors."""
    own = (tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors)
    return sum(tensor.numel() * tensor.element_size() for tensor in own)


class Shards:
    """The tensors of a sharded checkpoint, which are still on the disk.

    Args:
        directory: that `write_shards` filled.
    Raises: CheckpointError if its index is damaged.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._index = read_index(directory)
        found = tensors_of(self._index)
        self.sizes: dict[str, torch.Size] = {name: tensor.size for name, tensor in found.items()}
        """Of the whole tensors, by their names."""
        self.dtypes: dict[str, torch.dtype] = {
            name: tensor.properties.dtype for name, tensor in found.items()
        }

    def fill(self, tensors: Mapping[str, Tensor], processes: Processes) -> None:
        """Read tensors, or of a sharded one what this process has of it; all processes call this.

        Args:
            tensors: sharded or not, by their names; filled in place.
            processes: who reads; how many wrote does not matter.
        Raises: CheckpointError, in all processes, if one of them cannot read.
        """
        reader = _Reader(self._directory, self._index)
        try:
            with _without_warnings():
                load(dict(tensors), storage_reader=reader, process_group=processes.messages)
        except CheckpointException as error:
            rank, found = _first(error)
            first = str(found).partition("\n")[0]  # torch goes on for a screen
            raise CheckpointError(f"{self._directory}: rank {rank} cannot read it: {first}") from error


class _Reader(FileSystemReader):
    """DCP's, with an index that was read already; its own would be unpickled."""

    def __init__(self, directory: Path, index: Index) -> None:
        super().__init__(directory)
        self._index = index

    def read_metadata(self, *args: Any, **kwargs: Any) -> Index:
        return self._index
