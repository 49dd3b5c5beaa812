"""One clip of a video is drawn, or continuous neighbours are joined, with their captions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from x2kit.data.media.clips import Clip, draw_clip, join_captions
from x2kit.errors import DataError, Reason

CLIPS = [["a0", "a1", "a2"], ["b0"], ["c0", "c1", "c2", "c3"], ["d0", "d1", "d2"]]
WORDS: list[Any] = ["one", "two", "three", "four"]


def drawn(clips: Any, captions: Any, follow: bool = False, least: int = 8) -> list[Clip]:
    return [draw_clip(clips, captions, follow, least, np.random.default_rng(seed)) for seed in range(60)]


def refusal(clips: Any, captions: Any, follow: bool = False) -> DataError:
    with pytest.raises(DataError) as caught:
        draw_clip(clips, captions, follow, 8, np.random.default_rng(0))
    return caught.value


def test_each_clip_is_drawn_with_its_caption() -> None:
    assert {(clip.caption, tuple(clip.frames)) for clip in drawn(CLIPS, WORDS)} == {
        (caption, tuple(frames)) for caption, frames in zip(WORDS, CLIPS, strict=True)
    }


def test_clips_of_music_alone_are_not_drawn() -> None:
    found = drawn(CLIPS, ["one", "[Music]", "[Music] ", {"en": "[Music]"}])
    assert all(clip == (CLIPS[0], "one") for clip in found)


def test_continuous_clips_are_joined_in_order_until_they_are_long_enough() -> None:
    found = {clip.caption: clip.frames for clip in drawn(CLIPS, WORDS, follow=True)}
    assert set(found) == {"one two three", "two three four"}
    assert found["one two three"] == [*CLIPS[0], *CLIPS[1], *CLIPS[2]]


def test_joined_clips_skip_music() -> None:
    found = {
        clip.caption: clip.frames for clip in drawn(CLIPS, ["one", "[Music]", "three", "four"], follow=True)
    }
    assert all(frame[0] != "b" for frames in found.values() for frame in frames)
    assert "one three four" in found


def test_too_few_frames_join_all_clips() -> None:
    assert {clip.caption for clip in drawn(CLIPS, WORDS, follow=True, least=99)} == {"one two three four"}


@pytest.mark.parametrize("follow", [False, True])
def test_a_video_of_music_alone_is_refused(follow: bool) -> None:
    found = refusal(CLIPS, ["[Music]"] * 4, follow)
    assert (str(found), found.reason) == ("all 4 clips are captioned [Music]", Reason.TEXT_EMPTY)


@pytest.mark.parametrize("follow", [False, True])
def test_a_single_clip_is_used_unchanged(follow: bool) -> None:
    assert drawn([["a"]], ["[Music]"], follow)[0] == (["a"], "[Music]")


@pytest.mark.parametrize(("captions", "count"), [(["one"], "1"), (["one"] * 5, "5"), ("one", "no list")])
def test_unequal_numbers_of_clips_and_captions_are_refused(captions: Any, count: str) -> None:
    found = refusal(CLIPS, captions)
    assert str(found) == f"4 clips need a list of 4 captions, found {count}"
    assert found.reason == Reason.FIELD_TYPE


def test_a_frame_among_clips_is_refused() -> None:
    assert str(refusal([["a"], "b"], ["one", "two"])) == "clip 1: expected a list of frames, found str"


def test_captions_are_joined_in_each_language_that_all_have() -> None:
    spoken = [{"en": "one", "de": "eins"}, {"de": "zwei", "fr": "deux"}]
    assert join_captions(spoken) == {"de": "eins zwei"}
    with pytest.raises(DataError, match="no common language"):
        join_captions([{"en": "one"}, {"de": "zwei"}])
    with pytest.raises(DataError, match="must all be texts"):
        join_captions(["one", {"de": "zwei"}])
