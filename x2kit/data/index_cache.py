"""What reading a large file once has told, kept for the next time. Imports no torch.

The cache is in `$X2KIT_CACHE`, else in `x2kit` under the user's cache folder (`$XDG_CACHE_HOME`, `~/.cache`). It can be
deleted at any time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_log = logging.getLogger(__name__)
_LAYOUT = 1
"""Part of every name, so that an index of another version is not taken for one of this."""


def cache_folder() -> Path:
    """Where the cache is."""
    if own := os.environ.get("X2KIT_CACHE"):
        return Path(own)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "x2kit"


def remembered(path: Path, find: Callable[[Path], NDArray[Any]]) -> NDArray[Any]:
    """What `find` finds in a file; from the cache if the file has the size and the time that it had then.

    Args:
        path: of the file.
        find: reads the file; its result must follow from the content alone.
    Returns: the array, read-only and mapped into memory where it is cached, so that processes share it.
    Raises: OSError if the file cannot be read.
    """
    before = path.stat()
    kept = cache_folder() / "lines" / f"{_name(path, before)}.npy"
    try:
        cached: NDArray[Any] = np.load(kept, mmap_mode="r", allow_pickle=False)
        return cached
    except FileNotFoundError:
        pass
    except (OSError, ValueError, EOFError) as error:
        _log.info("%s: damaged (%s), so %s is read again", kept, error, path)
    found = find(path)
    if _name(path, path.stat()) == _name(path, before):  # not of a file that is still written
        _keep(kept, found)
    return found


def _name(path: Path, state: os.stat_result) -> str:
    facts = (_LAYOUT, os.fspath(path.absolute()), state.st_size, state.st_mtime_ns)
    return blake2b(repr(facts).encode(), digest_size=16).hexdigest()


def _keep(kept: Path, found: NDArray[Any]) -> None:
    """Write beside, then rename: who reads at the same time finds all of it or nothing."""
    beside = kept.with_name(f"{kept.stem}.{os.getpid()}.tmp")
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            np.save(file, found, allow_pickle=False)
        beside.replace(kept)
    except OSError as error:  # a cache is not needed: on a full disk the file is read again next time
        _log.info("%s: cannot be kept: %s", kept, error)
        if beside.exists():
            beside.unlink()
