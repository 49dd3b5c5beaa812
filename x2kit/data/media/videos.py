"""The video of a record in its forms, and the frames of it that are seen. Imports no torch.

a path or bytes         a video file, decoded with PyAV; a path that ends in .json is a list of frames in base64
a list of images      the frames, each a path, the bytes of an encoded image, or a PIL image
a list of such lists    clips, each with a caption of its own
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from x2kit.data.media.video_files import decode_frames
from x2kit.data.sources.fields import decode_base64, parse_json
from x2kit.data.storage.files import name_of, open_file, read_limited
from x2kit.errors import DataError, Reason

FRAME_LIST = ".json"
"""Ending of the files that hold a video as a JSON list of frames in base64 (X2-VLM repository, MSRVTT and others)."""


def is_clips(video: Any) -> TypeGuard[list[list[Any]]]:
    """Whether a video is a list of clips."""
    return isinstance(video, list) and any(isinstance(clip, list) for clip in video)


def chosen_frames(video: Any, choose: Callable[[int], Sequence[int]]) -> list[Any]:
    """Frames of a video, as images that `Image` takes.

    Args:
        video: a file or a list of frames; not clips, of which one is chosen before.
        choose: from the number of frames to the numbers that are wanted, in rising order.
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
        raise DataError(
            f"a video is a path, bytes or a list of frames, found {'clips' if is_clips(video) else _kind(video)}",
            reason=Reason.FIELD_TYPE,
        )
    return [frames[number] for number in choose(len(frames))]


def first_frame(video: Any) -> Any:
    """The first frame of a video that is not in clips, to show which one it is; see `chosen_frames`."""
    return chosen_frames(video, lambda frames: [0])[0]


def read_frame_list(location: str) -> list[bytes]:
    """The frames of a JSON file. Raises DataError for one that is missing or no list of base64 texts."""
    data = read_limited(location)
    try:
        content = parse_json(data)
    except DataError as error:
        raise DataError(f"{location}: {error}", reason=error.reason) from error
    if not isinstance(content, list):
        raise DataError(
            f"{location}: expected a list of frames in base64, found {_kind(content)}",
            reason=Reason.FIELD_TYPE,
        )
    return [decode_base64(frame, f"frame {number} of {location}") for number, frame in enumerate(content)]


def _kind(value: Any) -> str:
    return type(value).__name__
