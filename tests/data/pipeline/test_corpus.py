"""Texts to train a tokenizer on."""

from __future__ import annotations

import pytest

from tests.data.stubs import Scenes, StubScenes, stream
from x2kit.data.config import DataConfig
from x2kit.data.pipeline.corpus import training_texts


def test_texts_are_cleaned_and_empty_ones_skipped() -> None:
    texts = list(training_texts(DataConfig(streams={"images": stream("ImageText")})))
    assert texts[:3] == ["dog", "dogchen", "le dog"]
    assert len(texts) == 24


def test_equal_sources_are_read_once_and_no_record_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Scenes, "__getitem__", lambda self, index: pytest.fail("a record was opened"))
    streams = {"images": stream("ImageText"), "regions": stream("RegionText", images_from="images")}
    once = list(training_texts(DataConfig(streams=streams)))
    assert len(once) == 24
    streams["other"] = stream("ImageText", source=StubScenes(count=5))
    assert len(list(training_texts(DataConfig(streams=streams)))) == 48


def test_texts_of_a_text_stream_are_cleaned_as_the_stream_cleans_them() -> None:
    texts = list(training_texts(DataConfig(streams={"corpus": stream("PlainText")})))
    assert texts[-1] == "..."
