"""One clip of a video that comes in clips with a caption each (X²-VLM, second stage; X2-VLM repository, loader of
frames). Imports no torch.

Of several clips one is drawn, or, where the record says that they follow each other, clips around a random one are
joined until they are long enough to draw frames from. Clips of which there is nothing to say but "[Music]" are left
out.
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
    """Frames and their text."""

    frames: list[Any]
    caption: Text


def draw_clip(
    clips: Sequence[Any], captions: Any, is_continuous: bool, min_frames: int, rng: Generator
) -> Clip:
    """One clip, or neighbours joined.

    Args:
        clips: lists of frames.
        captions: one of each clip.
        is_continuous: whether the clips follow each other; one alone is used as it is either way.
        min_frames: joined clips have so many frames, where there are enough.
        rng: the sample's own generator.
    Raises: DataError for unequal numbers of clips and captions, a clip that is no list, captions that cannot be
        joined, and a video without any words.
    """
    if not isinstance(captions, list) or len(captions) != len(clips):
        found = len(captions) if isinstance(captions, list) else "a single one"
        raise DataError(
            f"{len(clips)} clips need a list of as many captions, found {found}", reason=Reason.FIELD_TYPE
        )
    for number, frames in enumerate(clips):
        if not isinstance(frames, list):
            raise DataError(
                f"clip {number} is no list of frames but {type(frames).__name__}", reason=Reason.FIELD_TYPE
            )
    if len(clips) == 1:
        return Clip(clips[0], captions[0])
    told = [number for number, caption in enumerate(captions) if not _is_music(caption)]
    if not told:
        raise DataError(f"all {len(clips)} clips are captioned {NO_WORDS}", reason=Reason.TEXT_EMPTY)
    first = int(rng.random() * len(told))
    if not is_continuous:
        return Clip(clips[told[first]], captions[told[first]])
    chosen = [told[place] for place in _around(first, [len(clips[number]) for number in told], min_frames)]
    frames = [frame for number in chosen for frame in clips[number]]
    return Clip(frames, joined([captions[number] for number in chosen]))


def joined(captions: Sequence[Text]) -> Text:
    """Captions one after the other, in each language that all have. Raises DataError if there is none."""
    if len(captions) == 1:
        return captions[0]
    if all(isinstance(caption, str) for caption in captions):
        return " ".join(cast("Sequence[str]", captions))
    if all(isinstance(caption, dict) for caption in captions):
        spoken = cast("Sequence[dict[str, str]]", captions)
        codes = [code for code in spoken[0] if all(code in caption for caption in spoken)]
        if codes:
            return {code: " ".join(caption[code] for caption in spoken) for code in codes}
        raise DataError("the captions of joined clips share no language", reason=Reason.LANGUAGE_MISSING)
    raise DataError(
        "the captions of joined clips must all be texts, or all texts by language", reason=Reason.FIELD_TYPE
    )


def _around(first: int, lengths: Sequence[int], least: int) -> range:
    """The first place and its neighbours, taken after and before in turn until they are long enough."""
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
