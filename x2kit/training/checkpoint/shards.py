"""Save tensors in one safetensors file per rank, and load them on any number of ranks. Imports torch.

The files are those of torch.distributed.checkpoint (DCP) in the format of Hugging Face:

    shard-00001-model-00001-of-00001.safetensors    shards of rank 0, and tensors that are not sharded
    shard-00002-model-00001-of-00001.safetensors    shards of rank 1, …

Each header records the offsets of its shards in the full tensors. Nothing is pickled.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultSavePlanner
from torch.distributed.checkpoint.filesystem import FileSystem
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.tensor import DTensor

from x2kit.distributed.processes import Processes
from x2kit.errors import CheckpointError, StorageError
from x2kit.io.atomic import storage_errors
from x2kit.plugin.toolkit.weights import UNREADABLE
from x2kit.training.checkpoint.checksums import HashedFile

PATTERN = "shard-*.safetensors"


def write_shards(
    directory: Path, tensors: Mapping[str, Tensor], processes: Processes, name: Path
) -> dict[str, str]:
    """Write this rank's shards; every rank calls this with the same names.

    Args:
        directory: exists and is visible to all ranks.
        tensors: sharded, or full and equal on all ranks; rank 0 writes the latter.
        processes: the ranks that write.
        name: final path of `directory`, for messages.
    Returns: the checksum of every shard file, on all ranks.
    Raises: StorageError, on all ranks, if one of them cannot write.
    """
    writer = _Writer(directory, name, local_bytes(tensors.values()))
    try:
        with _ignore_warnings():
            save(
                dict(tensors),
                storage_writer=writer,
                planner=DefaultSavePlanner(dedup_save_to_lowest_rank=True),
                process_group=processes.messages,
            )
    except CheckpointException as error:
        rank, cause = _first_failure(error)
        if not isinstance(cause, StorageError):
            raise RuntimeError(f"rank {rank} cannot write its shards: {error}") from error
        raise StorageError(f"rank {rank}: {cause}") from error
    return {
        file: checksum for own in processes.gather(writer.files.checksums) for file, checksum in own.items()
    }


class _Files(FileSystem):
    """Hash every file while DCP writes it."""

    def __init__(self) -> None:
        self.checksums: dict[str, str] = {}

    @contextmanager
    def create_stream(self, path: Any, mode: str) -> Iterator[Any]:
        with super().create_stream(path, mode) as stream:
            hashed = HashedFile(cast(Any, stream))
            yield hashed
        self.checksums[Path(path).name] = hashed.checksum

    def mkdir(self, path: Any) -> None:
        if not Path(path).is_dir():
            raise StorageError(f"{path}: not found; every rank needs access to the run directory")


class _Writer(HuggingFaceStorageWriter):
    """DCP's safetensors writer with checksums and StorageError for disk errors."""

    def __init__(self, directory: Path, name: Path, needs: int) -> None:
        super().__init__(str(directory), save_distributed=True)
        self.fs = self.files = _Files()
        self._name, self._needs = name, needs

    def write_data(self, plan: Any, planner: Any) -> Any:
        with storage_errors(self._name, self._needs):
            return super().write_data(plan, planner)


@contextmanager
def _ignore_warnings() -> Iterator[None]:
    """Ignore DCP's warnings about a single process and about its own use of TypedStorage."""
    with warnings.catch_warnings():
        for message in ("torch.distributed is ", "TypedStorage is deprecated"):
            warnings.filterwarnings("ignore", message, UserWarning)
        yield


def _first_failure(error: CheckpointException) -> tuple[int, BaseException]:
    rank = min(error.failures)
    return rank, error.failures[rank][0]


def local_bytes(tensors: Any) -> int:
    """Sum the bytes of this rank's shards."""
    own = (tensor.to_local() if isinstance(tensor, DTensor) else tensor for tensor in tensors)
    return sum(tensor.numel() * tensor.element_size() for tensor in own)


class Shards:
    """Index the tensors of a sharded checkpoint, and read them on demand.

    Args:
        directory: written by `write_shards`.
    Raises: CheckpointError unless the shards of every tensor fill it.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        try:
            self._index = HuggingFaceStorageReader(str(directory)).read_metadata()
        except UNREADABLE as error:
            raise CheckpointError(f"header of a shard: {type(error).__name__}: {error}") from error
        tensors = cast(dict[str, TensorStorageMetadata], self._index.state_dict_metadata)
        for name, tensor in tensors.items():
            filled = sum(math.prod(chunk.sizes) for chunk in tensor.chunks)
            if filled != math.prod(tensor.size):
                raise CheckpointError(f"{name}: the shards hold {filled} of {math.prod(tensor.size)} values")
        self.sizes: dict[str, torch.Size] = {name: tensor.size for name, tensor in tensors.items()}
        """Sizes of the full tensors by name."""
        self.dtypes: dict[str, torch.dtype] = {
            name: tensor.properties.dtype for name, tensor in tensors.items()
        }

    def fill(self, tensors: Mapping[str, Tensor], processes: Processes) -> None:
        """Read tensors, or this rank's shards of them; every rank calls this.

        Args:
            tensors: sharded or not, by name; filled in place.
            processes: the ranks that read; any number may have written.
        Raises: CheckpointError, on all ranks, if one of them cannot read.
        """
        reader = _Reader(self._directory, self._index)
        try:
            with _ignore_warnings():
                load(
                    dict(tensors),
                    storage_reader=reader,
                    process_group=processes.messages,
                    no_dist=not processes.several,  # one of several ranks may read alone
                )
        except CheckpointException as error:
            rank, cause = _first_failure(error)
            first = str(cause).partition("\n")[0]  # torch's messages are a screen long
            raise CheckpointError(f"{self._directory}: rank {rank} cannot read it: {first}") from error


class _Reader(HuggingFaceStorageReader):
    """DCP's safetensors reader with headers that were already read and checked."""

    def __init__(self, directory: Path, index: Metadata) -> None:
        super().__init__(str(directory))
        self._index = index

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        return self._index
