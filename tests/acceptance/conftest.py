"""What the tests of plugins have already: environments of their own, and broken distributions."""

from __future__ import annotations

from tests.plugin.conftest import install
from tests.plugin.test_installed_distribution import environment

__all__ = ["environment", "install"]
