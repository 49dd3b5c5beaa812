"""Each check of tasks finds a mistake in one of the tables beside this file."""

from __future__ import annotations

from tests.testing.tasks import test_learning, test_predictions, test_rows
from x2kit.testing import checks
from x2kit.testing.settings import LAWS

OF_ALL_KINDS = {law.__name__ for law in LAWS}  # tests/testing/test_source.py
ALONE = {"training_lowers_the_loss"}  # test_learning.py


def test_each_check_of_tasks_finds_a_mistake() -> None:
    tables = (test_rows.MISTAKES, test_learning.MISTAKES, test_predictions.MISTAKES)
    found = {name for table in tables for _, name, _ in table}
    assert found | ALONE == {check.__name__ for check in checks("task")} - OF_ALL_KINDS
