"""Fates of keys as text, as JSON and as an error."""

from __future__ import annotations

import pytest

from x2kit.errors import WeightsError
from x2kit.interop.account import MEANING, Account


@pytest.fixture
def account() -> Account:
    made = Account("a.th")
    made.add("w", "used")
    for number in range(5):
        made.add(f"index.{number}", "kept", "differs")
    made.add("optimizer", "dropped", "no part of a model")
    return made


def test_lines_have_counts_and_keys_outside_the_model(account: Account) -> None:
    assert list(account.lines()) == [
        f"    1 used       {MEANING['used']}",
        f"    5 kept       {MEANING['kept']}",
        f"    1 dropped    {MEANING['dropped']}",
        "      kept: index.0, index.1, index.2 and 2 more (differs)",
        "      dropped: optimizer (no part of a model)",
    ]


def test_json_has_every_key(account: Account) -> None:
    read = account.to_json()
    assert read["counts"] == {"used": 1, "kept": 5, "dropped": 1}
    assert read["keys"]["index.4"] == {"fate": "kept", "reason": "differs"}
    assert len(read["keys"]) == 7


def test_a_later_fate_replaces_an_earlier_one(account: Account) -> None:
    account.add("w", "resized", "[4] to [9]")
    assert account.of("used") == []
    assert account.of("resized", "dropped") == ["w", "optimizer"]


def test_all_faults_are_listed_at_once(account: Account) -> None:
    account.require_whole()
    for number in range(8):
        account.add(f"m.{number}", "missing")
    account.add("u", "unexpected")
    account.shapes.append("w [3] instead of [4]")
    with pytest.raises(WeightsError) as error:
        account.require_whole()
    assert str(error.value) == (
        "a.th: does not fit its layout\n"
        "  missing: m.0, m.1, m.2, m.3, m.4, m.5 and 2 more\n"
        "  unexpected: u\n"
        "  other shape: w [3] instead of [4]"
    )
