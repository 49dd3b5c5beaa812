"""Both AdamW keep the contract of optimisers."""

from __future__ import annotations

from typing import Any

import pytest

from x2kit.training.optim import AdamW, OfficialAdamW


@pytest.mark.conformance(AdamW(), OfficialAdamW(eps=1e-4))
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()
