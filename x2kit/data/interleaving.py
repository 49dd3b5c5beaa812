"""A fixed order in which sources take turns, so that every stretch of it has their shares. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from math import gcd, lcm

import numpy as np
from numpy.typing import NDArray

from x2kit.errors import SettingError

LONGEST = 2**16
"""Turns after which the order repeats, at most."""


def whole_shares(weights: Sequence[float]) -> list[int]:
    """The smallest whole numbers in the ratio of the weights as they are written: 0.7 and 0.2 give 7 and 2.

    Raises: SettingError if their sum is over 65,536.
    """
    ratios = [Fraction(str(weight)) for weight in weights]
    scale = lcm(*(ratio.denominator for ratio in ratios))
    whole = [int(ratio * scale) for ratio in ratios]
    shares = [number // gcd(*whole) for number in whole]
    if sum(shares) > LONGEST:
        raise SettingError(
            "weights",
            f"as whole numbers they are {', '.join(map(str, shares))}, {sum(shares)} in all; write weights that make "
            f"no more than {LONGEST} in all, with fewer digits",
        )
    return shares


def turns(shares: Sequence[int]) -> NDArray[np.int64]:
    """Whose turn it is, for one round of `sum(shares)` turns, after which it repeats.

    After any number of turns each has had its share of them to within one turn: the algorithm of R. Tijdeman,
    The chairman assignment problem, Discrete Mathematics 32 (1980), in whole numbers.

    Args:
        shares: turns of each in one round.
    Returns: [sum(shares)] int64, numbers of the sources.
    """
    total, slack = sum(shares), max(1, 2 * len(shares) - 2)
    taken = [0] * len(shares)
    order = np.empty(total, np.int64)
    for turn in range(1, total + 1):
        # how far each is behind, in units of 1 / (slack * total) turns; only who is behind enough may come
        behind = [slack * (share * turn - total * had) for share, had in zip(shares, taken, strict=True)]
        waiting = [number for number, late in enumerate(behind) if late >= total]
        # of these the one that would be a whole turn behind first
        chosen = min(waiting, key=lambda n: (Fraction((slack - 1) * total - behind[n], shares[n]), n))
        taken[chosen] += 1
        order[turn - 1] = chosen
    return order
