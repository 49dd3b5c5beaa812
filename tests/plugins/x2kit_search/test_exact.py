"""Exact search over a SQLite table and a file of vectors."""

from __future__ import annotations

from typing import Any

import pytest
from x2kit_search import Exact


@pytest.mark.conformance(Exact())
def test_it_keeps_the_contract(conformance: Any) -> None:
    conformance()
