"""The tasks that `x2kit plugins new` writes: their recipe lines train, their tests pass."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from PIL import Image

from tests.forked import Program
from x2kit.cli import main

COLOURS = ("red", "green", "blue", "white")
SMALL = {
    "model": {
        "vision": {"init_args": {"image_size": 32, "width": 16, "depth": 1}},
        "text": {"class_path": "Bert", "init_args": {"width": 16, "heads": 2, "layers": 1}},
        "fusion": {"init_args": {"layers": 1, "heads": 2}},
        "heads": {"built": []},
    },
    "data": {"num_workers": 0, "streams": {"scenes": None, "regions": None, "translations": None}},
    "training": {"steps": 3, "threads": 1, "device": "cpu", "precision": "fp32"},
    "evaluation": {"languages": ["en"], "tasks": {"retrieval": None, "grounding": None}},
}
"""What is laid over the quickstart, besides the lines of the README."""


def merged(one: dict, other: dict) -> dict:
    both = {
        name: merged(one[name], other[name])
        for name in one.keys() & other.keys()
        if isinstance(one[name], dict)
    }
    return {**one, **other, **both}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working directory: small files, and the recipe of the README over the small quickstart."""
    monkeypatch.chdir(tmp_path)
    for colour in COLOURS:
        Image.new("RGB", (40, 30), colour).save(f"{colour}.png")
    for split, count in (("train", 24), ("test", 8)):
        records = [
            {
                "id": str(number),
                "image": f"{COLOURS[number % 4]}.png",
                "caption": {"en": f"a {COLOURS[(number + number // 4 % 2) % 4]} square"},
                "label": number // 4 % 2 == 0,
            }
            for number in range(count)
        ]
        Path(f"{split}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in ("my_truth", "my_stream")]:
        del sys.modules[name]


def write_recipe(module: str, heads: tuple[str, ...] = (), measured: bool = True) -> None:
    readme = Path(f"{module.replace('_', '-')}/README.md").read_text(encoding="utf-8")
    block = re.search(r"```yaml\n(.*?)```", readme, re.DOTALL)
    assert block
    recipe = {"base": "quickstart/multilingual", **merged(yaml.safe_load(block[1]), SMALL)}
    recipe["data"]["streams"][module]["batch_size"] = 8
    recipe["model"]["heads"]["built"] = list(heads)
    if not measured:
        recipe["evaluation"] = None
    Path("recipe.yaml").write_text(yaml.safe_dump(recipe), encoding="utf-8")


@pytest.mark.parametrize("form", ["distribution", "file"])
def test_it_trains_and_is_measured(form: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["plugins", "new", "my-truth", "--kind", "task"]) == 0
    if form == "distribution":
        monkeypatch.syspath_prepend(str(folder / "my-truth"))  # stands for an installation
        plugin = "my_truth"
    else:
        assert main(["plugins", "new", "my-truth", "--kind", "task", "--file"]) == 0
        plugin = "./my_truth.py"
    write_recipe("my_truth")
    assert main(["train", "recipe.yaml", "--plugin", plugin, "--run-dir", "run"]) == 0
    losses = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert "my_truth.truth" in losses[-1]
    assert main(["evaluate", "run"]) == 0
    result = json.loads(Path("run/evaluation.json").read_text())["tasks"]["my_truth"]["result"]
    scores = result["scores"]["en"]
    assert (scores["rows"], scores["chance"], scores["most_frequent"]) == (8, 0.5, 0.5)
    assert 0 <= scores["accuracy"] <= 1


def test_a_stream_of_pretraining_trains(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["plugins", "new", "my-stream", "--kind", "pretraining"]) == 0
    monkeypatch.syspath_prepend(str(folder / "my-stream"))
    regions = [{"bbox": [0, 0, 20, 30], "caption": {"en": "left"}}, {"bbox": [9, 9, 9, 9], "caption": "dot"}]
    records = [
        {"id": str(number), "image": f"{COLOURS[number % 4]}.png", "regions": regions[: 1 + number % 2]}
        for number in range(24)
    ]
    Path("train.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    write_recipe("my_stream", heads=("itc", "itm", "mlm"), measured=False)
    assert main(["train", "recipe.yaml", "--plugin", "my_stream", "--run-dir", "run"]) == 0
    last = json.loads(Path("run/metrics.jsonl").read_text().splitlines()[-1])
    assert {"my_stream.itc", "my_stream.itm", "my_stream.mlm"} <= last.keys()
    assert json.loads(Path("run/bad-records-counts.json").read_text())["broken"] == 0


def test_its_own_tests_pass(folder: Path) -> None:
    assert main(["plugins", "new", "my-truth", "--kind", "task"]) == 0
    options = ("-q", "-p", "no:cacheprovider", "--rootdir", ".", "tests")
    environment = {**os.environ, "PYTHONPATH": str(folder / "my-truth"), "OMP_NUM_THREADS": "1"}
    done = Program(*options, module="pytest", cwd=folder / "my-truth", environment=environment).wait()
    assert done.returncode == 0, done.stdout
