"""`x2kit recipes validate --all` and `--costs`: every shipped recipe holds together, and what it would cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from x2kit.cli.recipes.costs import costs_as_text
from x2kit.recipe.catalogue import is_overlay, shipped

Run = Callable[..., Any]

INDEX = json.loads((Path(__file__).parents[2] / "reference/keys/index.json").read_text())
RECORDED = {
    "official/x2vlm-base": "xvlm_pretrain_base_224",
    "pretrain/x2vlm-base-4m": "xvlm_pretrain_base_224",
    "pretrain/x2vlm-base-1b": "xvlm_pretrain_base_224",
    "pretrain/x2vlm-large-4m": "xvlm_pretrain_large_224",
    "pretrain/x2vlm-large-1b": "xvlm_pretrain_large_224",
    "pretrain/x2vlm-base-video": "xvlm_pretrain_base_224_video",
    "pretrain/x2vlm-large-video": "xvlm_pretrain_large_224_video",
    "pretrain/xvlm-swin": "xvlm1_swin_pretrain_base_224",
    "official/xvlm-swin-384": "xvlm1_swin_pretrain_base_384",
    "pretrain/xvlm-clip": "xvlm1_clipvit_pretrain_base_224",
    "pretrain/x2vlm-base-xlmr": "cclm_pretrain_base_224",
    "pretrain/cclm-base": "cclm_pretrain_base_224",
    "pretrain/cclm-large": "cclm_pretrain_large_224",
    "finetune/retrieval-coco": "xvlm_retrieval_base_384",
    "finetune/retrieval-flickr30k": "xvlm_retrieval_base_384",
    "finetune/retrieval-coco-multilingual": "cclm_retrieval_base_384",
    "finetune/retrieval-multi30k": "cclm_retrieval_base_384",
    "finetune/vqa-base": "xvlm_vqa_generation_base_768",
    "finetune/refcoco-base": "xvlm_grounding_base_384",
    "finetune/captioning-base": "xvlm_captioning_base_384",
    "finetune/captioning-large": "xvlm_captioning_large_384",
}
"""The recorded model of the official code that a recipe trains."""


@pytest.mark.slow
def test_every_shipped_recipe_is_valid_and_has_the_recorded_parameters(x2kit: Run) -> None:
    done = x2kit("recipes", "validate", "--all", "--json")
    found = {entry["recipe"]: entry for entry in json.loads(done.out)}
    assert set(found) == {file.name for file in shipped() if not is_overlay(file)}
    assert [name for name, entry in found.items() if not entry["valid"]] == []
    counts = {name: INDEX[model]["n_parameters"] for name, model in RECORDED.items()}
    assert {name: found[name]["parameters"] for name in RECORDED} == counts
    assert all(entry["flops_per_step"] and entry["gpu_hours"] for entry in found.values() if entry["streams"])
    assert done.status == 0


NAMED_BY_THE_USER = {
    "adapt/new-languages": ["data.streams.parallel.objectives.distillation"],
    "adapt/domain": [f"training.trainable.{part}" for part in ("vision", "text", "fusion")],
    "adapt/siglip2-multilingual-e5": [f"training.trainable.{part}" for part in ("vision", "text")],
    "adapt/dinov3-modernbert": ["training.trainable.vision"],
    "adapt/eva02-xlmr": [f"training.trainable.{part}" for part in ("vision", "text")],
}
"""Keys that are warned about as long as the user names no weights: a run, or published encoders."""


@pytest.mark.parametrize("name", [str(file.name) for file in shipped() if not is_overlay(file)])
def test_a_shipped_recipe_holds_together_without_data_and_is_warned_about_missing_weights_alone(
    x2kit: Run, name: str
) -> None:
    done = x2kit("recipes", "validate", name, "--without-data")
    assert done.status == 0, done.err
    assert done.out.endswith("not checked: whether data files and folders exist\n")
    warned = [line for line in done.out.splitlines() if line.startswith("warning: ")]
    expected = NAMED_BY_THE_USER.get(name, [])
    assert len(warned) == len(expected)
    assert all(key in line for key, line in zip(expected, warned, strict=True))


def test_files_that_are_missing_are_faults_unless_they_are_left_out(x2kit: Run) -> None:
    done = x2kit("recipes", "validate", "pretrain/x2vlm-base-video", "--json")
    (entry,) = json.loads(done.out)
    assert (done.status, entry["valid"], entry["ok"]) == (2, False, False)
    keys = [fault["key"] for fault in entry["faults"]]
    assert "data.streams.images.source.init_args.files" in keys
    assert "data.streams.videos.source.init_args.sources.noisy.init_args.files" in keys


def test_training_refuses_files_that_are_missing(x2kit: Run, folder: Path) -> None:
    done = x2kit("train", "finetune/retrieval-coco", "--run-dir", str(folder / "run"))
    assert done.status == 2
    # The user's data lie where he works, not where the recipe lies.
    assert f"no file at {Path.cwd()}/data/finetune/coco_train.json" in done.err


def test_other_faults_of_data_are_still_found_without_it(x2kit: Run) -> None:
    key = ("--data.streams.images.languages", "[xx]")
    done = x2kit("recipes", "validate", "finetune/retrieval-coco", "--without-data", *key)
    assert done.status == 2
    assert "data.streams.images.languages: the source has no xx" in done.err


def test_costs_of_one_recipe(x2kit: Run) -> None:
    def costs(*keys: str) -> Any:
        done = x2kit("recipes", "validate", "small.yaml", "--costs", "--json", *keys)
        return json.loads(done.out)[0]

    Path("small.yaml").write_text(
        "model:\n"
        "  vision: {class_path: TimmViT, init_args: {image_size: 32, width: 16, depth: 1, heads: 2}}\n"
        "  text: {class_path: Bert, init_args: {width: 16, vocab_size: 100}}\n"
        "  fusion: {class_path: CrossBert, init_args: {layers: 1, heads: 2}}\n"
        "data:\n"
        "  streams:\n"
        "    scenes: {task: ImageText, source: EmojiScenes, batch_size: 8, max_tokens: 10}\n"
        "    regions: {task: {class_path: RegionText, init_args: {images_from: scenes}}, "
        "source: EmojiScenes, batch_size: 16, max_tokens: 10}\n"
        "    pairs: {task: ParallelText, source: EmojiTexts, batch_size: 4, max_tokens: 10}\n"
        "training: {steps: 100, precision: bf16}\n"
    )
    one = costs("--accelerator", "h100")
    assert one["memory"]["weights"] == 4 * one["parameters"]
    assert one["memory"]["optimiser"] == 12 * one["parameters"]
    assert (one["images_per_step"], one["rows_per_step"], one["tokens_per_step"]) == (
        8,
        28,
        8 * 10 + 160 + 80,
    )
    assert one["gpu_hours"] == pytest.approx(one["flops_per_step"] * 100 / (989e12 * 0.35) / 3600)
    half = costs("--data.streams.regions", "null", "--data.streams.pairs", "null")
    assert half["flops_per_step"] < one["flops_per_step"]
    double = costs("--training.steps", "200", "--accelerator", "h100")
    assert double["gpu_hours"] == pytest.approx(2 * one["gpu_hours"])


def test_frozen_parts_have_no_optimiser_state(x2kit: Run) -> None:
    keys = (
        "quickstart/english",
        "--costs",
        "--training.optimizer",
        "AdamW",
        "--training.trainable.vision",
        "none",
    )
    one = json.loads(x2kit("recipes", "validate", *keys, "--json").out)[0]
    vision, text = one["parts"]["vision"], one["parts"]["text"]
    assert (vision["trained"], vision["optimiser"]) == (0, 0)
    assert (text["frozen"], text["optimiser"]) == (0, 12 * text["trained"])
    assert one["memory"]["optimiser"] == 12 * (one["parameters"] - vision["frozen"])
    assert one["memory"]["weights"] == 4 * one["parameters"]
    shown = x2kit("recipes", "validate", *keys).out.splitlines()
    assert "quickstart/english: trained and frozen parameters by part" in shown
    assert any(line.split()[:3] == ["vision", "0", f"{vision['frozen']:,}"] for line in shown)


def test_the_papers_swap_needs_one_overlay_and_no_data(x2kit: Run) -> None:
    done = x2kit(
        *("recipes", "validate", "pretrain/x2vlm-base-4m", "--config", "overlays/xlmr"),
        *("--without-data", "--costs", "--json"),
    )
    (entry,) = json.loads(done.out)
    assert entry["parameters"] == INDEX["cclm_pretrain_base_224"]["n_parameters"] == 615_540_825
    assert entry["assumed_vocabulary"] is None


def test_a_vocabulary_without_its_texts_is_assumed_and_said(x2kit: Run) -> None:
    command = (
        *("recipes", "validate", "pretrain/x2vlm-base-4m", "--without-data", "--costs"),
        *("--config", "overlays/text/roberta", "--model.text.tokenizer.vocab_size", "5000"),
    )
    (entry,) = json.loads(x2kit(*command, "--json").out)
    assert entry["assumed_vocabulary"] == 5000
    assert "maximum vocabulary of 5,000 ids" in x2kit(*command).out


def test_a_swap_that_does_not_fit_is_a_fault_that_names_both(
    x2kit: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from x2kit.cli.recipes import swaps
    from x2kit.recipe.catalogue import find

    few = [find(name) for name in ("quickstart/english", "overlays/vision/dinov2", "quickstart/multilingual")]
    monkeypatch.setattr(swaps, "shipped", lambda: few)
    monkeypatch.setattr("x2kit.cli.recipes.swaps.model_of", lambda resolved: resolved)
    monkeypatch.setattr("x2kit.training.profiling.costs.parameter_count", lambda model: 2_345_678)
    done = x2kit("recipes", "validate", "--swaps", "vision")
    assert done.out.splitlines() == [
        "recipe                   vision/dinov2",
        "quickstart/english                 2.3",
        "quickstart/multilingual        INVALID",
        "1 of 2 pairs are valid; numbers are parameters in millions",
    ]
    assert done.status == 2
    assert "(overlays/vision/dinov2 over quickstart/multilingual)" in done.err


@pytest.mark.parametrize(
    ("flops", "hours", "shown"),
    [
        (3.27e7, 3.27e-5, ("32.7 M", "0.118 s")),
        (377e12, 0.5, ("377 T", "30.0 min")),
        (1.88e18, 1882.0, ("1,880 P", "1,882 h")),
        (0, 0.0, ("0", "0 s")),
    ],
)
def test_costs_are_shown_without_exponents(flops: float, hours: float, shown: tuple[str, str]) -> None:
    memory = {"weights": 0, "optimiser": 0, "activations_per_sample": 0}
    entry = {
        **{"recipe": "one", "parameters": 1, "memory": memory, "flops_per_step": flops, "gpu_hours": hours},
        **{"tokens_per_step": 1, "images_per_step": 1, "accelerator": {"name": "a100"}},
    }
    head, line = (row.strip() for row in costs_as_text([entry]).splitlines()[:2])
    assert head.endswith("time")
    assert line.endswith(shown[1])
    assert f" {shown[0]} " in line
