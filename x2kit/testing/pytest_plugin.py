"""Pytest plugin of the conformance kit: the mark and the fixture `conformance`. Imports no torch at startup."""

from __future__ import annotations

from typing import Any

import pytest

MARK = "conformance"


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark, for --strict-markers."""
    config.addinivalue_line(
        "markers",
        f"{MARK}(*components, **options): run the test with each check of x2kit.testing on these components; "
        "texts=... for text encoders, text_width=... and context_width=... for fusion encoders, records=... and "
        "heads=... for tasks, rows=... for indexes",
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Parametrise a marked test by component and check."""
    if MARK not in metafunc.fixturenames:
        return
    mark = metafunc.definition.get_closest_marker(MARK)
    if mark is None or not mark.args:
        raise pytest.UsageError(
            f"{metafunc.definition.nodeid}: the fixture {MARK} needs @pytest.mark.{MARK}(component, ...)"
        )
    from x2kit.testing.conformance import checks

    metafunc.parametrize(
        MARK,
        [
            pytest.param((check, component, mark.kwargs), id=f"{component.component_name()}-{check.__name__}")
            for component in mark.args
            for check in checks(component.kind)
        ],
        indirect=True,
    )


@pytest.fixture
def conformance(request: pytest.FixtureRequest) -> Any:
    """Return a function that runs one check of the conformance kit on one component."""
    check, component, options = request.param

    def run() -> None:
        check(component, **options)

    return run
