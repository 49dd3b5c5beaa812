"""Texts in rows of several and in buckets: no token is lost, none sees another text, few places are empty."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from x2kit.model.packing import (
    PackedRows,
    bucket_edges,
    bucket_rows,
    by_image,
    fill_rows,
    group_texts,
    in_order,
    read_tokens,
    row_lengths,
)
from x2kit.plugin import Context

CPU = torch.device("cpu")
LENGTHS = np.array([5, 13, 3, 40, 8, 1, 13, 7])
WIDTHS = np.array([16] * 3 + [40] * 5)


def captions(count: int) -> np.ndarray:
    """Draw lengths of captions: 13 tokens on average, up to 40."""
    return np.random.default_rng(0).gamma(4, 13 / 4, count).round().astype(np.int64).clip(4, 40)


@pytest.mark.parametrize("call_tokens", [0, 5, 20, 100, 1000])
def test_buckets_have_the_lowest_cost_of_all(call_tokens: int) -> None:
    def cost(edges: tuple[int, ...]) -> int:
        return sum(min(e for e in edges if e >= length) for length in LENGTHS) + call_tokens * len(edges)

    distinct = sorted({*LENGTHS.tolist()})
    every = [
        (*inner, distinct[-1])
        for count in range(len(distinct))
        for inner in combinations(distinct[:-1], count)
    ]
    assert cost(tuple(bucket_edges(LENGTHS.tolist(), call_tokens))) == min(map(cost, every))


def test_calls_that_cost_nothing_leave_no_padding_and_dear_ones_make_one_bucket() -> None:
    assert bucket_edges([3, 9, 3], 0) == [3, 9]
    assert bucket_edges([3, 9, 3], 100) == [9]
    assert bucket_edges([], 100) == []


def test_buckets_hold_each_row_once_and_their_order_is_restored() -> None:
    buckets = bucket_rows(LENGTHS, 40, CPU, equal_calls=False)
    assert len(buckets) > 1
    values = torch.cat([torch.from_numpy(LENGTHS[rows]) for _, rows in buckets])
    assert values[in_order(buckets, CPU)].tolist() == LENGTHS.tolist()
    assert all((LENGTHS[rows] <= edge).all() for edge, rows in buckets)


@pytest.mark.parametrize("lengths", [LENGTHS, LENGTHS[:1], LENGTHS[3:4], LENGTHS[:0]])
def test_equal_calls_depend_on_the_padded_length_only(lengths: np.ndarray) -> None:
    assert [edge for edge, _ in bucket_rows(lengths, 40, CPU, equal_calls=True)] == [24, 40]


def test_few_places_are_empty_at_lengths_of_captions() -> None:
    lengths = captions(1000)
    rows = fill_rows(lengths)
    assert rows.number * rows.width < 1.03 * lengths.sum()
    token, *_ = rows.tokens()
    assert len(set(token.tolist())) == lengths.sum()  # no place twice
    assert token.max() < rows.number * rows.width


def test_texts_of_one_length_fill_rows_of_that_width() -> None:
    rows = fill_rows(np.full(6, 40))
    assert (rows.number, rows.width) == (6, 40)
    assert fill_rows(LENGTHS, most=16).width == 40


def packed_rows() -> PackedRows:
    return PackedRows.of(LENGTHS, WIDTHS, CPU)


def padded(width: int) -> torch.Tensor:
    """Number every token of the padded texts."""
    return torch.arange(int(WIDTHS.sum()), dtype=torch.float32)[:, None].expand(-1, width)


def masks() -> list[torch.Tensor]:
    parts = (LENGTHS[:3], 16), (LENGTHS[3:], 40)
    return [torch.arange(width) < torch.from_numpy(lengths)[:, None] for lengths, width in parts]


def test_texts_are_restored_from_rows_of_several() -> None:
    packed = packed_rows()
    rows = packed.gather(padded(2))
    assert rows.shape == (packed.rows.number, packed.rows.width, 2)
    found = packed.scatter(rows.flatten(0, 1), slice(3, 8), 40)
    wanted = padded(2)[48:].view(5, 40, 2)
    kept = masks()[1]
    assert_close(found[kept], wanted[kept])


def test_tokens_see_the_kept_tokens_of_their_text_only() -> None:
    packed = packed_rows()
    hidden = masks()
    hidden[1][0, 2] = False
    token, text, position = packed.rows.tokens()
    for sees in (packed.sees(hidden), packed.sees([m[:, None].expand(-1, m.shape[1], -1) for m in hidden])):
        flat = sees.flatten(0, 1)
        assert flat.any(1).all()
        for number, of, place in zip(token, text, position, strict=True):
            row = number // packed.rows.width
            seen = {int(row * packed.rows.width + key) for key in flat[number].nonzero()[:, 0]}
            own = {int(t) for t, o, p in zip(token, text, position, strict=True) if o == of}
            gone = {int(t) for t, o, p in zip(token, text, position, strict=True) if (o, p) == (3, 2)}
            assert seen == own - gone, (of, place)


def test_partial_masks_are_kept() -> None:
    packed = packed_rows()
    sees = packed.sees([mask.new_ones(len(mask), *mask.shape[1:] * 2).tril() for mask in masks()])
    same = packed.text[:, :, None] == packed.text[:, None, :]
    before = packed.position[:, :, None] >= packed.position[:, None, :]
    real = packed.text >= 0
    assert torch.equal(sees[real], (same & before)[real])


def test_lengths_are_those_of_the_mask_on_a_cpu_and_else_those_of_the_host(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]).bool()
    assert row_lengths(mask, None).tolist() == [2, 3, 1]
    monkeypatch.setattr("x2kit.model.packing.host_reads", lambda device: False)
    assert row_lengths(mask, None).tolist() == [4, 4, 4]
    assert row_lengths(mask, [2, 3]).tolist() == [2, 3, 4]  # those that the device drew count as padded


def test_texts_of_an_image_form_a_group_and_uneven_images_several() -> None:
    group, of_group, count = group_texts(np.array([0, 1, 2, 1]), np.array([9, 5, 8, 4]), 3)
    assert (group.tolist(), of_group, count) == ([0, 1, 2, 1], None, 3)
    images = np.array([0] * 40 + [1, 2, 3])
    group, of_group, count = group_texts(images, np.full(43, 20), 4)
    assert of_group is not None
    assert count == len(of_group) > 4
    assert (of_group[group] == images).all()
    assert np.bincount(group, np.full(43, 20)).max() < 400


@pytest.mark.parametrize("host_reads", [True, False])
@pytest.mark.parametrize("read", [True, False])
def test_each_token_sees_its_image_its_lead_and_the_patches_of_its_region(
    monkeypatch: pytest.MonkeyPatch, host_reads: bool, read: bool
) -> None:
    monkeypatch.setattr("x2kit.model.packing.host_reads", lambda device: host_reads)
    packed = packed_rows()
    images = torch.tensor([2, 0, 2, 1, 2, 0, 2, 2])
    region = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    context = Context(torch.zeros(3, 4, 2), images, None, torch.zeros(8, 1, 2))
    found = by_image(packed, context, [(3, region), (5, None)], read)
    token, text, _ = packed.rows.tokens()
    if read:
        token = text = np.arange(8)
    seen: dict[int, tuple[int, int, list[bool]]] = {}
    start = 0
    for group in found.groups:
        count, places = group.size
        for place in range(count * places):
            if not found.filled[start + place]:
                continue
            number, among = divmod(place, places)
            mask = None if group.mask is None else group.mask[number, min(among, group.mask.shape[1] - 1)]
            assert group.leads is not None
            num_leads = group.leads.shape[1]
            lead = 0 if mask is None else int(mask[:num_leads].nonzero()[0])
            assert mask is None or mask[:num_leads].sum() == 1
            image = number if group.rows is None else int(group.rows[number])
            patches = [True] * 4 if mask is None else mask[num_leads:].tolist()
            seen[int(found.token[start + place])] = image, int(group.leads[number, lead]), patches
        start += count * places
    patches_of = [*region.tolist(), *[[True] * 4] * 5]
    assert seen == {
        int(number): (int(images[of]), int(of), patches_of[of])
        for number, of in zip(token, text, strict=True)
    }
    if host_reads:
        assert [group.rows for group in found.groups] == [None]  # keys and values of images are read in place
    else:  # only the rows of regions have a mask
        assert [group.mask is None for group in found.groups] == [True, False]


def test_places_and_tokens_are_each_others_inverse_in_both_directions() -> None:
    packed = packed_rows()
    context = Context(
        torch.zeros(3, 4, 2), torch.tensor([2, 0, 2, 1, 2, 0, 2, 2]), None, torch.zeros(8, 1, 2)
    )
    groups = by_image(packed, context, [(8, None)], read=False)
    states = torch.rand(groups.real.numel(), 3, requires_grad=True)
    back = groups.collect(groups.spread(states))
    assert_close(back[groups.real], states[groups.real])
    back[groups.real].square().sum().backward()
    assert_close(states.grad, torch.where(groups.real[:, None], 2 * states.detach(), 0.0))


def test_the_first_token_of_each_text_is_read() -> None:
    packed = packed_rows()
    sees = packed.sees(masks())
    read = read_tokens(packed, sees, [])
    assert packed.text.flatten()[read.token].tolist() == list(range(8))
    assert packed.position.flatten()[read.token].tolist() == [0] * 8
    (group,) = read.own.groups
    assert group.mask is not None
    mask = group.mask.flatten(0, 1)[read.own.place]
    assert_close(mask.sum(1), torch.from_numpy(LENGTHS))
