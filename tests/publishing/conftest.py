"""A run of tiny encoders that was trained and evaluated, as files, and a Hub on this machine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.model import tiny
from tests.model.conftest import build
from x2kit.io.identity import sha256_of
from x2kit.model import save_weights
from x2kit.publishing import publication
from x2kit.publishing.facts import Facts, read_facts
from x2kit.publishing.snippet import Snippet

from .hub_server import WRITER, Hub, serving

PLUGIN = Path(tiny.__file__)
RECIPE = f"""\
description: Tiny encoders, trained on /home/anna/coco by anna
plugins: [{PLUGIN}]
model:
  vision: TinyVision
  text: TinyText
  fusion: TinyFusion
  heads: {{embed_dim: 6}}
data:
  streams:
    photos:
      task: ImageText
      source: {{class_path: JsonLines, init_args: {{files: [/home/anna/coco/train.jsonl]}}}}
      batch_size: 4
      languages: [en, de]
training:
  steps: 40
  reporters:
    online: {{class_path: WeightsAndBiases, init_args: {{project: secret-project}}}}
evaluation:
  source: {{class_path: JsonLines, init_args: {{files: [/home/anna/coco/test.jsonl]}}}}
  tasks: {{retrieval: Retrieval}}
"""


def shares(r1: float) -> dict[str, float]:
    return {"r1": r1, "r5": r1 + 0.1, "r10": r1 + 0.2}


def language(r1: float, trained: bool) -> dict[str, Any]:
    """A row of retrieval."""
    return {
        "image_to_text": shares(r1),
        "text_to_image": shares(r1 - 0.1),
        "reranked": {"image_to_text": shares(r1 + 0.05), "text_to_image": shares(r1 - 0.05)},
        "mean_r1": r1 - 0.05,
        "queries": 1500,
        "candidates": 500,
        "chance_r1": 0.002,
        "highest_r1": 1.0,
        "trained_with_images": trained,
    }


def result(sha256: str = "0" * 64) -> dict[str, Any]:
    """A result of retrieval and grounding in two languages, and of a task measured row by row."""
    return {
        "split": "test",
        "checkpoint": {
            "path": "/home/anna/runs/secret/weights/model.safetensors",
            "sha256": sha256,
            "steps": 40,
        },
        "data": {
            "source": {"class_path": "JsonLines", "init_args": {"files": "/home/anna/coco/test.jsonl"}},
            "fingerprint": "65dcce4db669e5cf",
            "records": 500,
        },
        "tasks": {
            "retrieval": {"class_path": "Retrieval", "init_args": {}},
            "questions": {
                "class_path": "VQA",
                "init_args": {},
                "result": {
                    "scores": {
                        "en": {"accuracy": 0.75, "chance": 0.1, "rows": 40, "trained_with_images": True},
                        "fr": {"accuracy": 0.5, "chance": 0.1, "rows": 20, "trained_with_images": False},
                    },
                    "score": "accuracy",
                    "mean": 0.625,
                },
            },
        },
        "languages": {"en": language(0.7, True), "de": language(0.5, False), "fr": language(0.6, False)},
        "rerank": {"method": "combined", "top_k": 16, "itm_weight": 0.5},
        "positives": "row",
        "grounding": {
            code: {
                "iou50": share,
                "regions": 1514,
                "images": 480,
                "chance": 0.037,
                "trained_with_images": code == "en",
            }
            for code, share in (("en", 0.9), ("de", 0.6))
        },
        "grounding_iou": 0.5,
        "warnings": ["grounding is at chance level in xx"],
        "seconds": 3.0,
    }


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run directory with weights, records and results; tests copy it."""
    run = tmp_path_factory.mktemp("trained") / "run"
    save_weights(build(), RECIPE, run / "weights")
    versions = {
        "python": "3.12.1",
        "packages": {"x2kit": "0.1.0", "torch": "2.13.0", "timm": None},
        "machine": "Linux-6.1-secret-kernel",
        "processor": "A Processor",
        "cores": 8,
        "threads": 4,
        "seed": 42,
        "data": {"photos": "3b36ccd2bb0377ca"},
        "published": {},
        "device": "cuda:0",
        "accelerator": "A Graphics Card",
        "processes": 2,
        "precision": "bf16",
    }
    (run / "versions.json").write_text(json.dumps(versions))
    lines = [{"step": 20, "seconds": 1800.0}, {"step": 40, "seconds": 5400.0}]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    found = result(sha256_of(run / "weights" / "model.safetensors"))
    (run / "evaluation.json").write_text(json.dumps(found))
    (run / "evaluation-retrieval-predictions-en.json").write_text('[{"id": "1", "text": "private"}]')
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run that the test may change."""
    return Path(shutil.copytree(trained, tmp_path / "run"))


@pytest.fixture
def facts(run: Path) -> Facts:
    return read_facts(run)


@pytest.fixture
def examples(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Do not start the two processes of the example; list the folders that they would have read."""
    folders: list[Path] = []

    def execute(snippet: Snippet, folder: Path, *others: Any) -> Snippet:
        folders.append(folder)
        return replace(snippet, python_output="(1, 6)\n", shell_output="0.5\n")

    monkeypatch.setattr(publication, "execute", execute)
    return folders


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A Hub that this process and its children use, with a token that may write to `me`."""
    from huggingface_hub import constants

    with serving() as found:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, found.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        for name, value in environment(found, tmp_path).items():
            monkeypatch.setenv(name, value)
        yield found


def environment(hub: Hub, folder: Path) -> dict[str, str]:
    """Environment of a process that uses the Hub."""
    return {
        "HF_ENDPOINT": hub.url,
        "HF_TOKEN": WRITER,
        "HF_HOME": str(folder / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }


Child = Callable[..., str]


@pytest.fixture
def child() -> Child:
    """Run Python in a process of its own; returns what it printed."""

    def run(*arguments: str, folder: Path, **variables: str) -> str:
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run
