"""Derive another recording of the same layout, with values that follow from the original ones.

python -m tests.parity.other_recording DIR
X2KIT_REFERENCE=DIR pytest tests/parity

| folder | what becomes of it |
|---|---|
| xvlm, cclm | rows of batches in another order, with all that was recorded of rows and the negatives of training |
| | (not the image batches: `tasks` and `tasks_more` name their rows by their place); dimensions of the projections |
| | and hidden units of the heads in another order, before and after training |
| cclm_init | rows of its batch in another order |
| retrieval | fewer images, fewer texts, both in another order, other numbers of candidates; scores, ranks, recalls |
| tasks | questions, answer classes and hidden units in another order; some captions are not written |
| tasks_more | the models and images before these changes; rows, boxes and texts in another order |
| dist | processes change places, the rows of each are in another order |
| relpos | fewer heads, channels, blocks and cases, the others in another order |
| keys | a model fewer |
| tasks_more | questions about images and videos in another order, with their answers; hidden units of heads; captions |
| | to learn in another order, some are not written |
| init, regions, schedule, text, video | cases in another order, some left out |

All that is not named is copied. No size of the encoders changes, and no token has another id.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

Tensors = dict[str, Tensor]
FIXED = ("xvlm/image_batch", "cclm/image_batch")
"""Batches whose rows other files name by their place."""
HEADS = ("itm_head", "bbox_head", "cls_head")
RECALLS = (1, 5, 10)


def order(count: int) -> Tensor:
    """Which old one stands at each new place: all move on by one, so that the way back is another order."""
    return torch.arange(count).roll(1)


def places(order: Tensor) -> Tensor:
    """The new place of each old one."""
    return order.argsort()


def fewer(cases: list[Any]) -> list[Any]:
    """Every fourth left out, the others in another order."""
    kept = [case for place, case in enumerate(cases) if place % 4 != 3]
    return kept[-1:] + kept[:-1]


# Models


def rows_in_order(batch: Tensors, rows: Tensor, all_images: Tensor) -> Tensors:
    """A batch whose rows, and whose images if several rows share one, are in another order."""
    grouped = "in.idx_to_group_img" in batch
    found = {}
    for name, value in batch.items():
        kind, _, what = name.partition(".")
        if kind not in ("in", "out"):
            found[name] = value
        elif what.endswith("neg_idx"):
            found[name] = places(rows)[value[rows]]
        elif what == "idx_to_group_img":
            found[name] = places(all_images)[value[rows]]
        elif what == "image" and grouped:
            found[name] = value[all_images]
        elif what.startswith(("similarity", "weights_for_")):
            found[name] = value[rows][:, rows]
        elif what in ("itm_logits", "ttm_logits"):
            found[name] = torch.cat([part[rows] for part in value.chunk(3)])
        else:
            found[name] = value[rows]
    return found


def batch_in_order(batch: Tensors) -> Tensors:
    return rows_in_order(batch, order(len(batch["in.text_ids"])), order(len(batch.get("in.image", []))))


def dimensions_in_order(tensors: Tensors) -> Tensors:
    """Projected dimensions and the heads' hidden units in another order: the same function, other tensors."""
    found = {}
    for name, value in tensors.items():
        parts = name.split(".")
        if "vision_proj" in parts or "text_proj" in parts:
            value = value[order(len(value))]
        elif not set(HEADS).isdisjoint(parts):
            *_, layer, kind = parts
            if layer in "01":
                value = value[order(len(value))]
            elif kind == "weight":
                value = value[:, order(value.shape[1])]
        elif name.startswith("out.") and name.endswith("_feat"):
            value = value[:, order(value.shape[1])]
        found[name] = value
    return found


