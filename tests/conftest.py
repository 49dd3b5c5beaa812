"""Settings of all tests: the Hypothesis profile, temporary state and cache folders, default limits."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from x2kit.data.storage.limits import LimitsConfig

# no deadline: a busy machine must not fail an example
settings.register_profile("x2kit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("x2kit")
logging.getLogger("torch.__trace").propagate = False  # pytest would format every line of every trace


@pytest.fixture(autouse=True, scope="session")
def temporary_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the hashes of plugins, and converted models, in temporary folders instead of the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("X2KIT_STATE", str(tmp_path_factory.mktemp("state")))
        patch.setenv("X2KIT_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True)
def default_limits() -> Iterator[None]:
    """Reset the limits of records, which are global to the process, after each test."""
    yield
    LimitsConfig().apply()
