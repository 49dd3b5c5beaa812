"""Command lines that the acceptance tests share: the quickstart with a stranger's encoder, in a few steps."""

from __future__ import annotations

from pathlib import Path

TRAINING = {
    "model.vision": "ConvEncoder",
    "model.text.width": 16,
    "model.text.heads": 2,
    "model.text.layers": 1,
    "model.fusion.layers": 1,
    "model.fusion.heads": 2,
    "data.num_workers": 0,
    "data.streams.scenes.batch_size": 4,
    "data.streams.regions.batch_size": 8,
    "data.streams.regions.fusion_rows": 4,
    "data.streams.translations.batch_size": 4,
    "data.streams.translations.fusion_rows": 2,
    # Texts are as narrow as no image is here, so they cannot take an image's place as context.
    "data.streams.translations.losses.ttm": 0,
    "data.streams.translations.losses.tlm": 0,
    "training.steps": 4,
    "training.threads": 1,
    "training.log_every": 1,
    "training.device": "cpu",
    "evaluation.source.size": 24,
}


def train(run: Path, *more: str) -> list[str]:
    keys = [f"--{key}={value}" for key, value in TRAINING.items()]
    return ["train", "quickstart/multilingual", *keys, "--run-dir", str(run), *more]


def evaluate(run: Path) -> list[str]:
    return ["evaluate", str(run), "--evaluation.languages", "[en, de]"]
