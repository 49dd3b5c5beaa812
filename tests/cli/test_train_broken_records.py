"""`x2kit train` over files in which one record in a hundred is broken, each in its own way: none is lost but those."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.data import broken_records
from tests.data.broken_records import KINDS, MAX_BOXES, encoded_image, packed
from tests.data.clips_on_disk import video_bytes
from tests.data.validation.test_check import NEVER_PARSED, OF_REGIONS, SOUND_BETWEEN
from tests.model import tiny
from x2kit.errors import Reason
from x2kit.training.trainer import Trainer

Run = Callable[..., Any]

RECORDS, STEPS = len(KINDS) * (SOUND_BETWEEN + 1), 2 * len(KINDS)
CLIPS = 4 * STEPS
SEED = "5"
"""With it no broken record comes a second time, in the place of another one, which would be counted again."""
BROKEN_CLIPS: dict[str, tuple[int, Reason, dict[str, Any]]] = {
    "cut-video": (90, Reason.VIDEO_UNREADABLE, {"video": "cut.mp4"}),
    "no-frames": (180, Reason.VIDEO_EMPTY, {"video_frames": []}),
    "broken-frame": (270, Reason.IMAGE_UNREADABLE, {"video_frames": [packed(b"no image at all")]}),
}
"""Their lines, reasons and videos."""


def write_clips(folder: Path) -> Path:
    """Records of one frame each, and the broken ones among them."""
    video = video_bytes(6)
    (folder / "cut.mp4").write_bytes(video[: len(video) // 2])
    frames = {"video_frames": [packed(encoded_image(1))]}
    clips = [{"id": f"clip-{line}", "caption": f"a dog {line}", **frames} for line in range(1, CLIPS + 1)]
    for name, (line, _, video) in BROKEN_CLIPS.items():
        clips[line - 1] = {"id": name, "caption": "a cat", **video}
    file = folder / "clips.jsonl"
    file.write_text("".join(json.dumps(clip) + "\n" for clip in clips))
    return file


def recipe(records: Path, clips: Path) -> dict[str, Any]:
    """A tiny model on images, regions of the same images, and videos."""
    plain = {"crop_scale": None, "flip": 0.0, "augment_operations": 0}
    source = {"class_path": "JsonLines", "init_args": {"files": [str(records)]}}
    common = {"transform": plain, "max_tokens": 8}
    spoken = {**common, "languages": ["en", "de"], "source": source}
    videos = {"class_path": "JsonLines", "init_args": {"files": [str(clips)], "language": "en"}}
    settings = {"images_from": "images", "max_boxes": MAX_BOXES}
    regions = {"task": {"class_path": "RegionText", "init_args": settings}, "batch_size": 20}
    return {
        "plugins": [tiny.__file__],
        "model": {
            "vision": "TinyVision",
            "text": "TinyText",
            "fusion": {"class_path": "CrossBert", "init_args": {"layers": 1, "heads": 2}},
            "heads": {"embed_dim": 6, "frames": 1},
        },
        "data": {
            "max_bad_share": 0.02,
            "streams": {
                "images": {**spoken, "task": "ImageText", "batch_size": RECORDS // STEPS},
                "regions": {**spoken, **regions},
                "videos": {**common, "task": "VideoText", "source": videos, "batch_size": 4, "frames": 1},
            },
        },
        "training": {"lr": 0.001, "device": "cpu", "threads": 1},
    }


@pytest.mark.slow
def test_exactly_the_broken_records_are_skipped_and_reported(
    x2kit: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: dict[str, set[str]] = {}
    plain = Trainer.step

    def stepped(self: Trainer, batch: Any) -> Any:
        for stream, names in batch.records.items():
            trained.setdefault(stream, set()).update(names)
        return plain(self, batch)

    monkeypatch.setattr(Trainer, "step", stepped)
    records = broken_records.write(folder, list(KINDS), SOUND_BETWEEN)
    clips = write_clips(folder)
    (folder / "broken.yaml").write_text(yaml.safe_dump(recipe(records, clips)))
    steps = ("--training.steps", str(STEPS), "--training.checkpoint_every", "50", "--training.seed", SEED)
    done = x2kit("train", "broken.yaml", "--config", "overlays/debug", *steps, "--run-dir", "run")
    assert (done.err, done.status) == ("", 0)
    assert (folder / "run/weights/model.safetensors").exists()

    wanted = {
        (
            "regions" if reason in OF_REGIONS else "images",
            f"#{line - 1}" if kind in NEVER_PARSED else kind,
            reason.value,
            str(records),
            line,
        )
        for line, (kind, (reason, _)) in zip(
            range(SOUND_BETWEEN + 1, RECORDS + 1, SOUND_BETWEEN + 1), KINDS.items(), strict=True
        )
    } | {("videos", kind, reason.value, str(clips), line) for kind, (line, reason, _) in BROKEN_CLIPS.items()}
    lines = [json.loads(line) for line in (folder / "run/bad-records.jsonl").read_text().splitlines()]
    told = [tuple(line[key] for key in ("stream", "record", "reason", "file", "line")) for line in lines]
    assert len(told) == len(set(told))
    assert set(told) == wanted

    counts = json.loads((folder / "run/bad-records-counts.json").read_text())
    found = {(each["stream"], each["reason"]): each["count"] for each in counts["counts"]}
    assert found == Counter((stream, reason) for stream, _, reason, *_ in wanted)
    assert counts["broken"] == len(wanted)
    # each record is drawn once, those of images for regions too, and another one for each that is left out
    replaced = sum(count for (stream, _), count in found.items() if stream != "regions")
    assert counts["seen"] == 2 * RECORDS + CLIPS + replaced
    last = json.loads((folder / "run/metrics.jsonl").read_text().splitlines()[-1])
    assert (last["step"], last["bad_records"]) == (STEPS, len(wanted))
    assert f"{len(wanted)} of {counts['seen']} records are broken" in done.out

    only_regions = {kind for kind, (reason, _) in KINDS.items() if reason in OF_REGIONS}
    good = {f"good-{number}" for number in range(len(KINDS) * SOUND_BETWEEN)}
    assert trained["images"] == good | only_regions
    assert trained["videos"] == {
        f"clip-{line}" for line in range(1, CLIPS + 1) if line not in {at for at, *_ in BROKEN_CLIPS.values()}
    }
