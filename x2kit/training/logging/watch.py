"""What a person should know about the losses while a run goes on. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from x2kit.data.config import Phase
from x2kit.objectives.matching import describe_collapse

PATIENCE = 0.2
"""Share of the run for which a matching head may stay collapsed: at its start it has not learned anything yet."""
_POSITIVE, _NEGATIVE = "_positive_accuracy", "_negative_accuracy"


class LossWatch:
    """Messages about losses that start or stop, and about matching heads that have collapsed.

    Args:
        phases: of the run; none for a run without steps.
        done: steps before the first one that is watched.
    """

    def __init__(self, phases: Sequence[Phase], done: int) -> None:
        self._phases, self._steps = phases, phases[-1].stop if phases else 0
        self._shown = _phase_of(phases, max(done - 1, 0)) if phases else None
        self._collapsed_since: dict[str, int] = {}
        self._warned: set[str] = set()

    def messages(self, done: int, values: Mapping[str, float]) -> Iterator[str]:
        """Look at a line of metrics.

        Args:
            done: steps done, at least 1.
            values: of the line.
        """
        yield from self._changes(done, values)
        for name in values:
            if name.endswith(_POSITIVE) and name.replace(_POSITIVE, _NEGATIVE) in values:
                yield from self._matching(done, name.removesuffix(_POSITIVE), values)

    def _changes(self, done: int, values: Mapping[str, float]) -> Iterator[str]:
        before, now = self._shown, _phase_of(self._phases, done - 1)
        if now == before:
            return
        self._shown = now
        known = before.names if before else ()
        started = [_with_value(name, values) for name in now.names if name not in known]
        stopped = [name for name in known if name not in now.names]
        if started:
            yield f"losses that started since step {now.start}: {', '.join(started)}; the total loss rises by them"
        if stopped:
            yield f"losses that stopped since step {now.start}: {', '.join(stopped)}; the total loss falls by them"

    def _matching(self, done: int, loss: str, values: Mapping[str, float]) -> Iterator[str]:
        found = describe_collapse(values[loss + _POSITIVE], values[loss + _NEGATIVE])
        if found is None:
            self._collapsed_since.pop(loss, None)
            return
        since = self._collapsed_since.setdefault(loss, done)
        long = done - since >= PATIENCE * self._steps
        if loss not in self._warned and (long or done == self._steps):
            self._warned.add(loss)
            yield (
                f"warning: {loss}: after step {done} the matching head {found}; more steps, a lower training.lr or a "
                "later start of this loss help most often"
            )


def _phase_of(phases: Sequence[Phase], step: int) -> Phase:
    return next(phase for phase in phases if step < phase.stop)


def _with_value(name: str, values: Mapping[str, float]) -> str:
    return f"{name} {values[name]:.3g}" if name in values else name
