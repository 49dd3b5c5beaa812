"""Every parameter has the recorded learning rate, its multiple of the base rate, and weight decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from x2kit.training.config import TrainingConfig
from x2kit.training.optim.optimizer import parameter_groups

from .conftest import Recording
from .evidence import check, check_equal
from .steps import as_new_as_recorded, rate_settings, with_twins

RATE = 1e-12
"""Of the largest; both are one product in double precision."""
QUANTITIES = ("lr", "lr_mult", "weight_decay")


def tables(recording: Recording) -> dict[str, dict[str, Any]]:
    recorded = recording.json("param_groups")
    assert recorded.keys() > {"init_params"}
    return {name: table for name, table in recorded.items() if name != "init_params"}


def own_values(recording: Recording, config: TrainingConfig) -> dict[str, Tensor]:
    """Rate, multiple and decay of every parameter, by official name."""
    found = {}
    for group in parameter_groups(recording.model, config):
        peak, decay = group["peak"], group["weight_decay"]
        values = torch.tensor([peak, peak / config.lr, decay], dtype=torch.float64)  # type: ignore[operator]
        found |= {name: values.repeat(len(recording.names[name]), 1) for name in group["names"]}  # type: ignore[attr-defined]
    return {name: values.flatten() for name, values in recording.by_official_name(found).items()}


def test_rates_and_decay_are_the_recorded_ones(recording: Recording) -> None:
    as_new_as_recorded(recording)
    for name, recorded in tables(recording).items():
        config = TrainingConfig(steps=1, **rate_settings(recording, recorded["args"]))
        found, expected = own_values(recording, config), recorded["table"]
        for place, quantity in enumerate(QUANTITIES):
            check(
                f"{recording.folder.name}/param_groups.json",
                f"{name}.{quantity}",
                [found[parameter][place].item() for parameter in expected],
                [values[quantity] for values in expected.values()],
                rtol=RATE,
            )


def test_no_parameter_is_left_out(recording: Recording) -> None:
    """The recorded names, with those that are tied to them, are all the parameters that there are."""
    found = own_values(recording, TrainingConfig(steps=1)).keys()
    for name, recorded in tables(recording).items():
        names = with_twins(recording, recorded["table"])
        check_equal(
            f"{recording.folder.name}/param_groups.json",
            f"{name}: names",
            sorted(found),
            sorted(names),
        )
