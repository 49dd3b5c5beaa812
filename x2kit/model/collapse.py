"""A matching head that gives every pair the same answer. Imports no torch."""

from __future__ import annotations

NEAR = 0.01
"""How far an accuracy may be from 0 or 1: less than one pair in a hundred gets another answer."""


def describe_collapse(positive_accuracy: float, negative_accuracy: float) -> str | None:
    """Say that a matching head tells nothing apart; None if it does.

    Args:
        positive_accuracy: share of the matching pairs that it calls matching.
        negative_accuracy: share of the other pairs that it calls not matching.
    """
    if positive_accuracy <= NEAR and negative_accuracy >= 1 - NEAR:
        answer = "no match"
    elif positive_accuracy >= 1 - NEAR and negative_accuracy <= NEAR:
        answer = "match"
    else:
        return None
    return (
        f'answers "{answer}" to nearly every pair (accuracy {positive_accuracy:.2f} on matching pairs, '
        f"{negative_accuracy:.2f} on the others), so its scores tell nothing apart"
    )
