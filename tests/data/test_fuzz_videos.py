"""Videos, damaged in ten thousand ways, give frames or a DataError, and nothing else."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from tests.data.clips_on_disk import base64_frames, write_video
from tests.fuzzing import INPUTS, VALUES, answered, damaged, damaged_value
from x2kit.data.media.frames import evaluation_frames
from x2kit.data.media.images import ImageLike
from x2kit.data.media.videos import chosen_frames

FORMS: dict[str, dict[str, Any]] = {
    "v.mp4": {},
    "fast.mp4": {"movflags": "faststart"},
    "v.mkv": {},
    "v.webm": {"codec": "libvpx"},
    "v.avi": {"codec": "mpeg4"},
}
SMALL = (32, 16)


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_video_files(tmp_path: Path, name: str) -> None:
    rng = random.Random(0)
    sound = write_video(tmp_path / name, 6, gop=3, size=SMALL, **FORMS[name]).read_bytes()

    def read(video: bytes) -> None:
        frames = chosen_frames(video, lambda count: evaluation_frames(count, 3))
        assert len(frames) == 3

    inputs = INPUTS // len(FORMS)
    good, bad = answered((damaged(sound, rng) for _ in range(inputs)), read)
    assert good + bad == inputs
    assert min(good, bad) > 10


@pytest.mark.slow
def test_lists_of_frames(tmp_path: Path) -> None:
    rng = random.Random(1)
    file = tmp_path / "v.json"
    frames = base64_frames(3)
    sound = json.dumps(frames).encode()

    def changed() -> bytes:
        if rng.random() < 0.5:
            return damaged(sound, rng)
        return json.dumps(damaged_value(frames, rng)).encode()

    def read(content: bytes) -> None:
        file.write_bytes(content)
        for frame in chosen_frames(str(file), lambda count: evaluation_frames(count, 2)):
            ImageLike(frame).load()

    good, bad = answered((changed() for _ in range(INPUTS)), read)
    assert good + bad == INPUTS
    assert min(good, bad) > 10


def test_videos_of_any_type() -> None:
    rng = random.Random(2)
    frames: list[Any] = [b"a", "b.png", None]

    def read(video: Any) -> None:
        chosen_frames(video, lambda count: evaluation_frames(count, 2))

    kinds = [*VALUES, *([damaged_value(frames, rng)] for _ in range(200)), frames]
    good, bad = answered(kinds, read)
    assert good + bad == len(kinds)
    assert min(good, bad) > 2
