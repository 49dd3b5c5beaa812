"""Draw a clip from a video of captioned clips. Imports no torch.

X²-VLM, second stage; X2-VLM repository, loader of frames. One clip is drawn; if the clips of a record are continuous,
its neighbours are joined until there are enough frames. Clips captioned "[Music]" are skipped.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

from numpy.random import Generator

from x2kit.data.transforms.text import all_texts
from x2kit.errors import DataError, Reason
from x2kit.plugin.sources import Text

NO_WORDS = "[Music]"


class Clip(NamedTuple):
    """Frames and caption of a clip."""

    frames: list[Any]
    caption: Text


def draw_clip(
    clips: Sequence[Any], captions: Any, is_continuous: bool, min_frames: int, rng: Generator
) -> Clip:
    """Draw one clip, or join continuous neighbours.

    Args:
        clips: lists of frames.
        captions: list of one caption a clip.
        is_continuous: whether the clips are continuous; without effect on a single clip.
        min_frames: frames of the joined clips, if there are enough.
        rng: generator of the sample.
    Raises: DataError for unequal numbers of clips and captions, a clip that is no list, captions that cannot be
        joined, and a video of music alone.
    """
    if not isinstance(captions, list) or len(captions) != len(clips):
        found = len(captions) if isinstance(captions, list) else "no list"
        raise DataError(
            f"{len(clips)} clips need a list of {len(clips)} captions, found {found}",
            reason=Reason.FIELD_TYPE,
        )
    for number, frames in enumerate(clips):
        if not isinstance(frames, list):
            raise DataError(
                f"clip {number}: expected a list of frames, found {type(frames).__name__}",
                reason=Reason.FIELD_TYPE,
            )
    if len(clips) == 1:
        return Clip(clips[0], captions[0])
    spoken = [number for number, caption in enumerate(captions) if not _is_music(caption)]
    if not spoken:
        raise DataError(f"all {len(clips)} clips are captioned {NO_WORDS}", reason=Reason.TEXT_EMPTY)
    first = int(rng.random() * len(spoken))
    if not is_continuous:
        return Clip(clips[spoken[first]], captions[spoken[first]])
    chosen = [
        spoken[place] for place in _neighbours(first, [len(clips[number]) for number in spoken], min_frames)
    ]
    frames = [frame for number in chosen for frame in clips[number]]
    return Clip(frames, join_captions([captions[number] for number in chosen]))


def join_captions(captions: Sequence[Text]) -> Text:
    """Join captions in every language that all have. Raises DataError if there is none."""
    if len(captions) == 1:
        return captions[0]
    if all(isinstance(caption, str) for caption in captions):
        return " ".join(cast("Sequence[str]", captions))
    if all(isinstance(caption, dict) for caption in captions):
        texts = cast("Sequence[dict[str, str]]", captions)
        if codes := [code for code in texts[0] if all(code in text for text in texts)]:
            return {code: " ".join(text[code] for text in texts) for code in codes}
        raise DataError(
            "the captions of joined clips have no common language", reason=Reason.LANGUAGE_MISSING
        )
    raise DataError(
        "the captions of joined clips must all be texts, or all be {code: text}", reason=Reason.FIELD_TYPE
    )


def _neighbours(first: int, lengths: Sequence[int], least: int) -> range:
    """Extend a range by the next and the previous clip in turn, until it has `least` frames."""
    start, end, after = first, first + 1, True
    while sum(lengths[start:end]) < least and (start > 0 or end < len(lengths)):
        if (after and end < len(lengths)) or start == 0:
            end += 1
        else:
            start -= 1
        after = not after
    return range(start, end)


def _is_music(caption: Any) -> bool:
    words = list(all_texts(caption))
    return bool(words) and all(text.strip() == NO_WORDS for text in words)
