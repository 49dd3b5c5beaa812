"""Reading a pickle of plain values: nothing in it can name a class or call a function. Imports no torch."""

from __future__ import annotations

import io
import pickle
from typing import Any, NoReturn

from x2kit.data import files
from x2kit.errors import DataError, Reason

LARGEST = 2**30
"""Bytes; the file of references of RefCOCO+ has 30 MB."""


_OPERATIONS = b"".join(
    (
        *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.DUP),
        *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
        *(pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
        *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.FLOAT, pickle.BINFLOAT),
        *(pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG, pickle.LONG1, pickle.LONG4),
        *(pickle.STRING, pickle.BINSTRING, pickle.SHORT_BINSTRING),
        *(pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8),
        *(pickle.EMPTY_LIST, pickle.LIST, pickle.APPEND, pickle.APPENDS),
        *(pickle.EMPTY_DICT, pickle.DICT, pickle.SETITEM, pickle.SETITEMS),
        *(
            pickle.GLOBAL,
            pickle.STACK_GLOBAL,
            pickle.INST,
            pickle.PERSID,
            pickle.BINPERSID,
        ),  # to say what for
    )
)
"""What the unpickler can do: make plain values. A tuple is none; nested deeply, as a key, it would crash Python."""


class _Known(dict[int, Any]):
    def __missing__(self, code: int) -> NoReturn:
        raise pickle.UnpicklingError(
            f"it has the operation {bytes([code])!r}, and only plain values are read"
        )


class _PlainUnpickler(pickle._Unpickler):
    """Builds lists, dicts, texts and numbers. Every way to anything else is missing or asks one of these methods.

    Of the standard library's two unpicklers it is the one written in Python: the other takes as much memory as a
    damaged file tells it to, which can be more than there is.
    """

    dispatch = _Known((code, pickle._Unpickler.dispatch[code]) for code in _OPERATIONS)

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
