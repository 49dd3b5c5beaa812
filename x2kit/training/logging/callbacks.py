"""Call reporters and plugin hooks during a run. Imports no torch.

Their errors do not end a run: each is printed once and counted. The exception is an error before the first step of a
new run, when nothing is lost and the user is likely watching.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from x2kit.errors import PluginError
from x2kit.io.atomic import make_folder
from x2kit.io.run_directory import REPORTERS
from x2kit.plugin.loading.manager import Plugins
from x2kit.plugin.training import Reporter, ReporterConfig, RunFacts, RunStatus

HOOKS = ("x2kit_run_started", "x2kit_step_done", "x2kit_checkpoint_saved", "x2kit_run_ended")


class Callbacks:
    """Call the reporters and hooks of one run, at rank 0.

    Args:
        run: facts passed to them.
        reporters: by name.
        say: receives messages for the user.
        plugins: whose hooks are called.
    """

    def __init__(
        self,
        run: RunFacts,
        reporters: Mapping[str, ReporterConfig],
        say: Callable[[str], None],
        plugins: Plugins | None = None,
    ) -> None:
        self._hooks = {hook: plugins.implementing(hook) if plugins else [] for hook in HOOKS}
        self._run, self._configs, self._say = run, reporters, say
        self._reporters: dict[str, Reporter] = {}
        self._failures: Counter[str] = Counter()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Report the start of the run, then how the block ended."""
        status: RunStatus = "failed"
        try:
            self.started()
            yield
            status = "finished"
        except KeyboardInterrupt:
            status = "stopped"
            raise
        finally:
            self.ended(status)

    def started(self) -> None:
        """Report the start. Raises PluginError if a callback of a new run fails."""
        for name, config in self._configs.items():
            self._guard(self._key(name), partial(self._start, name, config), fatal=not self._run.resumed)
        self._call_hook("x2kit_run_started", fatal=not self._run.resumed)

    def step_done(self, step: int, values: Mapping[str, float] | None) -> None:
        """Report a step; values are None unless it was logged."""
        if values is not None:
            for name, reporter in self._reporters.items():
                self._guard(self._key(name), partial(reporter.log, step, dict(values)))
        self._call_hook("x2kit_step_done", step=step, values=None if values is None else dict(values))

    def checkpoint_saved(self, step: int, checkpoint: Path) -> None:
        """Report a complete checkpoint."""
        self._call_hook("x2kit_checkpoint_saved", step=step, checkpoint=checkpoint)

    def ended(self, status: RunStatus) -> None:
        """Report the end of the run, and print how often each callback failed."""
        for name, reporter in self._reporters.items():
            self._guard(self._key(name), partial(reporter.end, status))
        self._call_hook("x2kit_run_ended", status=status)
        for name, count in self._failures.items():
            times = "once" if count == 1 else f"{count} times"
            self._say(f"{name} failed {times}; all values are in metrics.jsonl of the run directory")

    def _start(self, name: str, config: ReporterConfig) -> None:
        folder = self._run.directory / REPORTERS / name
        make_folder(folder)
        reporter = config.build()
        reporter.start(self._run, folder)
        self._reporters[name] = reporter  # a reporter that failed to start is not called again

    def _call_hook(self, hook: str, fatal: bool = False, **facts: Any) -> None:
        for plugin, call in self._hooks[hook]:
            self._guard(f"{hook} of plugin {plugin}", partial(call, run=self._run, **facts), fatal)

    def _key(self, name: str) -> str:
        return f"training.reporters.{name} ({self._configs[name].component_name()})"

    def _guard(self, name: str, call: Callable[[], None], fatal: bool = False) -> None:
        """Call it; print its first error and count all, or raise PluginError if `fatal`."""
        try:
            call()
        except Exception as error:  # a plugin's or network error must not end a run of weeks
            message = f"{name} failed: {type(error).__name__}: {' '.join(str(error).split())}"
            if fatal:
                raise PluginError(
                    f"{message}\n  no step was trained yet: fix it, or remove it from the recipe"
                ) from error
            if name not in self._failures:
                self._say(f"{message}; training continues, further failures are only counted")
            self._failures[name] += 1
