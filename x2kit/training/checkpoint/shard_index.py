"""Which part of which tensor lies where in a sharded checkpoint. Imports torch.

    shards.json
      {"model.vision.blocks.0.weight":
        {"dtype": "float32", "size": [8, 4],
         "parts": [{"offsets": [0, 0], "sizes": [4, 4], "file": "__0_0.distcp", "start": 0, "length": 1577}, …]}, …}

torch.distributed.checkpoint writes the same into `.metadata`, for the tools of torch. That file is a pickle, so x2kit
reads this one: nothing that it holds can name a class or call a function.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from x2kit.errors import CheckpointError

INDEX = "shards.json"
_DTYPES = {
    str(dtype).removeprefix("torch."): dtype
    for dtype in (
        torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
        torch.uint8, torch.bool,
    )
}  # fmt: skip

Index = Metadata
"""In the words of torch.distributed.checkpoint."""


def write_index(directory: Path, index: Index) -> None:
    """shards.json of a directory.

    Args:
        directory: of the checkpoint.
        index: as torch.distributed.checkpoint left it; tensors alone.
    """
    tensors = {
        name: {
            "dtype": str(tensor.properties.dtype).removeprefix("torch."),
            "size": list(tensor.size),
            "parts": [_part(name, chunk, index.storage_data) for chunk in tensor.chunks],
        }
        for name, tensor in tensors_of(index).items()
    }
    (directory / INDEX).write_text(json.dumps(tensors, indent=0) + "\n", encoding="utf-8")


def tensors_of(index: Index) -> dict[str, TensorStorageMetadata]:
    """Dtype, size and parts of every tensor, by its name."""
    return {
        name: tensor
        for name, tensor in index.state_dict_metadata.items()
        if isinstance(tensor, TensorStorageMetadata)
    }


def _part(
    name: str, chunk: ChunkStorageMetadata, places: Mapping[MetadataIndex, _StorageInfo]
) -> dict[str, Any]:
    place = places[MetadataIndex(name, chunk.offsets)]
    return {
        "offsets": list(chunk.offsets),
        "sizes": list(chunk.sizes),
        "file": place.relative_path,
        "start": place.offset,
        "length": place.length,
    }


def read_index(directory: Path) -> Index:
    """What `write_index` wrote.

    Raises: CheckpointError unless the parts of every tensor fill it, and lie in files of this very directory; OSError
        if it cannot be read.
    """
    return parse_index((directory / INDEX).read_bytes(), directory)


def parse_index(written: bytes, directory: Path) -> Index:
    """What `read_index` says of the content of the file."""
    index = Index({}, storage_data={})
    try:
        for name, tensor in json.loads(written).items():
            _add(index, directory, name, tensor)
    except CheckpointError:
        raise
    except (OSError, ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise CheckpointError(f"{INDEX}: not an index of shards: {type(error).__name__}: {error}") from error
    return index


def _add(index: Index, directory: Path, name: str, tensor: Mapping[str, Any]) -> None:
    size = _size(tensor["size"])
    properties = TensorProperties(dtype=_DTYPES[tensor["dtype"]])
    found = index.state_dict_metadata[name] = TensorStorageMetadata(properties, size, [])
    filled = 0
    for part in tensor["parts"]:
        offsets, sizes = _size(part["offsets"]), _size(part["sizes"])
        ends = [start + length for start, length in zip(offsets, sizes, strict=True)]
        if any(end > whole for end, whole in zip(ends, size, strict=True)):
            raise CheckpointError(f"{INDEX}: {name}: a part ends at {ends}, outside of {list(size)}")
        filled += math.prod(sizes)
        file, (start, length) = part["file"], _size([part["start"], part["length"]])
        if Path(file).name != file or start + length > (directory / file).stat().st_size:
            raise CheckpointError(
                f"{INDEX}: {name}: bytes {start} to {start + length} are not in a file {file!r}"
            )
        found.chunks.append(ChunkStorageMetadata(offsets, sizes))
        index.storage_data[MetadataIndex(name, offsets)] = _StorageInfo(file, start, length)
    if filled != math.prod(size):
        raise CheckpointError(
            f"{INDEX}: {name}: its parts hold {filled} numbers, {math.prod(size)} are expected"
        )


def _size(numbers: Any) -> torch.Size:
    if any(type(number) is not int or not 0 <= number < 2**63 for number in numbers):
        raise ValueError(f"{numbers!r} are not sizes")
    return torch.Size(numbers)
