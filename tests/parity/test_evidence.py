"""Comparisons fail for different values, are recorded, and appear on the page."""

from __future__ import annotations

import pytest
import torch

from . import evidence, page
from .evidence import Deliberate, Seen, check, check_equal


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Seen]:
    """Comparisons of this test alone; what is compared here was not recorded."""
    found: list[Seen] = []
    monkeypatch.setattr(evidence, "SEEN", found)
    return found


def near(quantity: str, difference: float = 1e-7, file: str = "a/b.json", atol: float = 1e-5) -> Seen:
    return Seen(file, quantity, 10, difference, atol, 0.0, atol)


def test_values_within_tolerance_are_recorded_with_their_largest_difference(seen: list[Seen]) -> None:
    check("a/b.json", "q", torch.tensor([1.0, 2.5]), [1.0, 2.0], atol=0.1, rtol=0.2)
    assert seen == [Seen("a/b.json", "q", 2, 0.5, 0.1, 0.2, 0.1 + 0.2 * 2)]


@pytest.mark.parametrize(
    ("found", "message"),
    [([1.0, 2.6], "q: differs by 0.6, at most 0.5 is allowed"), ([1.0], r"q: shape \[1\], \[2\]")],
)
def test_different_values_fail(seen: list[Seen], found: list[float], message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check("a/b.json", "q", found, [1.0, 2.0], atol=0.1, rtol=0.2)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_value_is_close_to_nan(seen: list[Seen], value: float) -> None:
    with pytest.raises(AssertionError):
        check("a/b.json", "q", [value], [1.0], atol=1e9)


def test_names_are_equal_or_fail(seen: list[Seen]) -> None:
    check_equal("a/b.json", "q", {"x": [1, 2], "y": {3}, "z": []}, {"x": [1, 2], "y": {3}, "z": []})
    assert seen[0].values == 4
    with pytest.raises(AssertionError, match=r'q: found \["x"\], recorded \["y"\]'):
        check_equal("a/b.json", "q", ["x"], ["y"])


def test_the_page_has_tolerance_and_largest_difference_of_a_quantity() -> None:
    found = page.page([near("q", 2e-7), near("q", 3.4e-6), near("names", 0.0, atol=0.0)], [])
    assert "| `b.json` | 20 | 1e-5 | `q` 3e-6 |" in found
    assert "| `b.json` | 10 | equal | `names` |" in found
    assert "| [a](#a) |  | 30 | 30 % |" in found


def test_the_page_does_not_depend_on_the_order_of_tests() -> None:
    comparisons = [near("q", 2e-7), near("q", 3e-7), near("r", file="a/c.json"), near("s", atol=1e-3)]
    assert page.page(comparisons, []) == page.page(comparisons[::-1], [])


def test_quantities_that_differ_in_numbers_are_one_entry() -> None:
    found = page.entries(["layer.0.bias64", "layer.1.bias64", "w4", "norm.3"])
    assert found == {
        "layer.*.bias64": ["layer.0.bias64", "layer.1.bias64"],
        "norm.3": ["norm.3"],
        "w4": ["w4"],
    }


def test_many_quantities_that_begin_alike_are_one_entry() -> None:
    names = sorted(f"grad.{'x' * length}" for length in range(page.MANY + 1))
    assert page.entries([*names, "loss"]) == {"grad.*": names, "loss": ["loss"]}


def test_files_share_a_line_only_if_all_the_same_was_compared_in_them() -> None:
    both = [near(quantity, file=f"a/{file}.json") for file in "bc" for quantity in ("q", "r")]
    assert [row.files for row in page.rows(both)] == [["a/b.json", "a/c.json"]]
    more = [*both, near("s", file="a/c.json", atol=1e-3)]
    assert sorted(row.files for row in page.rows(more)) == [["a/b.json"], ["a/c.json"], ["a/c.json"]]


def test_a_bar_ends_no_cell() -> None:
    assert "| a \\| b | c | d |" in page.page([], [Deliberate("a | b", "c", "d")])
