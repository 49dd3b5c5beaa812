"""Configurations of official files give the evaluation of their task; values are those of the published YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from x2kit.evaluation.config import EvaluationConfig
from x2kit.interop.official_tasks import official_evaluation
from x2kit.model.config import HeadsConfig
from x2kit.plugin.choice import context_of
from x2kit.plugin.registry import Registry

ROOT = Path("/code")
LANGUAGES = {"de": ["de.json", "ans2label.json"], "en": ["en.json", "ans2label.json"]}
VQA: dict[str, Any] = {
    "test_file": ["data/finetune/vqa_test.json"],
    "answer_list": "data/finetune/answer_list.json",
    "vqa_root": "images/coco/",
    "vg_root": "images/visualgenome/",
    "k_test": 64,
}
GQA: dict[str, Any] = {
    "test_file": LANGUAGES,
    "answer_list": "data/ans2label.json",
    "vqa_root": "images/gqa/",
}
NLVR: dict[str, Any] = {"test_file": ["data/nlvr_test.json"], "image_root": "images/nlvr2/"}
MARVL: dict[str, Any] = {
    "test_file": {"en": "nlvr_test.json", "zh": "marvl-zh.json"},
    "image_root": "images/nlvr2/",
}
XVNLI: dict[str, Any] = {
    "test_file": {"ar": "ar/test.jsonl"},
    "image_root": "images/flickr30k-images",
    "max_tokens": 80,
    "num_labels": 3,
}
REFCOCO: dict[str, Any] = {
    "test_file": ["data/refcoco+_val.json", "data/refcoco+_test.json"],
    "refcoco_data": "data/",
    "image_root": "images/coco/",
    "max_tokens": 40,
}
CAPTIONS: dict[str, Any] = {
    "test_file": "coco_karpathy_test.json",
    "test_gt_file": "coco_karpathy_test_gt.json",
    "image_root": "images/coco/",
    "prompt": "a picture of ",
    "max_length": 20,
    "min_length": 5,
    "num_beams": 3,
}
COCO: dict[str, Any] = {
    "test_file": "data/coco_test.json",
    "image_root": "images/coco/",
    "k_test": 256,
    "max_tokens": 40,
}
XFLICKR: dict[str, Any] = {
    "test_file": {"de": "de/test.jsonl"},
    "image_root": {"flickr30k": "images/flickr30k-images", "coco": "images/val2014"},
    "max_tokens": 80,
    "k_test": 128,
}
WIT: dict[str, Any] = {"test_file": {"ar": "test_ar.jsonl"}, "max_tokens": 80}


def heads(*built: Any, **settings: Any) -> HeadsConfig:
    return HeadsConfig(built=built, **settings)


def read(config: dict[str, Any], made: HeadsConfig, registry: Registry) -> tuple[str, EvaluationConfig]:
    """The evaluation, read as a recipe reads it, so that every setting exists."""
    found = official_evaluation(config, made, ROOT)
    assert found is not None
    return found[0], EvaluationConfig.model_validate(found[1], context=context_of(registry))


@pytest.mark.parametrize(
    ("config", "made", "kind", "tasks"),
    [
        (VQA, heads(decoder_layers=6), "questions", ["vqa"]),
        (GQA, heads(decoder_layers=6), "questions", ["xgqa"]),
        (NLVR, heads(answers=2, answer_images=2), "pairs of images", ["nlvr2"]),
        (NLVR, heads(answers=2), "pairs of images", ["nlvr2"]),
        (MARVL, heads(answers=2, answer_images=2), "pairs of images", ["marvl"]),
        (XVNLI, heads(answers=3), "entailment", ["xvnli"]),
        (REFCOCO, heads("bbox"), "boxes", ["val", "testA", "testB"]),
        (
            {**REFCOCO, "det_file": "data/refcoco+/dets.json"},
            heads("itc", "itm"),
            "boxes by attention",
            ["val", "testA", "testB"],
        ),
        (CAPTIONS, heads("mlm"), "captions", ["captions"]),
        (COCO, heads("itc", "itm"), "retrieval", ["retrieval"]),
        (XFLICKR, heads("itc", "itm"), "retrieval", ["retrieval"]),
        (WIT, heads("itc", "itm"), "retrieval", ["retrieval"]),
        ({**COCO, "is_video": True, "vision_key": "video"}, heads("itc", "itm"), "retrieval", ["retrieval"]),
    ],
)
def test_each_task_is_recognised(
    config: dict[str, Any], made: HeadsConfig, kind: str, tasks: list[str], registry: Registry
) -> None:
    found, evaluation = read(config, made, registry)
    assert (found, list(evaluation.tasks)) == (kind, tasks)
    for task in evaluation.tasks.values():
        assert task.missing_heads(made) == {}
    for source in evaluation.keyed_sources().values():
        assert source.for_split("test") == source


def test_paths_are_below_the_root_and_settings_those_of_the_configuration(registry: Registry) -> None:
    _, evaluation = read(VQA, heads(decoder_layers=6), registry)
    settings = evaluation.tasks["vqa"].model_dump()
    assert settings["answer_list"] == "/code/data/finetune/answer_list.json"
    assert (settings["top_k"], settings["max_words"], settings["metric"]) == (64, 50, "vqa")
    source = evaluation.source.model_dump()
    assert source["files"] == ("/code/data/finetune/vqa_test.json",)
    assert source["image_root"] == {"vg": "/code/images/visualgenome", "": "/code/images/coco"}
    assert source["language"] == "en"


def test_files_by_language_keep_their_language(registry: Registry) -> None:
    _, evaluation = read(GQA, heads(decoder_layers=6), registry)
    assert evaluation.source.model_dump()["files"] == {"de": ("/code/de.json",), "en": ("/code/en.json",)}
    assert evaluation.source.languages() == ("de", "en")
    _, evaluation = read(XVNLI, heads(answers=3), registry)
    assert evaluation.tasks["xvnli"].model_dump()["max_words"] == 80


def test_captions_are_read_as_their_code_reads_them(registry: Registry) -> None:
    _, first = read(CAPTIONS, heads("mlm"), registry)
    lengths = first.tasks["captions"].model_dump()
    assert (lengths["form"], lengths["min_length"], lengths["max_length"]) == ("causal", 1, 16)
    second_config = {
        **CAPTIONS,
        "mask_prob": 0.6,
        "apply_FG_free": True,
        "max_length": 50,
        "length_penalty": 0,
    }
    _, second = read(second_config, heads("mlm"), registry)
    lengths = second.tasks["captions"].model_dump()
    assert (lengths["form"], lengths["min_length"], lengths["max_length"]) == ("insert", 5, 50)
    assert second.source.model_dump()["coco_captions"] == "/code/coco_karpathy_test_gt.json"


def test_both_forms_of_two_images_are_told_apart_by_the_head(registry: Registry) -> None:
    fused = {
        images: read(NLVR, heads(answers=2, answer_images=images), registry)[1]
        .tasks["nlvr2"]
        .model_dump()["fused"]
        for images in (1, 2)
    }
    assert fused == {1: "together", 2: "separately"}


def test_boxes_are_measured_on_each_split(registry: Registry) -> None:
    _, evaluation = read(REFCOCO, heads("bbox"), registry)
    files = {key: source.model_dump()["files"] for key, source in evaluation.keyed_sources().items()}
    assert files == {
        "source": ("/code/data/refcoco+_val.json",),
        "sources.testA": ("/code/data/refcoco+_test.json",),
        "sources.testB": ("/code/data/refcoco+_test.json",),
    }


@pytest.mark.parametrize(
    "config",
    [
        {},
        {"image_res": 224},
        {"test_file": ""},
        {"test_file": 7},
        {"test_file": [7]},
        {"test_file": {"en": 7}},
    ],
)
def test_other_configurations_have_no_evaluation(config: dict[str, Any]) -> None:
    assert official_evaluation(config, heads("itc", "itm"), ROOT) is None
    assert official_evaluation(config, heads("itc", "itm", "mlm", "bbox"), ROOT) is None
