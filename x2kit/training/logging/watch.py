"""Report losses that start or stop and matching heads that collapse. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from x2kit.data.config import Phase
from x2kit.objectives.matching import describe_collapse

PATIENCE = 0.2
"""Share of the run that a matching head may stay collapsed: at the start it has not learned yet."""
_POSITIVE, _NEGATIVE = "_positive_accuracy", "_negative_accuracy"


class LossWatch:
    """Produce messages about losses that start or stop, and about collapsed matching heads.

    Args:
        phases: of the run; none for a run without steps.
        done: steps done before the first watched one.
    """

    def __init__(self, phases: Sequence[Phase], done: int) -> None:
        self._phases, self._steps = phases, phases[-1].stop if phases else 0
        self._phase = _phase_of(phases, max(done - 1, 0)) if phases else None
        self._collapsed_since: dict[str, int] = {}
        self._warned: set[str] = set()

    def messages(self, done: int, values: Mapping[str, float]) -> Iterator[str]:
        """Check one line of metrics.

        Args:
            done: steps done, at least 1.
            values: of the line.
        """
        yield from self._phase_changes(done, values)
        for name in values:
            if name.endswith(_POSITIVE) and name.replace(_POSITIVE, _NEGATIVE) in values:
                yield from self._collapse(done, name.removesuffix(_POSITIVE), values)

    def _phase_changes(self, done: int, values: Mapping[str, float]) -> Iterator[str]:
        before, now = self._phase, _phase_of(self._phases, done - 1)
        if now == before:
            return
        self._phase = now
        known = before.names if before else ()
        started = [_with_value(name, values) for name in now.names if name not in known]
        stopped = [name for name in known if name not in now.names]
        if started:
            yield f"losses started since step {now.start}: {', '.join(started)}; the total loss rises by them"
        if stopped:
            yield f"losses stopped since step {now.start}: {', '.join(stopped)}; the total loss falls by them"

    def _collapse(self, done: int, loss: str, values: Mapping[str, float]) -> Iterator[str]:
        collapse = describe_collapse(values[loss + _POSITIVE], values[loss + _NEGATIVE])
        if collapse is None:
            self._collapsed_since.pop(loss, None)
            return
        since = self._collapsed_since.setdefault(loss, done)
        expired = done - since >= PATIENCE * self._steps or done == self._steps
        if loss not in self._warned and expired:
            self._warned.add(loss)
            yield (
                f"warning: {loss}: after step {done} the matching head {collapse}; more steps, a lower training.lr or "
                "a later start of this loss often help"
            )


def _phase_of(phases: Sequence[Phase], step: int) -> Phase:
    return next(phase for phase in phases if step < phase.stop)


def _with_value(name: str, values: Mapping[str, float]) -> str:
    return f"{name} {values[name]:.3g}" if name in values else name
