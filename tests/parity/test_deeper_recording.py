"""The tests of this folder hold on a recording with another number of fusion and decoder layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from . import deeper_recording
from .conftest import REFERENCE
from .plain_run import STREAMS, negatives, plain_model, recorded_batch
from .test_other_recording import run

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def deep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("deep") / "recording"
    deeper_recording.write(REFERENCE, directory)
    return directory


def text_settings(recording: Path) -> dict[str, int]:
    return json.loads((recording / "xvlm" / "config.json").read_text())["text"]


def test_the_recording_has_twice_the_fusion_layers_and_decoders_of_two_depths(deep: Path) -> None:
    before, after = text_settings(REFERENCE), text_settings(deep)
    layers = before["num_layers"] - before["fusion_start_at"]
    assert after["num_layers"] == after["fusion_start_at"] + 2 * layers
    facts = json.loads((deep / "tasks" / "vqa_generation.json").read_text())
    assert facts["num_decoder_layers"] == 2 * layers
    assert list(facts["other_decoder_depth"]) == [str(layers)]


def test_a_decoder_of_half_depth_is_initialised_from_the_odd_layers(deep: Path) -> None:
    first = text_settings(deep)["fusion_start_at"]
    facts = json.loads((deep / "tasks" / "vqa_generation.json").read_text())
    (table,) = (half["target_to_source"] for half in facts["other_decoder_depth"].values())
    numbers = [source.split(".layer.")[1].split(".")[0] for source in table.values() if ".layer." in source]
    end = first + facts["num_decoder_layers"]
    assert set(map(int, numbers)) == {number for number in range(first, end) if number % 2}


def test_the_added_layers_change_no_loss(deep: Path) -> None:
    recorded = json.loads((deep / "xvlm" / "losses.json").read_text())["losses_float64"]
    model = plain_model(deep / "xvlm", torch.float64)
    for stream in STREAMS:
        batch = recorded_batch(deep / "xvlm", 0, stream)
        for name, value in model.losses(batch, negatives(batch)).items():
            assert value.item() == pytest.approx(recorded[f"{stream}.{name}"], abs=1e-6)


@pytest.mark.slow
def test_the_parity_tests_pass_on_a_deeper_recording(deep: Path) -> None:
    done = run(deep, ["-m", "not slow", HERE])
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
