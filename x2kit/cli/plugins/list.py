"""`x2kit plugins list`: list components and quarantined plugins."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from x2kit.cli.parser import add_plugin_argument
from x2kit.errors import PluginError
from x2kit.plugin.components import Kind
from x2kit.plugin.hookspecs import API_VERSION
from x2kit.plugin.loading.manager import Plugins, load_plugins
from x2kit.plugin.registry import KINDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jsonargparse import ArgumentParser, Namespace

HELP = "list all components, and plugins that failed to load"


def add_arguments(parser: ArgumentParser) -> None:
    """Add the action's options."""
    parser.add_argument("--kind", choices=list(KINDS), help="list only components of this kind")
    add_plugin_argument(parser)
    parser.add_argument("--json", action="store_true", help="print the list as JSON, with tracebacks")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="stop at the first plugin that fails to load, with its traceback",
    )


def run(options: Namespace) -> int:
    """Print the list; quarantined plugins are an error only with `--strict`."""
    try:
        plugins = load_plugins(options.plugin, strict=options.strict)
    except PluginError as error:
        print("".join(traceback.format_exception(error.__cause__)), file=sys.stderr)  # for plugin authors
        raise
    if options.json:
        print(json.dumps(as_json(plugins, options.kind), indent=2))
    else:
        print("\n".join(as_text(plugins, options.kind)))
    return 0


def as_json(plugins: Plugins, kind: Kind | None) -> dict[str, Any]:
    """Return components as in the table, and the state of every plugin."""
    header = ("name", "kind", "plugin", "distribution", "status")
    components = [dict(zip(header, row, strict=True)) for row in _rows(plugins, kind)]
    states = [
        asdict(state) | {"components": [{"kind": kind, "name": name} for kind, name in state.components]}
        for state in plugins.states
    ]
    return {"api_version": API_VERSION, "components": components, "plugins": states}


def as_text(plugins: Plugins, kind: Kind | None) -> list[str]:
    """Format the table, and below it the errors of quarantined plugins."""
    quarantined = [("-", "-", s.name, s.distribution or "-", s.status) for s in plugins.quarantined]
    header = ("NAME", "KIND", "PLUGIN", "DISTRIBUTION", "STATUS")
    lines = _aligned([header, *_rows(plugins, kind), *quarantined])
    if plugins.quarantined:
        lines += ["", "quarantined:"]
        lines += [f"  {line}" for s in plugins.quarantined for line in (s.error or "").splitlines()]
        lines += ["", "for tracebacks: x2kit plugins list --json"]
    return lines


def _rows(plugins: Plugins, kind: Kind | None) -> list[tuple[str, str, str, str, str]]:
    """Return name, kind, plugin, distribution and status of components, then subcommands."""
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
    """Align columns without truncating or wrapping, so that the output can be searched."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
