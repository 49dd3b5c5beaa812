"""Small files of the five IGLUE tasks, in the layouts and under the names of the published ones."""

from __future__ import annotations

from typing import Any

from . import retrieval_files as files
from .retrieval_files import pictures, write

ANSWERS = ("yes", "no", "red", "two dogs")
XGQA = ("en", "bn", "de", "id", "ko", "pt", "ru", "zh")
XVNLI = ("en", "ar", "es", "fr", "ru")
MARVL = ("id", "sw", "ta", "tr", "zh")
LABELS = ("contradiction", "entailment", "neutral")
ROWS = 4


def write_xgqa() -> None:
    pictures("data/images/gqa", [(n, f"{n}.jpg") for n in range(ROWS)])
    for split in ("train", "valid"):
        entries = [
            {"img_id": str(n), "question_id": f"0{n}", "sent": f"What is {n}?", "label": {ANSWERS[n]: 1.0}}
            for n in range(ROWS)
        ]
        write(f"data/finetune/gqa_{split}.json", entries)
    write("data/finetune/trainval_ans2label.json", {answer: n for n, answer in enumerate(ANSWERS)})
    for code in XGQA:
        asked = {
            f"0{n}": {"imageId": str(n), "question": f"What is {n} {code}?", "answer": ANSWERS[n]}
            for n in range(ROWS)
        }
        for split in ("test", "dev", "train_48"):
            write(f"data/finetune/xgqa/few_shot/{code}/{split}.json", asked)
        write(f"data/finetune/xgqa/annotations_machine-translate/{code}/test_gmt.json", asked)


def write_xvnli() -> None:
    pictures("data/images/flickr30k", [(n, f"{n}.jpg") for n in range(ROWS)])

    def lines(code: str) -> list[dict[str, Any]]:
        labels = (*LABELS, "-")  # the last line has no label of a majority
        return [
            {"Flikr30kID": str(n), "gold_label": label, "sentence2": f"A dog {n} {code}."}
            for n, label in enumerate(labels)
        ]

    for code in XVNLI:
        for split in ("test", "train_48"):
            write(f"data/iglue/XVNLI/annotations/{code}/{split}.jsonl", lines(code))
        write(f"data/iglue/XVNLI/annotations_machine-translate/{code}/test.jsonl", lines("en"))
    for split in ("train", "dev"):
        write(f"data/iglue/XVNLI/annotations/en/{split}.jsonl", lines("en"))


def write_marvl() -> None:
    def entries(code: str, folder: str) -> list[dict[str, Any]]:
        names = [[f"{folder}{n}-{side}.jpg" for side in range(2)] for n in range(ROWS)]
        return [
            {"sentence": f"Both show {n} {code}.", "label": bool(n % 2), "images": pair}
            for n, pair in enumerate(names)
        ]

    for split in ("train", "dev", "test"):
        write(f"data/finetune/nlvr_{split}.json", entries("en", f"{split}/"))
        pictures(f"data/images/nlvr2/{split}", [(n, f"{n}-{s}.jpg") for n in range(ROWS) for s in range(2)])
    for code in MARVL:
        folder = f"images/marvl_official/{code}/"
        pictures(f"data/{folder}", [(n, f"{n}-{side}.jpg") for n in range(ROWS) for side in range(2)])
        for suffix in ("", "_train10x2", "_gmt"):
            write(f"data/finetune/marvl/marvl-{code}{suffix}.json", entries(code, folder))


def write_retrieval() -> None:
    files.write_xflickrco()
    files.write_wit()
    for code in files.XFLICKR:
        lines = files.xflickr_lines("train", code, 1)
        write(f"iglue/datasets/xFlickrCO/annotations/{code}/train_100.jsonl", lines)
        translated = files.xflickr_lines("test", code, 1)
        write(f"iglue/datasets/xFlickrCO/annotations_machine-translate/{code}/test_gmt.jsonl", translated)
    for code in files.WIT:
        lines = [
            {**line, "caption_reference_description": f"english {n}"}
            for n, line in enumerate(files.wit_lines("test", code))
        ]
        write(f"data/wit/annotations_machine-translate-bs64/test_{code}_gmt.jsonl", lines)


def write_all() -> None:
    write_xgqa()
    write_xvnli()
    write_marvl()
    write_retrieval()
