"""Write batches to a table as another process, which the checks of processes start and kill. Imports no torch."""

from __future__ import annotations

import importlib.util
import json
import sys
from contextlib import closing
from pathlib import Path

from x2kit.testing.indexes.rows import BATCH, made_rows


def write(call: str) -> None:
    """Write batches, and print a line after each.

    Args:
        call: JSON with file, module and name of the component's class, its settings, and the location.
    """
    given = json.loads(call)
    sys.path[:] = given["path"]
    if given["file"] is not None:  # a file that a recipe names is on no import path
        _import_file(given["module"].partition(".")[0], Path(given["file"]))
    found = importlib.import_module(given["module"])
    for part in given["name"].split("."):
        found = getattr(found, part)
    component = found.model_validate(given["settings"])
    with closing(component.open(given["location"])) as index:
        for batch in range(given["batches"]):
            index.upsert(made_rows(batch * BATCH, (batch + 1) * BATCH, given["prefix"]))
            sys.stdout.write(f"{batch}\n")
            sys.stdout.flush()


def _import_file(name: str, file: Path) -> None:
    folder = [str(file.parent)] if file.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, file, submodule_search_locations=folder)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules[name])


if __name__ == "__main__":
    write(sys.argv[1])
