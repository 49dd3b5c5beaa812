"""Tables of LanceDB."""

from __future__ import annotations

from typing import Any

import pytest
from x2kit_search import LanceDB

SMALL = LanceDB(exact_below=0, partition_size=80, nprobes=2, keep_minutes=0)


@pytest.mark.conformance(SMALL, rows=300)
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()
