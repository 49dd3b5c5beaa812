"""Frames are decoded by number at any container, frame rate and key frames."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.data.clips_on_disk import GREYS, number_of, video_bytes, write_sound, write_video
from x2kit.data.media import video_files
from x2kit.data.media.video_files import decode_frames
from x2kit.errors import DataError, Reason

WRITTEN: dict[str, dict[str, Any]] = {
    "even.mp4": {},
    "falling-rate.mp4": {"times": "growing"},
    "every-frame-a-key.mp4": {"gop": 1},
    "close-keys.mp4": {"gop": 2},
    "index-in-front.mp4": {"movflags": "faststart"},
    "in-fragments.mp4": {"movflags": "frag_keyframe+empty_moov"},
    "falling-rate.mkv": {"times": "growing"},
    "vp9.webm": {"codec": "libvpx-vp9"},
    "old.avi": {"codec": "mpeg4"},
    "one-time-a-packet.avi": {},
    "broadcast.ts": {},
    "bare.h264": {},
}
CHOICES = ([0], [23], [0, 11, 23], [5, 6, 7], [3, 3, 12], [17, 18])


def frames(data: bytes, wanted: list[int]) -> list[int]:
    return [number_of(image) for image in decode_frames(io.BytesIO(data), lambda count: wanted, "v.mp4")]


def refusal(data: bytes) -> DataError:
    with pytest.raises(DataError) as caught:
        decode_frames(io.BytesIO(data), lambda count: [count // 2], "v.mp4")
    return caught.value


@pytest.mark.parametrize("name", WRITTEN)
def test_frames_are_those_of_their_numbers(name: str, tmp_path: Path) -> None:
    data = write_video(tmp_path / name, **WRITTEN[name]).read_bytes()
    counted: list[int] = []
    decode_frames(io.BytesIO(data), lambda count: counted.append(count) or [0], name)
    assert counted == [24]
    assert [frames(data, wanted) for wanted in CHOICES] == list(CHOICES)


def test_a_distant_frame_is_reached_by_seeking(monkeypatch: pytest.MonkeyPatch) -> None:
    data = video_bytes(96)
    asked: list[int] = []
    reached = video_files._Seeking._reached

    def counted(self: Any, frame: Any, time: int) -> bool:
        asked.append(time)
        return reached(self, frame, time)

    monkeypatch.setattr(video_files._Seeking, "_reached", counted)
    assert frames(data, [1, 94]) == [1, 94 - 3 * GREYS]
    assert len(asked) <= 2 + 2 * 6  # two groups of images at most


def test_a_long_video_is_not_held_in_memory(tmp_path: Path) -> None:
    file = write_video(tmp_path / "long.mp4", 80, codec="mpeg4", gop=80, size=(640, 480))
    program = (
        "import resource, sys, av; from x2kit.data.media.video_files import decode_frames\n"
        "def peak(numbers):\n"
        "    decode_frames(open(sys.argv[1], 'rb'), lambda count: numbers, 'v.mp4')\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(peak([0, 1]), peak([0, 79]))"
    )
    done = subprocess.run([sys.executable, "-c", program, file], capture_output=True, text=True, check=True)
    early, late = map(int, done.stdout.split())
    assert late - early < 15_000  # KiB; 80 frames take 36,000 even before they are made RGB


def test_the_file_stays_open_and_is_read_from_its_start() -> None:
    file = io.BytesIO(video_bytes())
    for _ in range(2):
        assert number_of(decode_frames(file, lambda count: [9], "v.mp4")[0]) == 9
    assert not file.closed


def test_rotation_metadata_is_applied() -> None:
    data = video_bytes()
    matrix = struct.pack(">9i", 1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30)
    quarter = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    track = data.index(b"tkhd")
    place = data.index(matrix, track)
    turned = data[:place] + quarter + data[place + len(matrix) :]
    (image,) = decode_frames(io.BytesIO(turned), lambda count: [9], "v.mp4")
    assert image.size == (48, 64)
    columns = np.asarray(image.convert("L")).mean(0)
    assert (
        columns[-4:].mean() < 10 < columns[:4].mean()
    )  # what was above is on the right: a quarter clockwise


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9])
@pytest.mark.parametrize("front", [False, True])
def test_a_truncated_file_is_refused(share: float, front: bool) -> None:
    data = video_bytes(**({"movflags": "faststart"} if front else {}))
    assert refusal(data[: int(len(data) * share)]).reason == Reason.VIDEO_UNREADABLE


def test_a_truncated_file_without_a_frame_count_is_refused_by_its_duration(tmp_path: Path) -> None:
    data = write_video(tmp_path / "v.mkv", 40, times="growing").read_bytes()
    found = refusal(data[: len(data) // 2])
    assert str(found).startswith("v.mp4 is truncated: it ends after ")
    assert found.reason == Reason.VIDEO_UNREADABLE


def test_a_damaged_frame_is_refused() -> None:
    data = bytearray(video_bytes(gop=1, movflags="faststart"))
    body = data.index(b"mdat")
    data[body + (len(data) - body) // 4 :] = np.random.default_rng(0).bytes(
        len(data) - body - (len(data) - body) // 4
    )
    assert refusal(bytes(data)).reason == Reason.VIDEO_UNREADABLE


def test_an_audio_file_is_refused(tmp_path: Path) -> None:
    found = refusal(write_sound(tmp_path / "s.mp4").read_bytes())
    assert str(found) == "v.mp4 has no video stream; its streams are audio"
    assert found.reason == Reason.VIDEO_UNREADABLE


@pytest.mark.parametrize("data", [b"", b"no video at all", b"\0" * 5000])
def test_other_files_are_refused(data: bytes) -> None:
    assert refusal(data).reason == Reason.VIDEO_UNREADABLE


def test_a_playlist_opens_no_other_file(tmp_path: Path) -> None:
    other = write_video(tmp_path / "secret.ts")
    playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile://{other}\n#EXT-X-ENDLIST\n"
    assert refusal(playlist.encode()).reason == Reason.VIDEO_UNREADABLE


def test_frames_above_the_pixel_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3000)
    found = refusal(video_bytes())
    assert str(found) == "frames of v.mp4 have 64 x 48 pixels, more than 3000"
    assert found.reason == Reason.IMAGE_TOO_LARGE
