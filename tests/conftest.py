"""What holds for all tests."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine is slow, not wrong: no example may fail because of the time that it took.
settings.register_profile("x2kit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("x2kit")
