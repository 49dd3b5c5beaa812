"""Reading a pickle of plain values: nothing in it can name a class or call a function. Imports no torch."""

from __future__ import annotations

import io
import pickle
from typing import Any, NoReturn

from x2kit.data import files
from x2kit.errors import DataError, Reason

LARGEST = 2**30
"""Bytes; the file of references of RefCOCO+ has 30 MB."""


class _PlainUnpickler(pickle.Unpickler):
    """Builds lists, dicts, texts and numbers. Every way to anything else asks one of these methods."""

    def find_class(self, module: str, name: str) -> NoReturn:
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, and only plain values are read")

    def persistent_load(self, pid: Any) -> NoReturn:
        raise pickle.UnpicklingError("it asks for an object outside the file, and only plain values are read")


def read_plain_pickle(location: str) -> Any:
    """What a pickle holds if that is lists, dicts, texts, numbers, booleans and None.

    Raises: DataError if it holds anything else, is damaged, larger than 1 GiB or cannot be read.
    """
    size = files.state(location).size
    if size > LARGEST:
        raise DataError(f"{location}: a pickle of {size} bytes; at most {LARGEST} are read")
    try:
        # Python 2 wrote the official file, and does not say how its texts are encoded; latin-1 reads all of them
        return _PlainUnpickler(io.BytesIO(files.read(location)), encoding="latin-1").load()
    except DataError:
        raise
    except Exception as error:  # damaged bytes make the unpickler raise nearly anything
        raise DataError(
            f"{location}: not a pickle of plain values: {error or type(error).__name__}",
            reason=Reason.FIELD_TYPE,
        ) from error
