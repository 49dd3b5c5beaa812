"""`x2kit plugins check`: run the conformance kit on the components of a plugin."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jsonargparse
import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from x2kit.errors import PluginError, X2KitError
from x2kit.plugin.choice import context_of
from x2kit.plugin.components import ComponentConfig
from x2kit.plugin.loading.discovery import module_file
from x2kit.plugin.loading.file_modules import is_path
from x2kit.plugin.loading.manager import Plugins, PluginState, load_plugins
from x2kit.recipe.faults import nearest, value_fault

HELP = "run the conformance kit on the components of a plugin; exit status 1 if a check fails"
WHEN_INSTALLED = "required only of installed plugins, which every command imports"
BUILT = "its_settings_can_be_made"
"""Name of the check that fails if a component has required settings that `--set` does not give."""


@dataclass(frozen=True)
class Outcome:
    """Result of one check of one component.

    Attributes:
        component: name in recipes.
        kind: kind of the component.
        check: name of the check.
        passed: whether the check passed, or does not apply to plugins that are not installed; None if it was not run.
        message: failure message of the kit; advice if `passed`; what is missing if it was not run.
    """

    component: str
    kind: str
    check: str
    passed: bool | None
    message: str | None = None


def add_arguments(parser: jsonargparse.ArgumentParser) -> None:
    """Add the action's options."""
    parser.add_argument("plugin", help="installed plugin or distribution, Python file, or module")
    parser.add_argument("--component", metavar="NAME", help="check only this component")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a setting of the components, VALUE in YAML; repeatable; small sizes make checks fast",
    )
    parser.add_argument(
        "--records",
        metavar="FILE",
        help="tasks: JSON Lines of at least three sample records, as JsonLines reads them",
    )
    parser.add_argument("--heads", metavar="YAML", help="tasks: the keys of model.heads, as in a recipe")
    parser.add_argument("--json", action="store_true", help="print the results as JSON")


def run(options: jsonargparse.Namespace) -> int:
    """Print the result of each check. Returns 1 if one fails."""
    plugins, state = _plugin(options.plugin)
    components = _components(plugins, state, options.component)
    settings = _settings(options.set)
    of_tasks = _task_options(options, plugins)
    outcomes = []
    for component in components:
        if not options.json:
            print(f"{component.component_name()} ({component.kind}, plugin {state.name})", flush=True)
        given = of_tasks if component.kind == "task" else {}
        for outcome in _outcomes(component, settings, plugins, state.origin == "entry point", given):
            outcomes.append(outcome)
            if not options.json:
                print(_line(outcome), flush=True)
    if options.json:
        print(json.dumps([asdict(outcome) for outcome in outcomes], ensure_ascii=False, indent=2))
    else:
        print(_summary(outcomes))
    return 1 if any(outcome.passed is False for outcome in outcomes) else 0


def _line(outcome: Outcome) -> str:
    if outcome.message is None:
        return f"  pass  {outcome.check}"
    if outcome.passed is None:
        return f"  skip  {outcome.check}"
    line = f"  {'note' if outcome.passed else 'FAIL'}  {outcome.check}"
    return line + "".join(f"\n        {part}" for part in outcome.message.splitlines())


def _summary(outcomes: Sequence[Outcome]) -> str:
    """Count the outcomes, and say once what the checks that were not run need."""
    counts = Counter(outcome.passed for outcome in outcomes)
    line = f"{counts[True]} passed, {counts[False]} failed"
    if not counts[None]:
        return line
    needs = dict.fromkeys(outcome.message for outcome in outcomes if outcome.passed is None)
    return "\n".join([f"{line}, {counts[None]} not run:", *(f"  {need}" for need in needs)])


def _plugin(text: str) -> tuple[Plugins, PluginState]:
    """Find the plugin. Raises PluginError if there is none, several, or if it is quarantined."""
    plugins = load_plugins()
    found = _installed(plugins, text)
    if not found and not is_path(text) and module_file(text) is None:
        raise PluginError(_no_plugin(text, plugins))
    if len(found) > 1:
        names = ", ".join(state.name for state in found)
        raise PluginError(f"distribution {text} has several plugins; choose one: {names}")
    if not found:
        plugins = load_plugins([text])
        found = [plugins.state_of(text)]
    (state,) = found
    if state.error is not None:
        known = [known.name for known in plugins.states if known is not state]
        raise PluginError(f"{state.error}{nearest(text, known)}\n  see: x2kit plugins list --json")
    return plugins, state


