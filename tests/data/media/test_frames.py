"""Frames are sampled over the whole clip, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from x2kit.data.media.frames import evaluation_frames, training_frames
from x2kit.errors import DataError

FRAMES, WANTED, SEEDS = st.integers(1, 60), st.integers(1, 12), st.integers(0, 2**32)


def drawn(frames: int, wanted: int, seed: int) -> list[int]:
    return training_frames(frames, wanted, np.random.default_rng(seed))


@given(frames=FRAMES, wanted=WANTED, seed=SEEDS)
def test_the_wanted_number_of_frames_is_selected_in_order(frames: int, wanted: int, seed: int) -> None:
    for found in (evaluation_frames(frames, wanted), drawn(frames, wanted, seed)):
        assert len(found) == wanted
        assert found == sorted(found)
        assert set(found) <= set(range(frames))


@given(frames=FRAMES, wanted=WANTED, seed=SEEDS)
def test_no_frame_repeats_in_a_long_clip(frames: int, wanted: int, seed: int) -> None:
    for found in (evaluation_frames(frames, wanted), drawn(frames, wanted, seed)):
        assert len(set(found)) == min(frames, wanted)


@given(frames=FRAMES, wanted=WANTED)
def test_evaluation_spreads_frames_evenly_from_the_first_on(frames: int, wanted: int) -> None:
    found = evaluation_frames(frames, wanted)
    assert found[0] == 0
    if frames >= wanted:
        gaps = np.diff([*found, frames])
        assert gaps.max() - gaps.min() <= 1
        assert sorted(gaps, reverse=True) == gaps.tolist()
    else:
        times = Counter(found).values()
        assert max(times) - min(times) <= 1


@given(frames=FRAMES, wanted=WANTED, seed=SEEDS)
def test_training_covers_the_whole_clip(frames: int, wanted: int, seed: int) -> None:
    longest = -(-frames // wanted)
    gaps = np.diff([-1, *drawn(frames, wanted, seed), frames])
    assert gaps.max() < 2 * longest + 1


@given(frames=FRAMES, wanted=WANTED, seed=SEEDS)
def test_a_clip_of_the_wanted_length_is_selected_whole(frames: int, wanted: int, seed: int) -> None:
    assert evaluation_frames(wanted, wanted) == drawn(wanted, wanted, seed) == list(range(wanted))


def test_training_can_select_every_frame() -> None:
    for frames, wanted in ((10, 3), (7, 1), (12, 4)):
        seen = {number for seed in range(200) for number in drawn(frames, wanted, seed)}
        assert seen == set(range(frames))


def test_the_longer_segment_is_random() -> None:
    """Of seven frames in two segments the fourth belongs to either."""
    pairs = {tuple(drawn(7, 2, seed)) for seed in range(300)}
    assert (3, 6) in pairs
    assert (0, 3) in pairs


def test_a_short_clip_repeats_random_frames_in_training() -> None:
    found = {tuple(drawn(2, 3, seed)) for seed in range(50)}
    assert found == {(0, 0, 1), (0, 1, 1)}


@given(frames=FRAMES, wanted=WANTED, seed=SEEDS)
def test_the_same_seed_gives_the_same_frames(frames: int, wanted: int, seed: int) -> None:
    assert drawn(frames, wanted, seed) == drawn(frames, wanted, seed)


@pytest.mark.parametrize("choose", [evaluation_frames, lambda frames, wanted: drawn(frames, wanted, 0)])
def test_a_clip_without_frames_is_refused(choose: Callable[[int, int], list[int]]) -> None:
    with pytest.raises(DataError, match="a video needs at least 1 frame, found 0"):
        choose(0, 3)
