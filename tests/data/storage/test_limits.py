"""Records are limited in decompressed bytes, and images to the allowed formats."""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import EpsImagePlugin, Image
from pydantic import ValidationError

from tests.data.stubs import StubScenes, WordTokenizer, stream
from x2kit.data.config import DataConfig
from x2kit.data.media.images import decode
from x2kit.data.media.videos import read_frame_list
from x2kit.data.pipeline.loader import StepBatches
from x2kit.data.sources.annotation_config import AnnotationFiles
from x2kit.data.sources.config import HuggingFaceDataset, JsonLines, TarShards
from x2kit.data.sources.fields import decode_base64
from x2kit.data.storage import limits
from x2kit.data.storage.limits import IMAGE_FORMATS, LimitsConfig
from x2kit.errors import DataError, Reason
from x2kit.plugin import ImageSpec

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"
FEW = 10_000
MANY = b"x" * 20_000


@pytest.fixture
def few_bytes() -> None:
    LimitsConfig(max_record_bytes=FEW).apply()


def encoded(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (6, 4)).save(buffer, kind)
    return buffer.getvalue()


def in_gzip(folder: Path) -> Any:
    (folder / "a.jsonl.gz").write_bytes(gzip.compress(b'{"caption": "' + MANY + b'"}\n'))
    return JsonLines(files=(str(folder / "a.jsonl.gz"),)).open()[0]


def in_a_line(folder: Path) -> Any:
    (folder / "a.jsonl").write_bytes(b'{"caption": "' + MANY + b'"}\n')
    return JsonLines(files=(str(folder / "a.jsonl"),)).open()[0]


def in_an_entry(folder: Path) -> Any:
    (folder / "a.json").write_text(json.dumps([{"image": "a.png", "caption": MANY.decode()}]))
    return AnnotationFiles(files=(str(folder / "a.json"),)).open()[0]


def in_base64(folder: Path) -> Any:
    return decode_base64(base64.b64encode(MANY).decode(), "binary")


def in_a_shard(folder: Path) -> Any:
    with tarfile.open(folder / "a.tar", "w") as archive:
        entry = tarfile.TarInfo("0.jpg")
        entry.size = len(MANY)
        archive.addfile(entry, io.BytesIO(MANY))
    return TarShards(files=(str(folder / "a.tar"),)).open()[0]


def in_a_row(folder: Path) -> Any:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict({"image": [MANY], "text": ["a cat"]}).save_to_disk(str(folder / "saved"))
    return HuggingFaceDataset(folder=folder / "saved", caption_column="text").open()[0]


def in_a_frame_list(folder: Path) -> Any:
    (folder / "a.json").write_text(json.dumps([base64.b64encode(MANY).decode()]))
    return read_frame_list(str(folder / "a.json"))


def in_memory(folder: Path) -> Any:
    return decode(MANY)


@pytest.mark.parametrize(
    "read",
    [in_gzip, in_a_line, in_an_entry, in_base64, in_a_shard, in_a_row, in_a_frame_list, in_memory],
)
def test_every_reader_refuses_a_record_above_the_limit(
    read: Callable[[Path], Any], tmp_path: Path, few_bytes: None
) -> None:
    with pytest.raises(DataError, match=f"data.limits.max_record_bytes = {FEW}") as error:
        read(tmp_path)
    assert error.value.reason == Reason.BYTES_TOO_MANY


def test_postscript_in_a_record_starts_no_ghostscript(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr(
        EpsImagePlugin, "Ghostscript", lambda *a, **k: started.append(a) or Image.new("RGB", (1, 1)).im
    )
    with pytest.raises(DataError, match="none of the formats JPEG, PNG") as error:
        decode(EPS)
    assert error.value.reason == Reason.IMAGE_UNREADABLE
    assert not started


@pytest.mark.parametrize("kind", IMAGE_FORMATS)
def test_every_allowed_format_is_decoded(kind: str) -> None:
    if kind not in Image.SAVE and not Image.init() and kind not in Image.SAVE:
        pytest.skip(f"this Pillow writes no {kind}")
    assert decode(encoded(kind)).size == (6, 4)


def test_a_recipe_can_allow_a_further_format() -> None:
    with pytest.raises(DataError, match=r"data\.limits\.image_formats"):
        decode(encoded("TGA"))
    LimitsConfig(image_formats=("TGA",)).apply()
    assert decode(encoded("TGA")).size == (6, 4)


def test_a_format_unknown_to_pillow_is_refused() -> None:
    with pytest.raises(ValidationError, match=r"Pillow has no format TARGA; it has .*TGA"):
        LimitsConfig(image_formats=("TARGA",))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_limits_of_a_recipe_apply_in_workers(num_workers: int) -> None:
    images = stream("ImageText", source=StubScenes(encoded=True))
    data = DataConfig(streams={"images": images}, num_workers=num_workers, limits={"max_record_bytes": 10})
    batches = StepBatches(data, WordTokenizer(), ImageSpec(size=16), 0, 2)
    with pytest.raises(DataError, match="max_record_bytes = 10"):
        next(iter(batches.iterate()))
    assert limits.max_record_bytes() == (10 if num_workers == 0 else LimitsConfig().max_record_bytes)


def test_a_first_line_above_the_limit_leaves_the_others_readable(tmp_path: Path, few_bytes: None) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"caption": "' + MANY + b'"}\n{"caption": "a cat"}\n')
    source = JsonLines(files=(str(tmp_path / "a.jsonl"),)).open()
    assert source[1]["caption"] == "a cat"
    with pytest.raises(DataError, match=r"a\.jsonl:1: the line has 20015 bytes"):
        source[0]
