"""An index of FAISS beside the table of exact search."""

from __future__ import annotations

from typing import Any

import pytest
from x2kit_search import Faiss

SMALL = Faiss(exact_below=20, partitions=4, nprobes=2, refine=4)


@pytest.mark.conformance(SMALL, rows=300)
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()
