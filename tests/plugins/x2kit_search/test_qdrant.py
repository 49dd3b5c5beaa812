"""Collections of Qdrant, in the memory of this process: a server is not at hand."""

from __future__ import annotations

from typing import Any

import pytest
from x2kit_search import Qdrant


@pytest.mark.conformance(Qdrant(url=":memory:"))
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()
