"""The house: sizes of folders and modules, and an import graph without circles.

The layers are contracts of import-linter in pyproject.toml, which `make check` runs.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import grimp
from scipy.sparse import lil_array
from scipy.sparse.csgraph import connected_components

ROOT = Path(__file__).parents[1]
MOST_MODULES, FEWEST_LINES, MOST_LINES = 14, 40, 450
PACKAGES = sorted(path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py"))


def modules() -> Iterator[Path]:
    """Yield the modules of x2kit and its plugins; templates of new plugins are data."""
    for folder in ("x2kit", "plugins"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "templates" not in path.parts:
                yield path.relative_to(ROOT)


def lines(path: Path) -> int:
    return len((ROOT / path).read_text(encoding="utf-8").splitlines())


def test_no_folder_has_more_than_14_modules() -> None:
    counts = Counter(str(path.parent) for path in modules())
    assert {folder: count for folder, count in counts.items() if count > MOST_MODULES} == {}


def test_no_module_is_under_40_lines() -> None:
    alone = [path for path in modules() if path.name not in ("__init__.py", "__main__.py")]
    assert {str(path): lines(path) for path in alone if lines(path) < FEWEST_LINES} == {}


def test_no_module_is_over_450_lines() -> None:
    assert {str(path): lines(path) for path in modules() if lines(path) > MOST_LINES} == {}


def test_no_import_circle() -> None:
    graph = grimp.build_graph("x2kit", *PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    names = sorted(graph.modules)
    number = {name: index for index, name in enumerate(names)}
    imports = lil_array((len(names), len(names)), dtype=bool)
    for name in names:
        for imported in graph.find_modules_directly_imported_by(name):
            imports[number[name], number[imported]] = True
    _, components = connected_components(imports, connection="strong")
    circles = defaultdict(list)
    for name, component in zip(names, components, strict=True):
        circles[component].append(name)
    assert [circle for circle in circles.values() if len(circle) > 1] == []
