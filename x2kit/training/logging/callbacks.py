"""Who is told of a run while it goes on: its reporters, and plugins by their hooks. Imports no torch.

What they raise harms no run: it is said once and counted. The exception is what is raised before the first step of a
new run, when nothing is lost yet and somebody is still looking.
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
from x2kit.plugin.components import ReporterConfig
from x2kit.plugin.loading.manager import Plugins
from x2kit.plugin.reporters import Reporter, RunFacts, RunStatus

Say = Callable[[str], None]
HOOKS = ("x2kit_run_started", "x2kit_step_done", "x2kit_checkpoint_saved", "x2kit_run_ended")


class Callbacks:
    """Those of one run, at rank 0.

    Args:
        run: what they are told of it.
        reporters: by name.
        say: told what went wrong.
        plugins: whose hooks are called.
    """

    def __init__(
        self,
        run: RunFacts,
        reporters: Mapping[str, ReporterConfig],
        say: Say,
        plugins: Plugins | None = None,
    ) -> None:
        self._hooks = {hook: plugins.implementing(hook) if plugins else [] for hook in HOOKS}
        self._run, self._configs, self._say = run, reporters, say
        self._reporters: dict[str, Reporter] = {}
        self._failed: Counter[str] = Counter()

    @contextmanager
    def watching(self) -> Iterator[None]:
        """They are told that the run starts, and how it ends."""
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
        """Before the first step. Raises PluginError if one of them fails and the run is a new one."""
        for name, config in self._configs.items():
            self._tell(self._key(name), partial(self._start, name, config), may_end=not self._run.resumed)
        self._call("x2kit_run_started", may_end=not self._run.resumed)

    def step_done(self, step: int, values: Mapping[str, float] | None) -> None:
        """After a step; with values where they were read."""
        if values is not None:
            for name, reporter in self._reporters.items():
                self._tell(self._key(name), partial(reporter.log, step, dict(values)))
        self._call("x2kit_step_done", step=step, values=None if values is None else dict(values))

    def checkpoint_saved(self, step: int, checkpoint: Path) -> None:
        """After a checkpoint that is whole."""
        self._call("x2kit_checkpoint_saved", step=step, checkpoint=checkpoint)

    def ended(self, status: RunStatus) -> None:
        """After the last step, or in place of those that will not come."""
        for name, reporter in self._reporters.items():
            self._tell(self._key(name), partial(reporter.end, status))
        self._call("x2kit_run_ended", status=status)
        for who, times in self._failed.items():
            self._say(
                f"{who} failed {times} {'time' if times == 1 else 'times'}; the run directory has every number"
            )

    def _start(self, name: str, config: ReporterConfig) -> None:
        folder = self._run.directory / REPORTERS / name
        make_folder(folder)
        reporter = config.build()
        reporter.start(self._run, folder)
        self._reporters[name] = reporter  # one that did not start is told nothing more

    def _call(self, hook: str, may_end: bool = False, **facts: Any) -> None:
        for plugin, call in self._hooks[hook]:
            self._tell(f"{hook} of plugin {plugin}", partial(call, run=self._run, **facts), may_end)

    def _key(self, name: str) -> str:
        return f"training.reporters.{name} ({self._configs[name].component_name()})"

    def _tell(self, who: str, call: Callable[[], None], may_end: bool = False) -> None:
        try:
            call()
        except Exception as error:  # a stranger's code and his network, which must not end a run of weeks
            told = f"{who} failed: {type(error).__name__}: {' '.join(str(error).split())}"
            if may_end:
                raise PluginError(
                    f"{told}\n  nothing was trained yet: mend it, or go on without it"
                ) from error
            if who not in self._failed:
                self._say(f"{told}; training goes on, and this is said once")
            self._failed[who] += 1
