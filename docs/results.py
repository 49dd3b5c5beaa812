"""Writes docs/results/quickstart.md from the runs that its commands made: `python docs/results.py [RUNS]`.

Every number of a table comes from the evaluation.json and metrics.jsonl of a run directory. The text quotes those of
the recipe before, which earlier versions of this page had.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from x2kit.io.run_directory import read_metrics

PAGE = Path(__file__).parent / "results" / "quickstart.md"
TRAIN = "x2kit train quickstart/"
FIVE = f"{TRAIN}five-minutes"
RUNS = {
    "quickstart": ("the quickstart, seed 42", f"{TRAIN}multilingual"),
    "seed-43": ("seed 43", f"{TRAIN}multilingual --training.seed 43"),
    "seed-44": ("seed 44", f"{TRAIN}multilingual --training.seed 44"),
    "five": ("five minutes, seed 42", FIVE),
    "five-43": ("five minutes, seed 43", f"{FIVE} --training.seed 43"),
    "five-44": ("five minutes, seed 44", f"{FIVE} --training.seed 44"),
    "english": ("English alone", f"{TRAIN}english"),
    "languages": (
        "from it, 13 languages by distillation",
        "x2kit train adapt/new-languages --model.init_from runs/english",
    ),
    "five-xlmr": ("five minutes, XLM-R-style text encoder", f"{FIVE} --config overlays/xlmr"),
    "five-without-parallel-text": (
        "five minutes, without parallel text",
        f"{FIVE} --data.streams.translations null",
    ),
    "five-without-regions": ("five minutes, without regions", f"{FIVE} --data.streams.regions null"),
}
FULL = ("quickstart", "seed-43", "seed-44", "five", "english", "languages")
"""Runs whose languages are listed."""
STEPS = (
    "x2kit train quickstart/english --training.steps 366 --training.precision fp32 "
    "--data.streams.scenes.losses '{itm: 0, mlm: 0}' --data.streams.regions.losses '{bbox: 0, giou: 0}'"
)
LARGE = "--training.optimizer Muon --training.lr 5.0e-3 --data.streams.scenes.batch_size 128"
SMALL = "--data.streams.scenes.batch_size 64 --training.optimizer"
CONVOLVED = " ".join(
    f"--data.streams.{name}.transform.random_convolution 0.5" for name in ("scenes", "regions")
)
CHANGES = {
    "change-adamw": ("AdamW, 64 scenes, rate 2.5e-3, as before", f"{SMALL} AdamW --training.lr 2.5e-3"),
    "change-muon": ("Muon, 64 scenes, rate 2.5e-3", f"{SMALL} Muon --training.lr 2.5e-3"),
    "change-rate": ("Muon, 64 scenes, rate 5e-3", f"{SMALL} Muon --training.lr 5.0e-3"),
    "change-large": ("Muon, 128 scenes, rate 5e-3, as now", LARGE),
    "change-colours": (
        "and random convolutions of one pixel, which change colours alone",
        f"{LARGE} {CONVOLVED} --data.streams.scenes.transform.convolution_sides '[1]' "
        "--data.streams.regions.transform.convolution_sides '[1]'",
    ),
}
"""One change each, without the fusion encoder, so that a run takes a minute or two."""
UNSEEN = "evaluation-unseen-style.json"
STYLE = "--evaluation.source.styles '[twitter]'"


def main(runs: Path) -> int:
    """Write the page from the runs that exist; say which are missing."""
    found = {name: runs / name for name in RUNS if (runs / name / "evaluation.json").is_file()}
    lines = [
        HEAD,
        "| run | steps | minutes | threads | English | zero-shot mean | worst "
        "| grounding English | grounding zero-shot |",
    ]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    lines += [
        row(RUNS[name][0], json.loads((run / "evaluation.json").read_text()), run)
        for name, run in found.items()
    ]
    unseen = runs / "quickstart" / UNSEEN
    if unseen.is_file():
        lines.append(row("the quickstart on the unseen drawing style", json.loads(unseen.read_text()), None))
    lines += changes(runs)
    lines += [
        "",
        RERANKED,
        "",
        "| run | English | English re-ranked | zero-shot | zero-shot re-ranked | languages that lose |",
    ]
    lines.append("|---|---|---|---|---|---|")
    lines += [
        reranked(RUNS[name][0], json.loads((run / "evaluation.json").read_text()))
        for name, run in found.items()
    ]
    lines += ["", "## By language", "", *languages(found), "", "## Commands", "", "```bash"]
    for name in found:
        lines += [f"{RUNS[name][1]} --run-dir runs/{name}", f"x2kit evaluate runs/{name}"]
    lines += (
        [f"x2kit evaluate runs/quickstart {STYLE} --output runs/quickstart/{UNSEEN}"]
        if unseen.is_file()
        else []
    )
    for name, (_, keys) in CHANGES.items():
        if (runs / name / "evaluation.json").is_file():
            lines.append(f"{STEPS} {keys} --run-dir runs/{name}")
            lines.append(f"x2kit evaluate runs/{name}")
            lines.append(f"x2kit evaluate runs/{name} {STYLE} --output runs/{name}/{UNSEEN}")
    lines += ["python docs/results.py", "```", ""]
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text("\n".join(lines), encoding="utf-8")
    missing = [name for name in RUNS if name not in found]
    if missing:
        sys.stdout.write(f"no evaluation.json yet: {', '.join(missing)}\n")
    return 0


HEAD = """# What the quickstart reaches