def _no_plugin(text: str, plugins: Plugins) -> str:
    names = [state.name for state in plugins.states]
    if Path(f"{text}.py").is_file():
        advice = f"to check the file {text}.py, write {text}.py"
    else:
        advice = "to check a file, write its path: ./my_encoder.py"
    return (
        f"no plugin, distribution or module is called {text!r}{nearest(text, names)}\n"
        f"  installed: {', '.join(names)}\n  {advice}"
    )


def _fault(component: type[ComponentConfig], fault: ErrorDetails) -> str:
    """Describe an invalid, unknown or missing setting."""
    name = ".".join(map(str, fault["loc"]))
    fields = component.model_fields
    if fault["type"] == "extra_forbidden":
        return f"{name}: no setting of {component.component_name()}{nearest(name, list(fields))}; known: " + (
            ", ".join(fields) or "none"
        )
    if fault["type"] == "missing":
        described = fields[name].description if name in fields else None
        return f"{name}: missing{f': {described}' if described else ''}"
    return f"{name}: {value_fault(fault)}"


def _installed(plugins: Plugins, text: str) -> list[PluginState]:
    """Return the plugin of this name, or the plugins of the distribution of this name."""
    installed = [state for state in plugins.states if state.origin == "entry point"]
    named = [state for state in installed if state.name == text]
    return named or [state for state in installed if state.distribution.partition(" ")[0] == text]


def _components(plugins: Plugins, state: PluginState, only: str | None) -> list[type[ComponentConfig]]:
    names = [name for _, name in state.components]
    if only is not None and only not in names:
        raise X2KitError(
            f"plugin {state.name} has no component {only!r}{nearest(only, names)}; it has {', '.join(names)}"
        )
    return [plugins.registry.get(kind, name) for kind, name in state.components if only in (None, name)]


def _settings(arguments: Sequence[str]) -> dict[str, Any]:
    """Parse KEY=VALUE settings. Raises X2KitError for invalid ones."""
    settings = {}
    for text in arguments:
        key, equals, value = text.partition("=")
        if not equals or not key:
            raise X2KitError(f"--set {text}: expected KEY=VALUE, for example --set width=16")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise X2KitError(f"--set {text}: {value!r} is not valid YAML: {error}") from error
    return settings


def _task_options(options: jsonargparse.Namespace, plugins: Plugins) -> dict[str, Any]:
    """Read the sample records and heads. Raises X2KitError for invalid ones, DataError for unreadable records."""
    from x2kit.data.sources.config import JsonLines
    from x2kit.model.config import HeadsConfig

    given: dict[str, Any] = {}
    if options.records is not None:
        source = JsonLines(files=(options.records,))
        source.check()
        records = source.open()
        given["records"] = [records[index] for index in range(len(records))]
    if options.heads is not None:
        try:
            heads = yaml.safe_load(options.heads)
            given["heads"] = HeadsConfig.model_validate(heads, context=context_of(plugins.registry))
        except (yaml.YAMLError, ValidationError) as error:
            raise X2KitError(f"--heads {options.heads}: {error}") from error
    return given


def _outcomes(
    component: type[ComponentConfig],
    settings: Mapping[str, Any],
    plugins: Plugins,
    installed: bool,
    given: Mapping[str, Any],
) -> Iterator[Outcome]:
    from x2kit.testing import Unchecked, checks

    def outcome(check: str, message: str | None = None, passed: bool | None = False) -> Outcome:
        passed = message is None or passed
        return Outcome(component.component_name(), component.kind, check, passed, message)

    try:
        subject = component.model_validate(dict(settings), context=context_of(plugins.registry))
    except ValidationError as error:
        faults = "; ".join(_fault(component, fault) for fault in error.errors())
        yield outcome(BUILT, f"{faults}; give settings with --component and --set KEY=VALUE")
        return
    yield outcome(BUILT)
    for check in checks(component.kind):
        try:
            check(subject, **given)
        except AssertionError as error:
            message = str(error).removeprefix(f"{component.component_name()}: {check.__name__}: ")
            if isinstance(error, Unchecked):
                yield outcome(check.__name__, message, passed=None)
            elif check.for_installed and not installed:
                yield outcome(check.__name__, f"{message}\n{WHEN_INSTALLED}", passed=True)
            else:
                yield outcome(check.__name__, message)
        else:
            yield outcome(check.__name__)
