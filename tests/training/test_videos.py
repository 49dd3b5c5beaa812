"""Videos from files on disk through a whole run: trained, stopped, resumed, measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.data.clips_on_disk import base64_frames, write_video
from tests.data.stubs import WORDS
from x2kit import cli
from x2kit.data.pipeline.batch import PairedRows
from x2kit.data.pipeline.loader import StepBatches
from x2kit.plugin import ImageSpec

from ..data.stubs import StubScenes, WordTokenizer, stream
from .test_resume import QUICKSTART

SMALL = {key: value for key, value in QUICKSTART.items() if ".streams." not in key and ".steps" not in key}


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A recipe over files of its own folder: MP4 and Matroska videos, a file of frames, one record cut off."""
    monkeypatch.chdir(tmp_path)
    Path("videos").mkdir()
    for split, count in (("train", 12), ("test", 6)):
        records = []
        for number in range(count):
            name = f"{split}{number}.{'mkv' if number % 2 else 'mp4'}"
            write_video(Path("videos", name), 4 + number)
            word = WORDS[number % len(WORDS)]
            records.append({"id": name, "video": f"videos/{name}", "caption": {"en": f"a {word} {number}"}})
        if split == "train":
            Path("videos/train0.mp4").write_bytes(Path("videos/train0.mp4").read_bytes()[:700])
        frames = Path(f"videos/{split}.json")
        frames.write_text(json.dumps(base64_frames(5)))
        records.append({"id": "frames", "video": str(frames), "caption": {"en": "a file of frames"}})
        Path(f"{split}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    source = {"class_path": "JsonLines", "init_args": {"files": ["{split}.jsonl"], "language": "en"}}
    clips = {"task": "VideoText", "source": source, "batch_size": 4, "frames": 3, "max_tokens": 16}
    tree: dict[str, Any] = {
        "base": "quickstart/english",
        "model": {"heads": {"frames": 3}},
        "data": {"streams": {"regions": None, "clips": clips}},
        "evaluation": {"source": source, "tasks": {"grounding": None}},
    }
    path = tmp_path / "clips.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def run(*arguments: str) -> int:
    return cli.main(arguments)


def keys(**more: Any) -> list[str]:
    return [f"--{key}={value}" for key, value in {**SMALL, **more}.items()]


STEPS = {"training.steps": 6, "training.checkpoint_every": 3, "data.streams.scenes": "null"}


@pytest.mark.slow
def test_a_run_on_videos_trains_resumes_and_is_measured(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", "clips.yaml", "--run-dir", "whole", *keys(**STEPS)) == 0
    told = capsys.readouterr()
    assert "in stream clips: video not readable" in told.out + told.err
    lines = [json.loads(line) for line in Path("whole/metrics.jsonl").read_text().splitlines()]
    assert {"clips.itc", "clips.itm", "clips.mlm"} <= set(lines[-1])
    weights = Path("whole/weights/model.safetensors").read_bytes()

    for step in sorted(Path("whole/checkpoints").iterdir())[-1:]:
        for file in step.rglob("*"):
            if file.is_file():
                file.write_bytes(b"damaged")
    Path("whole/weights/model.safetensors").unlink()
    assert run("train", "--resume", "--run-dir", "whole") == 0
    assert Path("whole/weights/model.safetensors").read_bytes() == weights

    assert run("evaluate", "whole", "--split", "test") == 0
    result = json.loads(Path("whole/evaluation.json").read_text())
    english = result["languages"]["en"]
    assert (english["queries"], english["candidates"]) == (7, 7)
    assert english["trained_with_images"] is True
    assert set(english["reranked"]) >= {"image_to_text", "text_to_image"}


def test_videos_and_images_train_together_on_any_number_of_processes() -> None:
    streams = {
        "clips": stream("VideoText", source=StubScenes(), frames=2, batch_size=2),
        "images": stream("ImageText", source=StubScenes()),
    }
    plain = StubScenes.open

    def batches() -> Any:
        from x2kit.data.config import DataConfig

        return StepBatches(DataConfig(streams=streams), WordTokenizer(), ImageSpec(size=16), 0, 4)

    def opened(self: StubScenes) -> Any:
        source = plain(self)
        read = source.__class__.__getitem__

        class WithVideo(source.__class__):  # type: ignore[misc, name-defined]
            def __getitem__(self, index: int) -> Any:
                record = read(self, index)
                return {**record, "video": [record["image"]] * 3}

        source.__class__ = WithVideo
        return source

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StubScenes, "open", opened)
        batch = batches().batch(0)
    assert batch.images is not None
    assert (len(batch.images), batch.videos) == (4 + 2 * 2, (2, 2))
    clips, images = batch.streams["clips"], batch.streams["images"]
    assert isinstance(clips, PairedRows)
    assert isinstance(images, PairedRows)
    assert (images.images.tolist(), clips.images.tolist()) == ([0, 1, 2, 3], [4, 5])
    assert torch.equal(batch.images[4], batch.images[5])
    assert not torch.equal(batch.images[5], batch.images[6])


def test_a_model_without_positions_for_frames_is_refused_with_its_key(
    recipe: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("recipes", "validate", "clips.yaml") == 0
    capsys.readouterr()
    assert run("recipes", "validate", "clips.yaml", "--model.heads.frames=null") == 2
    assert capsys.readouterr().err == (
        'command line: model.heads.frames: missing: number of frame positions; stream "clips" has videos\n'
        "  set model.heads.frames: 3, or merge overlays/video over the recipe\n"
    )
    assert run("recipes", "validate", "clips.yaml", "--data.streams.clips.frames=5") == 2
    assert capsys.readouterr().err == (
        "command line: data.streams.clips.frames: the model has positions for 3 frames (model.heads.frames), found 5\n"
    )
