"""The optimisers keep the contract."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
from x2kit_optimizers import Adafactor, Lion, Muon, ScheduleFreeAdamW

from x2kit.plugin import SettingError

needs_schedulefree = pytest.mark.skipif(
    find_spec("schedulefree") is None, reason="extra schedulefree is not installed"
)


@pytest.mark.conformance(Muon(), Muon(lr_mult=3.0, nesterov=False))
def test_muon_keeps_the_contract(conformance: Any) -> None:
    conformance()


@pytest.mark.conformance(Lion(), Adafactor())
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()


@needs_schedulefree
@pytest.mark.conformance(ScheduleFreeAdamW())
def test_without_a_schedule_it_keeps_the_contract(conformance: Any) -> None:
    conformance()


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("x2kit_optimizers.config.find_spec", lambda name: None)
    with pytest.raises(SettingError, match=r'pip install "x2kit\[schedulefree\]"'):
        ScheduleFreeAdamW().check()
