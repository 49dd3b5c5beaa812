"""Settings of all tests: the Hypothesis profile, temporary state and cache folders, default limits."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import cache

import pytest
from hypothesis import HealthCheck, settings

from x2kit.data.storage.limits import LimitsConfig
from x2kit.testing import settings as component_settings

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


@pytest.fixture(autouse=True, scope="session")
def one_import_of_each_module() -> Iterator[None]:
    """Import each module of components alone once, not once for each of its components: no test changes them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(component_settings, "_import_alone", cache(component_settings._import_alone))
        yield


@pytest.fixture(autouse=True)
def default_limits() -> Iterator[None]:
    """Reset the limits of records, which are global to the process, after each test."""
    yield
    LimitsConfig().apply()
