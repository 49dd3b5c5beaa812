"""`x2kit plugins list`: which components there are, and which plugins do not work."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from x2kit.errors import PluginError
from x2kit.plugin.components import KINDS, Kind
from x2kit.plugin.hookspecs import API_VERSION
from x2kit.plugin.loading.manager import Plugins, load_plugins

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jsonargparse import ArgumentParser, Namespace

TEXT = "list the components that plugins bring, and plugins that do not work"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the action's options."""
    parser.add_argument("--kind", choices=list(KINDS), help="only components of this kind")
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE_OR_MODULE",
        help="a plugin that is not installed; may be given several times",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="fail at the first plugin that does not work, with its traceback",
    )


def run(options: Namespace) -> int:
    """Print the list. A quarantined plugin is shown and is no failure, unless `--strict` asks for it."""
    try:
        plugins = load_plugins(options.plugin, strict=options.strict)
    except PluginError as error:
        print(
            "".join(traceback.format_exception(error.__cause__)), file=sys.stderr
        )  # whoever asks writes plugins
        raise
    if options.json:
        print(json.dumps(as_json(plugins, options.kind), indent=2))
    else:
        print("\n".join(as_text(plugins, options.kind)))
    return 0


def as_json(plugins: Plugins, kind: Kind | None) -> dict[str, Any]:
    """What `--json` prints: components as in the table, and the state of every plugin."""
    header = ("name", "kind", "plugin", "distribution", "status")
    components = [dict(zip(header, row, strict=True)) for row in _rows(plugins, kind)]
    states = [
        asdict(state) | {"components": [{"kind": kind, "name": name} for kind, name in state.components]}
        for state in plugins.states
    ]
    return {"api_version": API_VERSION, "components": components, "plugins": states}


def as_text(plugins: Plugins, kind: Kind | None) -> list[str]:
    """The lines of the table, and below it what is quarantined and why."""
    quarantined = [("-", "-", s.name, s.distribution or "-", s.status) for s in plugins.quarantined]
    header = ("NAME", "KIND", "PLUGIN", "DISTRIBUTION", "STATUS")
    lines = _aligned([header, *_rows(plugins, kind), *quarantined])
    if plugins.quarantined:
        lines += ["", "quarantined, and why:"]
        lines += [f"  {line}" for s in plugins.quarantined for line in (s.error or "").splitlines()]
        lines += ["", "see the tracebacks: x2kit plugins list --json"]
    return lines


def _rows(plugins: Plugins, kind: Kind | None) -> list[tuple[str, str, str, str, str]]:
    """Name, kind, plugin, distribution and status of each component, then of each subcommand."""
    kinds = list(KINDS)
    entries = [entry for entry in plugins.registry if kind in (None, entry.component.kind)]
    entries.sort(key=lambda entry: kinds.index(entry.component.kind))
    rows = [
        (e.component.component_name(), str(e.component.kind), e.plugin, e.distribution, "active")
        for e in entries
    ]
    subcommands = plugins.subcommands if kind is None else ()
    return rows + [
        (subcommand.name, "subcommand", subcommand.plugin, subcommand.distribution, "active")
        for subcommand in subcommands
    ]


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Columns as wide as their widest cell. Nothing is cut or folded, so that the output can be searched."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
