from __future__ import annotations

import torch
from torch import nn

from x2kit.model.build import without_initialisation


def test_redrawing_initialisers_terminate_without_initialisation() -> None:
    """Whatever lay in memory; torch's truncated normal draws anew as long as a value is too large."""
    values = torch.full((4,), 1e9)
    with without_initialisation():
        nn.init.trunc_normal_(values, std=0.02)
        nn.init.trunc_normal_(torch.full((4,), torch.nan), mean=1, std=0.02, a=-1)
    assert values.abs().max() < 1


def test_fills_are_skipped_without_initialisation() -> None:
    with without_initialisation():
        layer = nn.Linear(3, 2)
        layer.weight.data.fill_(7)
        nn.init.normal_(layer.weight)
        nn.init.kaiming_uniform_(layer.weight)
    assert (layer.weight == 7).all()
