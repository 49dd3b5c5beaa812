"""Which checkpoints of a run stay. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping

from x2kit.training.config import TrainingConfig


def superseded(metrics: Mapping[int, Mapping[str, float]], now: int, config: TrainingConfig) -> list[int]:
    """The checkpoints to remove after one was saved.

    The newest `keep_last` stay, every one at a multiple of `keep_every`, and the best by `keep_best`. Those of later
    steps than `now` go: the run went back behind them, because they were damaged, and is about to make them again.

    Args:
        metrics: of every checkpoint, by its step, what was logged last when it was saved.
        now: the step that was just saved.
    """
    past = sorted(step for step in metrics if step <= now)
    stay = set(past[-config.keep_last :])
    if config.keep_every is not None:
        stay |= {step for step in past if step % config.keep_every == 0}
    stay |= best({step: metrics[step] for step in past}, config)
    return sorted(set(metrics) - stay)


def best(metrics: Mapping[int, Mapping[str, float]], config: TrainingConfig) -> set[int]:
    """The step of the best checkpoint by `keep_best`, the earliest of equals; none where nothing is compared."""
    name = config.keep_best
    if name is None:
        return set()
    sign = 1 if config.best_is == "lowest" else -1
    ranked = sorted((sign * values[name], step) for step, values in metrics.items() if name in values)
    return {step for _, step in ranked[:1]}