500 test scenes of compositions that were in no image and no text of the training; English captions stood beside
images, no other language did. R@1 by similarity, the mean of both directions; chance is 0.002. Boxes: share of
regions found by their name with IoU above 0.5. Minutes are the training time by `metrics.jsonl`, pauses left out. Runs
of two threads were alone on two cores of an AMD EPYC, limited to AVX2 (`ONEDNN_MAX_CPU_ISA=AVX2`,
`ATEN_CPU_CAPABILITY=avx2`), for which `precision: auto` chooses fp32. Those of one thread, with AVX512 and without
bf16, shared the cores with other work, so their minutes say little.

Before, with AdamW, 64 scenes and 64 parallel texts a step, 1,100 steps took 9.9 minutes, and three seeds reached 0.917
to 0.945 in English, 0.749 to 0.783 zero-shot, and 0.122 on the unseen drawing style in English.
"""
CHANGED = """## What each change brought

Contrastive losses alone, 366 steps, on the drawing style of the training and on another one, which no run has seen.
Random convolutions are off in the quickstart: they cost more of the style that is trained than they bring of the other
one. The runs of 64 scenes with Muon iterated in bfloat16, as torch does; the others iterate in float32.
"""
RERANKED = """## With the matching head

Candidates of the similarity re-ranked as [the evaluation page](../concepts/evaluation.md) says."""


def changes(runs: Path) -> list[str]:
    """The table of single changes."""
    lines = ["", CHANGED, "| run | English | unseen drawing style |", "|---|---|---|"]
    for name, (label, _) in CHANGES.items():
        files = [runs / name / file for file in ("evaluation.json", UNSEEN)]
        if all(file.is_file() for file in files):
            numbers = [mean(split(json.loads(file.read_text()))[0].values()) for file in files]
            lines.append(f"| {label} | {' | '.join(map(shown, numbers))} |")
    return lines


def row(label: str, result: dict[str, Any], run: Path | None) -> str:
    """One line of the main table."""
    english, others = split(result)
    box = {code: row["iou50"] for code, row in result.get("grounding", {}).items()}
    elsewhere = [value for code, value in box.items() if code not in english]
    metrics = read_metrics(run) if run is not None else []
    timed = metrics and all("seconds" in line for line in metrics)  # runs of earlier versions did not log it
    minutes = f"{sum(line['seconds'] for line in metrics) / 60:.1f}" if timed else ""
    steps = str(metrics[-1]["step"]) if metrics else ""
    threads = str(json.loads((run / "versions.json").read_text())["threads"]) if run is not None else ""
    numbers = [mean(english.values()), mean(others.values()), min(others.values(), default=None)]
    numbers += [mean(box[code] for code in english if code in box), mean(elsewhere)]
    return (
        f"| {label} | {steps} | {minutes} | {threads} | "
        + " | ".join(shown(number) for number in numbers)
        + " |"
    )


def reranked(label: str, result: dict[str, Any]) -> str:
    """Similarity against re-ranked R@1, and the languages in which re-ranking loses."""
    english, others = split(result)
    after = {
        code: both(value["reranked"]) for code, value in result["languages"].items() if "reranked" in value
    }
    before = english | others
    losers = [code for code in after if after[code] < before[code]]
    numbers = [mean(english.values()), mean(after[c] for c in english if c in after)]
    numbers += [mean(others.values()), mean(after[c] for c in others if c in after)]
    return f"| {label} | " + " | ".join(map(shown, numbers)) + f" | {', '.join(losers) or 'none'} |"


def languages(found: dict[str, Path]) -> list[str]:
    """R@1 of every language in some of the runs."""
    full = {name: run for name, run in found.items() if name in FULL}
    results = {
        name: json.loads((run / "evaluation.json").read_text())["languages"] for name, run in full.items()
    }
    codes = sorted(
        {code for result in results.values() for code in result}, key=lambda code: (code != "en", code)
    )
    lines = [
        "| language | " + " | ".join(RUNS[name][0] for name in full) + " |",
        "|---" * (len(full) + 1) + "|",
    ]
    for code in codes:
        lines.append(
            f"| {code} | " + " | ".join(shown(both(results[name].get(code))) for name in full) + " |"
        )
    return lines


def split(result: dict[str, Any]) -> tuple[dict[str, float], dict[str, float]]:
    """R@1 by language: of English, which stood beside images in this run or the one before, and of the others."""
    values = result["languages"]
    beside = {code: both(value) for code, value in values.items() if code == "en"}
    return beside, {code: both(value) for code, value in values.items() if code not in beside}


def both(value: dict[str, Any] | None) -> Any:
    """The mean R@1 of both directions."""
    return None if value is None else (value["image_to_text"]["r1"] + value["text_to_image"]["r1"]) / 2


def mean(values: Any) -> float | None:
    """The mean, or None of nothing."""
    kept = list(values)
    return sum(kept) / len(kept) if kept else None


def shown(value: float | None) -> str:
    """Three decimals, or a dash."""
    return "–" if value is None else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs")))
