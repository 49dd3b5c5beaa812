"""Frame sampling of evaluation equals the recorded one."""

from __future__ import annotations

import json
from typing import Any

import pytest

from x2kit.data.media.frames import evaluation_frames

from .conftest import REFERENCE
from .evidence import check_equal

FILE = "video/frame_sampling.json"
RECORDED: dict[str, Any] = json.loads((REFERENCE / FILE).read_text())


@pytest.mark.parametrize("case", RECORDED["cases"], ids=json.dumps)
def test_the_frames_are_the_recorded_ones(case: dict[str, Any]) -> None:
    found = evaluation_frames(case["num_frames"], case["num_segments"])
    check_equal(FILE, f"{case['num_segments']} of {case['num_frames']}", found, case["indices"])


def test_the_recording_has_deterministic_sampling() -> None:
    """Another mode needs another comparison."""
    check_equal(FILE, "mode", RECORDED["mode"], "evaluation (deterministic)")
