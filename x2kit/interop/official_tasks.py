"""Read the evaluation of a fine-tuned checkpoint from the configuration that its file carries. Imports no torch.

Keys are those of the YAML files of X2-VLM, X-VLM and CCLM; paths in them are relative to a checkout of the code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from x2kit.model.config import HeadsConfig

Tree = dict[str, Any]
SPLIT = "test"
QUESTION_WORDS, SENTENCE_WORDS, LONG_WORDS = 50, 30, 80
"""Words kept of a test question, a caption or sentence, and where max_tokens is 80."""
QUESTION_TOKENS = 60
"""Tokens kept of a test question of VQA v2, which the official code does not limit."""


class OfficialTask(NamedTuple):
    """A task of the official code.

    Attributes:
        name: of the task in the recipe.
        fits: whether a checkpoint with these heads and this configuration is of this task.
        evaluation: settings of `evaluation` without its split.
    """

    name: str
    fits: Callable[[HeadsConfig, Mapping[str, Any]], bool]
    evaluation: Callable[[_Files, HeadsConfig], Tree]


class _Files:
    """Values and paths of a configuration.

    Args:
        config: of the checkpoint.
        root: folder that its paths are relative to.
    """

    def __init__(self, config: Mapping[str, Any], root: Path) -> None:
        self.config, self._root = config, root

    def at(self, path: str) -> str:
        """Return a path below the root."""
        return str(self._root / path)

    def path(self, key: str) -> str:
        """Return the path of a key; the root if it is missing."""
        return self.at(self.config.get(key, ""))

    def tests(self) -> Any:
        """Return the test files: a list, or lists by language."""
        found = self.config["test_file"]
        if isinstance(found, Mapping):
            return {code: [self.at(_listed(files)[0])] for code, files in found.items()}
        return [self.at(file) for file in _listed(found)]

    def source(self, **settings: Any) -> Tree:
        """Return a source of the test files; those of one language are English."""
        files = self.tests()
        language = {} if isinstance(files, Mapping) else {"language": "en"}
        return _component("AnnotationFiles", files=files, split=SPLIT, **language, **settings)

    def limits(self, words: int = SENTENCE_WORDS) -> Tree:
        """Return the text limits of a task."""
        tokens = self.config.get("max_tokens", 40)
        words = self.config.get("max_words", words)
        return {"max_words": LONG_WORDS if tokens == LONG_WORDS else words, "max_tokens": tokens}


def official_evaluation(config: Mapping[str, Any], heads: HeadsConfig, root: Path) -> tuple[str, Tree] | None:
    """Describe the evaluation that the official script of a checkpoint's task does.

    Args:
        config: of the checkpoint.
        heads: of its model.
        root: folder that paths of the configuration are relative to.
    Returns: name of the task and settings of `evaluation`; None for pretrained weights, without test files, or for a
        configuration that the official code would not accept.
    """
    task = next((task for task in TASKS if task.fits(heads, config)), None)
    if task is None or not config.get("test_file"):
        return None
    try:
        return task.name, {"split": SPLIT, **task.evaluation(_Files(config, root), heads)}
    except (LookupError, TypeError, ValueError, AttributeError):
        return None


def _component(name: str, **settings: Any) -> Tree:
    return {"class_path": name, "init_args": settings}


def _listed(value: Any) -> list[str]:
    return [value] if isinstance(value, str) else list(value)


def _has_languages(config: Mapping[str, Any]) -> bool:
    return isinstance(config.get("test_file"), Mapping)


def _questions(files: _Files, heads: HeadsConfig) -> Tree:
    settings = {"answer_list": files.path("answer_list"), "top_k": files.config.get("k_test", 128)}
    settings["max_words"] = QUESTION_WORDS
    if _has_languages(files.config):
        source = files.source(
            image_root=files.path("vqa_root"),
            image_key="imageId",
            image_suffix=".jpg",
            question_key="question",
            answers_key="answer",
            id_key="id",
            one_record="id",
        )
        tokens = files.config.get("max_tokens", 40)
        task = _component("VQA", metric="exact", max_tokens=tokens, **settings)
        return {"source": source, "tasks": {"xgqa": task}}
    source = files.source(
        image_root={"vg": files.path("vg_root"), "": files.path("vqa_root")},
        image_root_key="dataset",
        question_key="question",
        answers_key="answer",
        id_key="question_id",
        one_record="entry",
    )
    task = _component("VQA", metric="vqa", max_tokens=QUESTION_TOKENS, **settings)
    return {"source": source, "tasks": {"vqa": task}}


def _pairs(files: _Files, heads: HeadsConfig) -> Tree:
    root: Any = files.path("image_root")
    if _has_languages(files.config):  # paths of MaRVL are relative to the working directory
        root = {"marvl": files.at(""), "": root}
    source = files.source(
        image_root=root,
        image_key="images",
        caption_key="sentence",
        label_key="label",
        label_as="bool",
        one_record="entry",
    )
    fused = "separately" if heads.answer_images == 2 else "together"
    task = _component("Classification", classes=[False, True], images=2, fused=fused, **files.limits())
    return {"source": source, "tasks": {"marvl" if _has_languages(files.config) else "nlvr2": task}}


def _entailment(files: _Files, heads: HeadsConfig) -> Tree:
    source = files.source(
        image_root=files.path("image_root"),
        image_key="Flikr30kID",
        image_suffix=".jpg",
        caption_key="sentence2",
        label_key="gold_label",
        skip={"gold_label": ["-"]},
        one_record="entry",
    )
    classes = ["contradiction", "entailment", "neutral"]
    return {
        "source": source,
        "tasks": {"xvnli": _component("Classification", classes=classes, **files.limits())},
    }


def _boxes(files: _Files, heads: HeadsConfig) -> Tree:
    return _referring(files, "Grounding")


def _weak_boxes(files: _Files, heads: HeadsConfig) -> Tree:
    return _referring(files, "WeakGrounding", detections=files.path("det_file"))


def _referring(files: _Files, task_name: str, **further: Any) -> Tree:
    """Measure val, testA and testB, whose boxes and splits are in the REFER release."""
    release = Path(files.path("refcoco_data"), "refcoco+")
    found = files.tests()

    def source(split: str) -> Tree:
        chosen = [file for file in found if ("_val" in Path(file).name) == (split == "val")]
        return _component(
            "ReferringExpressions",
            files=chosen or found,
            split=SPLIT,
            refs=str(release / "refs(unc).p"),
            instances=str(release / "instances.json"),
            image_root=files.path("image_root"),
            refs_split=split,
            language="en",
            **further,
        )

    task = _component(task_name, **files.limits())
    return {
        "source": source("val"),
        "sources": {split: source(split) for split in ("testA", "testB")},
        "tasks": dict.fromkeys(("val", "testA", "testB"), task),
    }


def _captions(files: _Files, heads: HeadsConfig) -> Tree:
    config = files.config
    gold = {"coco_captions": files.path("test_gt_file")} if "test_gt_file" in config else {}
    source = files.source(image_root=files.path("image_root"), id_key="image", id_as="number", **gold)
    prompt = str(config.get("prompt", "")).strip()
    settings: Tree = {"prompt": prompt, "num_beams": config.get("num_beams", 3)}
    lengths = config.get("min_length", 5), config.get("max_length", 50)
    if "mask_prob" in config:  # X²-VLM reads masks, X-VLM the last token
        form = "insert" if config.get("apply_FG_free") else "replace"
        settings |= {"form": form, "min_length": lengths[0], "max_length": lengths[1]}
        settings["length_penalty"] = config.get("length_penalty", 0)
    else:
        start = 1 + len(prompt.split())  # lengths include the prompt, whose words are one token each
        settings |= {
            "form": "causal",
            "min_length": max(lengths[0] - start, 0),
            "max_length": lengths[1] - start,
        }
        settings |= {"length_penalty": 1.0, "unique_ngrams": None, "refill": True}
    return {"source": source, "tasks": {"captions": _component("Captioning", **settings)}}


def _retrieval(files: _Files, heads: HeadsConfig) -> Tree:
    config, root = files.config, files.config.get("image_root")
    if isinstance(root, Mapping):  # xFlickr&CO
        folders = {"COCO": files.at(root["coco"]), "": files.at(root["flickr30k"])}
        fields: Tree = {
            "image_key": "img_path",
            "caption_key": "sentences",
            "id_key": "id",
            "drop_empty": True,
        }
        source = files.source(image_root=folders, **fields)
    elif root is None and _has_languages(config):  # WIT
        fields = {"image_key": "image_content", "image_as": "base64", "same_image_key": "image_url"}
        source = files.source(caption_key="caption_reference_description", drop_empty=True, **fields)
    elif config.get("is_video"):
        keys = {
            "video_key": config.get("vision_key", "video"),
            "caption_key": config.get("text_key", "caption"),
        }
        source = files.source(image_root=files.path("image_root"), **keys)
    else:
        source = files.source(image_root=files.path("image_root"))
    settings = {"top_k": config.get("k_test", 128), "rerank": "matching", **files.limits()}
    return {"source": source, "tasks": {"retrieval": _component("Retrieval", **settings)}}


TASKS = (
    OfficialTask(
        "questions", lambda heads, config: bool(heads.decoder_layers and "answer_list" in config), _questions
    ),
    OfficialTask("pairs of images", lambda heads, config: heads.answers == 2, _pairs),
    OfficialTask(
        "entailment", lambda heads, config: heads.answers == 3 and config.get("num_labels") == 3, _entailment
    ),
    OfficialTask(
        "boxes", lambda heads, config: heads.built == ("bbox",) and "refcoco_data" in config, _boxes
    ),
    OfficialTask(
        "boxes by attention", lambda heads, config: "itm" in heads.built and "det_file" in config, _weak_boxes
    ),
    OfficialTask("captions", lambda heads, config: heads.built == ("mlm",) and "prompt" in config, _captions),
    OfficialTask("retrieval", lambda heads, config: {"itc", "itm"} <= set(heads.built), _retrieval),
)
"""The first that fits is taken. Questions about videos name their files in the script, not in the configuration."""
