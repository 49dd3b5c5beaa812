"""What holds for all tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from x2kit.data.storage.limits import LimitsConfig

# A busy machine is slow, not wrong: no example may fail because of the time that it took.
settings.register_profile("x2kit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("x2kit")


@pytest.fixture(autouse=True, scope="session")
def state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hashes of plugins are kept in a temporary folder, not in that of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("X2KIT_STATE", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def default_limits() -> Iterator[None]:
    """The limits of one test's recipe, which are in force in the whole process, do not reach the next test."""
    yield
    LimitsConfig().apply()