def model(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        change_tensors(path, dimensions_in_order)
    moved = set()
    for path in folder.glob("*_batch.safetensors"):
        if f"{folder.name}/{path.stem}" not in FIXED:
            change_tensors(path, batch_in_order)
            moved.add(path.stem.removesuffix("_batch"))
    change_tensors(folder / "train_batch1.safetensors", streams_in_order)
    change_json(folder / "train_log.json", lambda log: training_in_order(log, moved))


def streams_in_order(tensors: Tensors) -> Tensors:
    """The batch for training alone, in which streams stand side by side."""
    found = {}
    for stream in {name.partition(".")[0] for name in tensors}:
        begin = f"{stream}."
        batch = {f"in.{n.removeprefix(begin)}": value for n, value in tensors.items() if n.startswith(begin)}
        found |= {
            f"{begin}{n.removeprefix('in.')}": value.contiguous()
            for n, value in batch_in_order(batch).items()
        }
    return found


def training_in_order(log: dict[str, Any], moved: set[str]) -> dict[str, Any]:
    """The negatives of each step; its first batch is that of the other recordings."""
    for step in log["steps"]:
        for name in [name for name in step if name.endswith("neg_idx")]:
            if name.startswith(("first_", "second_")):
                stream = "para_text"
            else:
                stream = "region" if name.startswith("region_") else "image"
            if step["batch"] or stream in moved:
                rows, values = order(len(step[name])), torch.tensor(step[name])
                step[name] = places(rows)[values[rows]].tolist()
    return log


# Retrieval


def retrieval(folder: Path) -> None:
    """Fewer images and texts: every pair was scored, so each choice of candidates can be told again."""
    facts = json.loads((folder / "retrieval.json").read_text())
    tensors = dimensions_in_order(load_file(folder / "retrieval.safetensors"))
    fill, old_owner = facts["settings"]["fill"], torch.tensor(facts["txt2img"])
    (logits,) = (
        tensors[f"out.{name}.score_t2i"].T
        for name, run in facts["runs"].items()
        if run["k_test"] == len(tensors["in.images"])
    )
    images = order(len(logits))[:-2]
    texts = order(len(old_owner))
    texts = texts[torch.isin(old_owner[texts], images)]
    owner = {image: place for place, image in enumerate(images.tolist())}
    similarity, logits = tensors["out.similarity"][images][:, texts], logits[images][:, texts]
    facts["txt2img"] = [owner[image] for image in old_owner[texts].tolist()]
    facts["img2txt"] = [
        [text for text, image in enumerate(facts["txt2img"]) if image == number]
        for number in range(len(images))
    ]
    facts["settings"]["batch_size_test_text"] -= 2
    found = {
        "in.images": tensors["in.images"][images],
        "in.text_ids": tensors["in.text_ids"][texts],
        "in.text_atts": tensors["in.text_atts"][texts],
        "out.image_feat": tensors["out.image_feat"][images],
        "out.text_feat": tensors["out.text_feat"][texts],
        "out.similarity": similarity,
    }
    facts["runs"] = {}
    for k in (3, len(images)):
        i2t, t2i = scored(similarity, logits, k, fill), scored(similarity.T, logits.T, k, fill)
        found |= {f"out.k{k}.score_i2t": i2t, f"out.k{k}.score_t2i": t2i}
        facts["runs"][f"k{k}"] = ranked(k, i2t, t2i, facts, fill)
    save(found, folder / "retrieval.safetensors")
    (folder / "retrieval.json").write_text(json.dumps(facts))


def scored(similarity: Tensor, logits: Tensor, k: int, fill: float) -> Tensor:
    """The matching logits of the k most similar, the rest filled."""
    candidates = similarity.topk(k, dim=1).indices
    return torch.full_like(logits, fill).scatter(1, candidates, logits.gather(1, candidates))


def ranked(k: int, i2t: Tensor, t2i: Tensor, facts: dict[str, Any], fill: float) -> dict[str, Any]:
    """Ranks, none where no right answer is a candidate, and recalls with ties against us."""
    found: dict[str, Any] = {"k_test": k, "metrics": {}, "metrics_free_of_ties": []}
    for scores, answers, recall, name in (
        (i2t, facts["img2txt"], "txt", "rank_of_best_positive_i2t"),
        (t2i, [[image] for image in facts["txt2img"]], "img", "rank_of_positive_t2i"),
    ):
        best = [(row, max(row[right].tolist())) for row, right in zip(scores, answers, strict=True)]
        ranks = [None if value == fill else int((row > value).sum()) for row, value in best]
        found[name] = ranks
        # Where no right answer is a candidate, all wrong ones may stand before it.
        last = [scores.shape[1] - len(right) for right in answers]
        for limit in RECALLS:
            inside = sum(
                (end if rank is None else rank) < limit for rank, end in zip(ranks, last, strict=True)
            )
            found["metrics"][f"{recall}_r{limit}"] = 100 * inside / len(ranks)
            found["metrics_free_of_ties"] += [f"{recall}_r{limit}"] * (limit <= k)
    return found


# Tasks


def tasks(folder: Path) -> None:
    change_tensors(folder / "heads.safetensors", lambda it: classes_in_order(dimensions_in_order(it)))
    change_tensors(folder / "vqa_generation.safetensors", questions_in_order)
    change_json(folder / "captioning.json", lambda facts: facts | {"generation": fewer(facts["generation"])})


def classes_in_order(tensors: Tensors) -> Tensors:
    """Answers to choose from have other numbers."""
    found = dict(tensors)
    for task in {name.partition(".")[0] for name in tensors if name.endswith("cls_head.3.bias")}:
        classes = order(len(tensors[f"{task}.param.cls_head.3.bias"]))
        for name in ("param.cls_head.3.bias", "param.cls_head.3.weight"):
            found[f"{task}.{name}"] = tensors[f"{task}.{name}"][classes]
        found[f"{task}.out.logits"] = tensors[f"{task}.out.logits"][:, classes]
        found[f"{task}.in.targets"] = places(classes)[tensors[f"{task}.in.targets"]]
    return found


def questions_in_order(tensors: Tensors) -> Tensors:
    """Questions with their images, answers and rankings; candidates keep their place, which decides ties."""
    counts = tensors["in.train_answers_per_question"]
    questions = order(len(counts))
    answers = torch.cat([torch.arange(int(counts.sum())).split(counts.tolist())[row] for row in questions])
    found = {}
    for name, value in tensors.items():
        if name.startswith("param.") or "candidate" in name:
            found[name] = value
        elif len(value) == len(answers) and "train_answer_" in name:
            found[name] = value[answers]
        else:
            found[name] = value[questions]
    return found


def grounding(folder: Path) -> None:
    """Boxes and texts in another order; cases keep theirs, since the official box may be that of the case before."""
    facts = json.loads((folder / "refcoco.json").read_text())
    rows = order(len(facts["rows"]))
    facts |= {"rows": [facts["rows"][row] for row in rows.tolist()], "pairs": fewer(facts["pairs"])}
    (folder / "refcoco.json").write_text(json.dumps(facts))
    change_tensors(
        folder / "refcoco.safetensors", lambda it: {name: value[rows] for name, value in it.items()}
    )
    change_tensors(
        folder / "weak_grounding.safetensors",
        lambda it: {
            name: value if name.startswith("case") else value[order(len(value))] for name, value in it.items()
        },
    )


def keep_models(source: Path, target: Path) -> None:
    """Store the models and images that tasks_more was recorded with beside it, since those of the folders change."""
    configs, images = {}, load_file(target / "tasks_more" / "images.safetensors")
    for name in ("xvlm", "cclm"):
        shutil.copy(source / name / "model.safetensors", target / "tasks_more" / f"{name}_model.safetensors")
        configs[name] = json.loads((source / name / "config.json").read_text())
        images[f"{name}.in.image"] = load_file(source / name / "image_batch.safetensors")["in.image"]
    (target / "tasks_more" / "config.json").write_text(json.dumps(configs))
    save(images, target / "tasks_more" / "images.safetensors")


def pairs_in_order(folder: Path) -> None:
    """Texts with their images and results in another order."""
    for name in ("nlvr_x2", "nlvr_doubled", "multilingual_heads", "cclm_v1_heads"):
        change_tensors(folder / f"{name}.safetensors", rows_of_tasks)
        change_json(folder / f"{name}.json", predictions_in_order)


def rows_of_tasks(tensors: Tensors) -> Tensors:
    return {
        name: value if {"in", "out"}.isdisjoint(name.split(".")) else value[order(len(value))]
        for name, value in tensors.items()
    }


def predictions_in_order(facts: dict[str, Any]) -> dict[str, Any]:
    found = {name: predictions_in_order(v) if isinstance(v, dict) else v for name, v in facts.items()}
    if "predicted" in facts:
        found["predicted"] = [facts["predicted"][row] for row in order(len(facts["predicted"])).tolist()]
    return found


# More tasks


def answers(folder: Path) -> None:
    for path in folder.glob("*_ranking*.safetensors"):
        change_tensors(path, ranked_questions)
        change_json(path.with_suffix(".json"), ranked_facts)
    for name in ("vqa_classification", "video_qa"):
        if (path := folder / f"{name}.safetensors").exists():
            change_tensors(path, dimensions_in_order)
    change_json(
        folder / "vqa_accuracy.json",
        lambda facts: facts | {"questions": [facts["questions"][-1], *facts["questions"][:-1]]},
    )


def captions(folder: Path) -> None:
    """Captions to learn in another order; some are not written."""
    change_json(
        folder / "captioning_causal.json",
        lambda facts: facts | {"captions": facts["captions"][::-1], "generation": fewer(facts["generation"])},
    )
    change_tensors(
        folder / "captioning_causal.safetensors",
        lambda tensors: {
            name: value.flip(0) if name.startswith(("in.", "out.", "domain.in.")) else value
            for name, value in tensors.items()
        },
    )


def ranked_questions(tensors: Tensors) -> Tensors:
    """Questions in another order; answers to rank keep their place, which decides ties."""
    asked = {name: value for name, value in tensors.items() if name.startswith(("in.", "out."))}
    candidates = {name: value for name, value in asked.items() if name.startswith("in.candidate_")}
    renamed = {name.replace("candidates_", "chosen_"): value for name, value in asked.items()}
    found = questions_in_order(renamed)
    return (
        tensors
        | {name.replace("chosen_", "candidates_"): value for name, value in found.items()}
        | candidates
    )


def ranked_facts(facts: dict[str, Any]) -> dict[str, Any]:
    count = len(facts["questions"])
    return {
        name: [value[row] for row in order(count)]
        if name == "questions" or name.endswith((".answers", ".tie_at_cut"))
        else value
        for name, value in facts.items()
    }


# The others


def processes(tensors: Tensors) -> Tensors:
    """Processes change places; the rows of each are in another order."""
    count, rows = tensors["in.image_feat"].shape[:2]
    ranks, row = order(count), order(rows)
    found = {}
    for name, value in tensors.items():
        kind, _, what = name.partition(".")
        if kind == "in":
            found[name] = value[ranks][:, row] if value.ndim else value
        else:
            place = places(ranks)[int(kind.removeprefix("rank"))]
            found[f"rank{place}.{what}"] = value[row] if what.endswith("_feat") else value
    return found


def last_axis(value: Tensor) -> Tensor:
    """Heads or channels in another order, one fewer if there are several."""
    kept = order(value.shape[-1])
    return value[..., kept[: max(1, len(kept) - 1)]]


def position_tables(folder: Path) -> None:
    facts = json.loads((folder / "tables.json").read_text())
    facts["cases"] = [case | {"heads": max(1, case["heads"] - 1)} for case in fewer(facts["cases"])]
    (folder / "tables.json").write_text(json.dumps(facts))
    names = {case["name"] for case in facts["cases"]}
    change_tensors(
        folder / "tables.safetensors",
        lambda tensors: {
            name: value if name.endswith("_index") else last_axis(value)
            for name, value in tensors.items()
            if name.partition(".")[0] in names
        },
    )
    change_tensors(
        folder / "absolute_pos_embed.safetensors",
        lambda tensors: {name: last_axis(value) for name, value in tensors.items()},
    )
    change_tensors(
        folder / "shared_table_checkpoint.safetensors",
        lambda tensors: {
            name: last_axis(value)
            for name, value in tensors.items()
            if not name.startswith(f"out.blocks.{len(tensors) - 2}.")
        },
    )
    change_tensors(folder / "model_resolution_change.safetensors", dimensions_in_order)


def inventories(folder: Path) -> None:
    index = json.loads((folder / "index.json").read_text())
    _, last = index.popitem()
    (folder.parent / last["file"]).unlink()
    (folder / "index.json").write_text(json.dumps(index))


def cases(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: fewer(value) if isinstance(value, list) else value for name, value in facts.items()}


def settings(facts: dict[str, Any]) -> dict[str, Any]:
    return {name: facts[name] for name in fewer(list(facts))}


# Files


def change_tensors(path: Path, change: Callable[[Tensors], Tensors]) -> None:
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    save(change(load_file(path)), path, metadata)


def save(tensors: Tensors, path: Path, metadata: dict[str, str] | None = None) -> None:
    save_file({name: value.contiguous() for name, value in tensors.items()}, path, metadata)


def change_json(path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def write(source: Path, target: Path) -> None:
    """Write another recording.

    Args:
        source: a recording.
        target: a directory that does not exist yet.
    """
    shutil.copytree(source, target)
    keep_models(source, target)
    pairs_in_order(target / "tasks_more")
    for name in ("xvlm", "cclm"):
        model(target / name)
    change_tensors(target / "cclm_init" / "batch.safetensors", batch_in_order)
    retrieval(target / "retrieval")
    tasks(target / "tasks")
    grounding(target / "tasks_more")
    answers(target / "tasks_more")
    captions(target / "tasks_more")
    change_tensors(target / "dist" / "itc_two_processes.safetensors", processes)
    position_tables(target / "relpos")
    inventories(target / "keys")
    change_json(target / "init" / "text_checkpoint_mappings.json", settings)
    for folder in ("regions", "schedule", "text", "video"):
        for path in (target / folder).glob("*.json"):
            change_json(path, cases)


if __name__ == "__main__":
    write(Path(__file__).parents[1] / "reference", Path(sys.argv[1]))
