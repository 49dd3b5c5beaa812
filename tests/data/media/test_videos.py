"""Frames of a video share their augmentation; broken videos are counted by reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image

from tests.data.clips_on_disk import base64_frames, grey, number_of, png, video_bytes, write_video
from tests.data.stubs import drawn, stream
from x2kit.data.media.videos import chosen_frames
from x2kit.data.pipeline.video_samples import read_video
from x2kit.data.sources.config import JsonLines
from x2kit.errors import DataError, Reason
from x2kit.plugin import ImageSpec

SPEC = ImageSpec(size=16)
FLAT = stream("VideoText", frames=3)


class Sample(NamedTuple):
    frames: list[Any]
    text: str


def sample(record: Any, config: Any = FLAT, seed: int = 0) -> Sample:
    row = drawn(record, config, SPEC, np.random.default_rng(seed)).row
    return Sample(row.images[0], row.texts[0])


def numbers(images: list[Any]) -> list[int]:
    return [number_of(Image.fromarray(image)) for image in images]


def frame_file(folder: Path, content: Any) -> Path:
    file = folder / "video_7.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


FORMS: dict[str, Callable[[Path], Any]] = {
    "path": lambda folder: write_video(folder / "v.mp4", 12),
    "text of a path": lambda folder: str(write_video(folder / "v.mp4", 12)),
    "bytes": lambda folder: video_bytes(12),
    "images": lambda folder: [grey(number) for number in range(12)],
    "encoded images": lambda folder: [png(number) for number in range(12)],
    "file of frames": lambda folder: frame_file(folder, base64_frames(12)),
    "one clip": lambda folder: [[png(number) for number in range(12)]],
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_video_gives_the_same_frames(form: str, tmp_path: Path) -> None:
    video = FORMS[form](tmp_path)
    caption = ["a dog"] if form == "one clip" else "a dog"
    expected = sample({"video": [grey(number) for number in range(12)], "caption": "a dog"})
    found = sample({"video": video, "caption": caption})
    assert numbers(found.frames) == numbers(expected.frames)
    assert found.text == "a dog"


def test_training_draws_a_frame_of_each_segment_and_evaluation_takes_the_first() -> None:
    record = {"video": [grey(number) for number in range(12)], "caption": "a dog"}
    seen = [numbers(sample(record, seed=seed).frames) for seed in range(40)]
    assert {tuple(number // 4 for number in row) for row in seen} == {(0, 1, 2)}
    assert len(set(map(tuple, seen))) > 10
    assert numbers(read_video(record["video"], 3, SPEC).frames) == [0, 4, 8]
    assert numbers(read_video(record["video"][:2], 3, SPEC).frames) == [0, 0, 1]


def test_crop_flip_and_augmentation_are_the_same_for_all_frames_of_a_video() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    augmented = {"crop_scale": (0.2, 0.6), "flip": 0.5, "augment_operations": 2}
    config = stream("VideoText", frames=3, transform=augmented)
    looks = set()
    for seed in range(8):
        found = sample({"video": [Image.fromarray(pixels)] * 5, "caption": "a dog"}, config, seed)
        assert all((frame == found.frames[0]).all() for frame in found.frames)
        looks.add(found.frames[0].tobytes())
    assert len(looks) == 8


def test_frames_of_other_sizes_get_the_same_crop() -> None:
    small, large = grey(5), grey(5).resize((128, 96))
    cropped = stream("VideoText", frames=2, transform={"crop_scale": (0.3, 0.6)})
    one, two = sample({"video": [small, large], "caption": "a dog"}, cropped).frames
    assert np.abs(one.astype(int) - two.astype(int)).mean() < 4


def test_a_text_with_left_prevents_the_flip() -> None:
    image = Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint16).astype(np.uint8).reshape(16, 16, 3))
    config = stream("VideoText", frames=1, transform={"flip": 1.0, "careful_flip": True})
    for caption, flipped in (("to the left", False), ("to the side", True)):
        (frame,) = sample({"video": [image], "caption": caption}, config).frames
        assert (frame == np.asarray(image)[:, :: -1 if flipped else 1]).all()


def cut(folder: Path) -> Path:
    file = folder / "cut.mp4"
    file.write_bytes(video_bytes()[:2000])
    return file


BROKEN: dict[str, tuple[Callable[[Path], dict[str, Any]], Reason]] = {
    "no video": (lambda folder: {"caption": "a dog"}, Reason.FIELD_MISSING),
    "no caption": (lambda folder: {"video": [grey(0)]}, Reason.FIELD_MISSING),
    "no frames": (lambda folder: {"video": [], "caption": "a dog"}, Reason.VIDEO_EMPTY),
    "a clip without frames": (lambda folder: {"video": [[]], "caption": ["a dog"]}, Reason.VIDEO_EMPTY),
    "no captions for clips": (
        lambda folder: {"video": [[grey(0)], [grey(1)]], "caption": ["a dog"]},
        Reason.FIELD_TYPE,
    ),
    "continuous or what": (
        lambda folder: {"video": [[grey(0)]], "caption": ["a"], "is_continuous": "yes"},
        Reason.FIELD_TYPE,
    ),
    "a number": (lambda folder: {"video": 7, "caption": "a dog"}, Reason.FIELD_TYPE),
    "a frame that is none": (
        lambda folder: {"video": [b"no image"], "caption": "a dog"},
        Reason.IMAGE_UNREADABLE,
    ),
    "cut off": (lambda folder: {"video": cut(folder), "caption": "a dog"}, Reason.VIDEO_UNREADABLE),
    "missing": (lambda folder: {"video": folder / "no.mp4", "caption": "a dog"}, Reason.FILE_MISSING),
    "missing frames": (
        lambda folder: {"video": folder / "no.json", "caption": "a dog"},
        Reason.FILE_MISSING,
    ),
    "frames cut off": (
        lambda folder: {"video": frame_file(folder, '["abc'), "caption": "a dog"},
        Reason.NOT_JSON,
    ),
    "frames that are no list": (
        lambda folder: {"video": frame_file(folder, {}), "caption": "a dog"},
        Reason.FIELD_TYPE,
    ),
    "frames not base64": (
        lambda folder: {"video": frame_file(folder, ["?"]), "caption": "a dog"},
        Reason.BASE64,
    ),
    "empty text": (lambda folder: {"video": [grey(0)], "caption": "?!"}, Reason.TEXT_EMPTY),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_record_has_its_reason(name: str, tmp_path: Path) -> None:
    make, reason = BROKEN[name]
    with pytest.raises(DataError) as caught:
        sample(make(tmp_path))
    assert caught.value.reason == reason


def test_evaluation_rejects_a_list_of_clips() -> None:
    with pytest.raises(DataError, match="one list of frames, found a list of clips"):
        read_video([[grey(0)]], 3, SPEC)
    with pytest.raises(DataError, match="found clips"):
        chosen_frames([[grey(0)]], lambda frames: [0])


def written(folder: Path, **fields: Any) -> Any:
    (folder / "records.jsonl").write_text(json.dumps(fields) + "\n")
    return JsonLines(files=[folder / "records.jsonl"])


def test_the_official_layouts_are_read(tmp_path: Path) -> None:
    flat = written(tmp_path, video_frames=base64_frames(6), text="a man walks").open()[0]
    assert numbers(sample(flat, stream("VideoText", frames=6)).frames) == list(range(6))
    clips = [base64_frames(5), base64_frames(5, 5), base64_frames(4, 10)]
    fields = {"video_frames": clips, "text": ["so here", "we go", "[Music]"], "is_continuous": True}
    joined = written(tmp_path, **fields).open()[0]
    found = sample(joined, stream("VideoText", frames=10))
    assert numbers(found.frames) == list(range(10))
    assert found.text == "so here we go"


def test_paths_are_relative_to_image_root_and_may_be_frame_lists(tmp_path: Path) -> None:
    frame_file(tmp_path, base64_frames(6))
    write_video(tmp_path / "v.mp4", 6)
    for name in ("video_7.json", "v.mp4"):
        record = written(tmp_path, video=name, caption=["a dog"]).open()[0]
        assert numbers(sample(record, stream("VideoText", frames=6)).frames) == list(range(6))


def test_field_and_form_can_be_set(tmp_path: Path) -> None:
    source = written(tmp_path, clip=base64_frames(6), caption="a dog")
    record = source.model_copy(update={"video_key": "clip", "video_as": "base64"}).open()[0]
    assert numbers(sample(record, stream("VideoText", frames=6)).frames) == list(range(6))
    with pytest.raises(DataError, match="no field 'video'; its fields are clip, caption"):
        source.model_copy(update={"video_key": "video"}).open()[0]


def test_a_list_in_a_clip_is_no_frame(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="video_frames: expected base64 text, found"):
        written(tmp_path, video_frames=[[["a"]]], text=["a dog"]).open()[0]
