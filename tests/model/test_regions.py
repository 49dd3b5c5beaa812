"""Patches of boxes: what holds for all of them; tests/parity compares with recorded ones."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from x2kit.errors import ShapeError
from x2kit.model.regions import BORDER, boxes_in_pixels, patch_mask, patch_overlap


def mask_of(box: tuple[float, float, float, float], grid: tuple[int, int]) -> Tensor:
    """The mask of one box, given by its corners, as rows and columns."""
    x0, y0, x1, y1 = box
    centre = torch.tensor([[(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]], dtype=torch.float32)
    return patch_mask(centre, grid).view(grid)


sides = st.integers(1, 9)
spans = st.tuples(st.integers(0, 60), st.integers(1, 60)).map(lambda s: (s[0], min(60, s[0] + s[1])))


def naive(span: tuple[int, int], count: int) -> list[bool]:
    """Patch i, which is [i, i + 1] / count, and the span, which is in sixtieths, have a length in common."""
    return [max(span[0] * count, i * 60) < min(span[1] * count, (i + 1) * 60) for i in range(count)]


@settings(max_examples=200)
@given(sides, sides, spans.filter(lambda s: s[0] < s[1]), spans.filter(lambda s: s[0] < s[1]))
def test_a_patch_counts_if_the_box_overlaps_it(
    rows: int, columns: int, across: tuple[int, int], down: tuple[int, int]
) -> None:
    found = mask_of((across[0] / 60, down[0] / 60, across[1] / 60, down[1] / 60), (rows, columns))
    expected = torch.tensor(naive(down, rows))[:, None] & torch.tensor(naive(across, columns))
    assert found.tolist() == expected.tolist()


@settings(max_examples=100)
@given(sides, sides, st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4))
def test_every_box_selects_a_rectangle_that_is_not_empty(rows: int, columns: int, box: list[float]) -> None:
    found = patch_mask(torch.tensor([box]), (rows, columns)).view(rows, columns)
    down, across = found.any(1), found.any(0)
    assert found.tolist() == (down[:, None] & across).tolist()
    assert found.any()
    for side in (down, across):  # without holes
        (touched,) = side.nonzero(as_tuple=True)
        assert len(touched) == touched[-1] - touched[0] + 1


def test_an_edge_on_the_border_of_a_patch_does_not_count() -> None:
    assert mask_of((0.25, 0.5, 0.5, 0.75), (4, 4)).nonzero().tolist() == [[2, 1]]


@pytest.mark.parametrize("count", [3, 7, 14, 24, 48])
def test_edges_on_borders_do_not_spill_over_by_rounding(count: int) -> None:
    first, last = torch.triu_indices(count, count).double()
    box = torch.stack([(first + last + 1) / 2, (last - first + 1)], 1) / count
    found = patch_mask(box[:, [0, 0, 1, 1]].float(), (1, count))
    cells = torch.arange(count)
    assert torch.equal(found, (cells >= first[:, None]) & (cells <= last[:, None]))


@pytest.mark.parametrize(("beyond", "touched"), [(1e-9, [0, 1]), (0.0, [0]), (-1e-9, [0])])
def test_an_edge_a_little_beyond_a_border_counts_in_float64(beyond: float, touched: list[int]) -> None:
    """In pixels, of an image of 384 with patches of 16."""
    width = (16 + beyond) / 384
    mask = patch_mask(torch.tensor([[width / 2, 0.5, width, 1.0]], dtype=torch.float64), (1, 24))
    assert mask[0].nonzero().flatten().tolist() == touched


@pytest.mark.parametrize("count", [3, 7, 14, 24, 48])
def test_edges_on_borders_do_not_spill_over_in_float64(count: int) -> None:
    first, last = torch.triu_indices(count, count).double()
    box = torch.stack([(first + last + 1) / 2, (last - first + 1)], 1) / count
    found = patch_mask(box[:, [0, 0, 1, 1]], (1, count))
    cells = torch.arange(count)
    assert torch.equal(found, (cells >= first[:, None]) & (cells <= last[:, None]))


def test_an_empty_box_at_the_far_edge_selects_the_last_patch() -> None:
    assert mask_of((1.0, 1.0, 1.0, 1.0), (3, 5)).nonzero().tolist() == [[2, 4]]


def test_a_whole_image_selects_everything() -> None:
    assert mask_of((0.0, 0.0, 1.0, 1.0), (3, 5)).all()


def test_the_grid_is_rows_then_columns() -> None:
    # the left half of an image of 2 rows and 4 columns
    assert mask_of((0.0, 0.0, 0.5, 1.0), (2, 4)).tolist() == [[True, True, False, False]] * 2


@settings(max_examples=100)
@given(sides, sides, spans.filter(lambda s: s[0] < s[1]), spans.filter(lambda s: s[0] < s[1]))
def test_the_overlap_is_the_share_of_each_patch_that_is_covered(
    rows: int, columns: int, across: tuple[int, int], down: tuple[int, int]
) -> None:
    def covered(span: tuple[int, int], count: int) -> list[float]:
        """Of patch i, which is [i, i + 1] / count, by a span in sixtieths."""
        return [
            max(0, min(span[1] * count, (i + 1) * 60) - max(span[0] * count, i * 60)) / 60
            for i in range(count)
        ]

    x, y, w, h = across[0] / 60, down[0] / 60, (across[1] - across[0]) / 60, (down[1] - down[0]) / 60
    found = patch_overlap(torch.tensor([[x + w / 2, y + h / 2, w, h]]), (rows, columns))
    expected = torch.tensor(covered(down, rows))[:, None] * torch.tensor(covered(across, columns))
    assert_close(found, expected.flatten()[None], rtol=0, atol=BORDER[torch.float32])


@settings(max_examples=100)
@given(sides, sides, st.lists(st.floats(0, 1, width=32), min_size=4, max_size=4))
def test_the_overlap_is_above_nothing_exactly_where_a_patch_is_touched(
    rows: int, columns: int, box: list[float]
) -> None:
    bbox = torch.tensor([box])
    assert torch.equal(patch_overlap(bbox, (rows, columns)) > 0, patch_mask(bbox, (rows, columns)))


def test_boxes_in_pixels_equal_those_of_records() -> None:
    bbox = torch.tensor([[0.5, 0.25, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])
    found = boxes_in_pixels(bbox, [(40, 20), (30, 10)])
    assert found.tolist() == [[10, 0, 20, 10], [0, 0, 30, 10]]
    assert boxes_in_pixels(bbox[:0], []).shape == (0, 4)


def test_a_box_without_the_size_of_its_image_is_refused() -> None:
    with pytest.raises(ShapeError, match="2 boxes and 1 sizes"):
        boxes_in_pixels(torch.rand(2, 4), [(40, 20)])
