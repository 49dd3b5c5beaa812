"""The benchmark of a GPU in miniature on a CPU; no test depends on speed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.benchmarks.gpu import largest_that_fits, main


@pytest.mark.slow
def test_all_of_it_runs_in_miniature(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--device", "cpu", "--small", "--images", "2", "--steps", "1", "--rounds", "1"]
    threads = torch.get_num_threads()
    try:
        main([*small, "--output", str(tmp_path)])
    finally:
        torch.set_num_threads(threads)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["plain"]["loss_difference_fp32"] < 1e-5
    assert list(found["variants"]) == ["as it is", "activation checkpointing"]
    plain, recomputed = (one["phases"][0] for one in found["variants"].values())
    assert recomputed["flops_per_step"] > plain["flops_per_step"]
    assert recomputed["useful_flops_per_step"] == plain["useful_flops_per_step"]
    assert (tmp_path / "trace" / "phase-1-rank-0.json.gz").is_file()
    said = capsys.readouterr().out
    assert "images/s" in said
    assert "ratio: " in said


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_without_a_cuda_device_it_says_so() -> None:
    with pytest.raises(SystemExit, match="no CUDA device"):
        main([])


def test_images_are_halved_until_the_plain_step_fits() -> None:
    tried = []

    def measure(images: int) -> dict[str, Any]:
        tried.append(images)
        if images > 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"images": images}

    assert largest_that_fits(measure, 64) == {"images": 16}
    assert tried == [64, 32, 16]
