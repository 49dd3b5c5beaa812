"""Which jobs of a measurement are a process's own. Imports torch.

A job is what one process computes at once: a batch of pictures or texts, a pass of pairs. Jobs are shared whole, for
another batch would change the last digits of its numbers; so several processes find what one finds, to the last bit.
"""

from __future__ import annotations

from torch import Tensor

from x2kit.plugin.tasks import Ranks


def own_part(costs: Tensor, ranks: Ranks) -> range:
    """The jobs of this process: neighbours, so that what all have done lies in order, rank by rank.

    Each job goes to the process in whose share of the whole cost its middle lies.

    Args:
        costs: [J] int64, above 0; of any unit, the same in all processes.
    """
    middles = 2 * costs.cumsum(0) - costs
    owners = middles * ranks.count // (2 * costs.sum())
    return range(int((owners < ranks.rank).sum()), int((owners <= ranks.rank).sum()))
