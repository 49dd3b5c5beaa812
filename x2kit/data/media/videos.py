"""Select frames of the video of a record. Imports no torch.

a path or bytes         a video file, decoded with PyAV; a path that ends in .json is a list of frames in base64
a list of images        the frames, each a path, the bytes of an encoded image, or a PIL image
a list of such lists    clips with a caption each
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from x2kit.data.media.video_files import decode_frames
from x2kit.data.sources.fields import decode_base64, errors_at, parse_json
from x2kit.data.storage.files import open_file, read_limited
from x2kit.data.storage.locations import name_of
from x2kit.errors import DataError, Reason

FRAME_LIST = ".json"
"""Ending of files with a JSON list of frames in base64 (X2-VLM repository, MSRVTT and others)."""


def is_clips(video: Any) -> TypeGuard[list[list[Any]]]:
    """Return whether a video is a list of clips."""
    return isinstance(video, list) and any(isinstance(clip, list) for clip in video)


def chosen_frames(video: Any, choose: Callable[[int], Sequence[int]]) -> list[Any]:
    """Select frames of a video, as images for `ImageLike`.

    Args:
        video: a file or a list of frames; draw one of several clips first.
        choose: maps the number of frames to frame numbers in ascending order.
    Raises: DataError for a video of another type or without frames, and for a file that cannot be read.
    """
    if isinstance(video, bytes | bytearray | memoryview):
        return list(decode_frames(io.BytesIO(video), choose, f"the video of {len(video)} bytes"))
    frames = video
    if isinstance(video, str | Path):
        location = str(video)
        if not name_of(location).lower().endswith(FRAME_LIST):
            with open_file(location) as file:
                return list(decode_frames(file, choose, location))
        frames = read_frame_list(location)
    if not isinstance(frames, list) or is_clips(frames):
        found = "clips" if is_clips(video) else type(video).__name__
        raise DataError(
            f"expected a path, bytes or a list of frames, found {found}",
            reason=Reason.FIELD_TYPE,
        )
    return [frames[number] for number in choose(len(frames))]


def first_frame(video: Any) -> Any:
    """Return the first frame of a video without clips, as a thumbnail. Raises as `chosen_frames`."""
    return chosen_frames(video, lambda frames: [0])[0]


def read_frame_list(location: str) -> list[bytes]:
    """Read the frames of a JSON file. Raises DataError if it is missing or no list of base64 texts."""
    data = read_limited(location)
    with errors_at(location):
        content = parse_json(data)
    if not isinstance(content, list):
        raise DataError(
            f"{location}: expected a list of frames in base64, found {type(content).__name__}",
            reason=Reason.FIELD_TYPE,
        )
    return [decode_base64(frame, f"frame {number} of {location}") for number, frame in enumerate(content)]
