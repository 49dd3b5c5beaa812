"""Join the plugin templates of a distribution into one module."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator, Mapping

HOOK = "x2kit_register"
WIDTH = 100


def join_modules(parts: Mapping[str, str], module: str, title: str) -> str:
    """Join the modules of a package into one.

    Args:
        parts: source text by module name; `__init__` has the settings and the hook.
        module: name of the package; imports from it are dropped.
        title: docstring of the result.
    """
    first = _Part(parts["__init__"], module)
    others = [_Part(text, module) for name, text in sorted(parts.items()) if name != "__init__"]
    names: dict[str, set[str]] = {}
    for part in (first, *others):
        for source, wanted in part.imports.items():
            names.setdefault(source, set()).update(wanted)
    body, at, hook = first.body.partition(f"@hookimpl\ndef {HOOK}(")
    bodies = [body, *(part.body for part in others), at + hook]
    blocks = [f'"""{title}"""', "from __future__ import annotations", *_import_blocks(names)]
    return "\n\n".join(blocks) + "\n\n" + "\n\n\n".join(text.strip() for text in bodies) + "\n"


class _Part:
    """A parsed module of the package.

    Attributes:
        imports: imported names by module; none for `import NAME`.
        body: everything else.
    """

    def __init__(self, text: str, module: str) -> None:
        tree = ast.parse(text)
        self.imports: dict[str, set[str]] = {}
        dropped = _lines(tree.body[0])  # the docstring
        for node in ast.walk(tree):
            own = isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] == module
            if own or (isinstance(node, ast.Import | ast.ImportFrom | ast.If) and node in tree.body):
                dropped |= _lines(node)
        for node in (*tree.body, *_type_imports(tree)):
            if isinstance(node, ast.Import):
                self.imports |= {ast.unparse(alias): set() for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] != module:
                wanted = {alias.name for alias in node.names} - {"TYPE_CHECKING"}
                self.imports[f"from {node.module}"] = self.imports.get(f"from {node.module}", set()) | wanted
        self.imports.pop("from __future__", None)
        lines = text.splitlines()
        kept = [
            line
            for number, line in enumerate(lines, 1)
            if number not in dropped and not (not line and number - 1 in dropped)
        ]
        self.body = "\n".join(kept)


def _lines(node: ast.AST) -> set[int]:
    assert isinstance(node, ast.stmt)
    return set(range(node.lineno, (node.end_lineno or node.lineno) + 1))


def _type_imports(tree: ast.Module) -> Iterator[ast.stmt]:
    """Yield imports under `if TYPE_CHECKING`, the only top-level `if` of a template."""
    for node in tree.body:
        if isinstance(node, ast.If):
            yield from node.body


def _import_blocks(names: Mapping[str, set[str]]) -> list[str]:
    """Format standard-library imports, then others, in ruff's order."""
    lines: tuple[list[str], list[str]] = [], []
    for source in sorted(names, key=lambda source: (source.startswith("from "), source)):
        wanted = sorted(names[source], key=lambda name: (not name.isupper(), name[0].islower(), name))
        if source.startswith("from ") and not wanted:
            continue
        line = f"{source} import {', '.join(wanted)}" if wanted else f"import {source}"
        if len(line) > WIDTH:
            line = "\n".join([f"{source} import (", *(f"    {name}," for name in wanted), ")"])
        root = source.removeprefix("from ").partition(".")[0]
        lines[root not in sys.stdlib_module_names].append(line)
    return ["\n".join(block) for block in lines if block]
