from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import pytest

from x2kit.publishing.redaction import HOST, REMOVED, Redactor, changed_keys


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/home/anna/coco/train.jsonl", "coco/train.jsonl"),
        ("/Users/anna/train.jsonl", "train.jsonl"),
        ("/mnt/data/coco/shards-{000..100}.tar", "coco/shards-{000..100}.tar"),
        ("~/weights/beit.pth", "weights/beit.pth"),
        ("file:///home/anna/coco/train.jsonl", "coco/train.jsonl"),
        ("C:\\Users\\anna\\coco\\train.jsonl", "coco/train.jsonl"),
        ("https://anna:pw@data.example.org/coco.tar?token=1", "https://data.example.org/coco.tar"),
        ("http://10.0.0.7:8000/coco/train.tar", "coco/train.tar"),
        ("http://fileserver/coco/train.tar", "coco/train.tar"),
        ("trained on /home/anna/coco/train.jsonl, twice", "trained on coco/train.jsonl, twice"),
    ],
)
def test_what_names_a_machine_or_a_person_is_shortened(before: str, after: str) -> None:
    assert Redactor().text(before) == after


@pytest.mark.parametrize(
    "text",
    [
        "coco/train.jsonl",
        "hf://datasets/org/name/train.parquet",
        "s3://bucket/coco/train-*.tar",
        "https://data.example.org/coco.tar",
        "a cat and/or a dog, 3/4 of them",
        "query: ",
        "vit_base_patch16_224.augreg_in21k",
        "/",
        "// a comment",
    ],
)
def test_names_of_data_and_other_texts_stay(text: str) -> None:
    assert Redactor().text(text) == text


def test_different_paths_keep_different_names() -> None:
    paths = ["/data/coco/train.jsonl", "/other/coco/train.jsonl"]
    assert Redactor(paths).value(paths) == ["data/coco/train.jsonl", "other/coco/train.jsonl"]


def test_user_and_host_are_not_part_of_a_shortened_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "workstation.lab.example.org")
    redactor = Redactor()
    assert redactor.text(f"/scratch/workstation/{Path.home().name}/train.jsonl") == "scratch/train.jsonl"
    assert redactor.text("run on workstation") == f"run on {HOST}"


@pytest.mark.parametrize(
    "content",
    [
        {"token": "abc"},
        {"api_key": "abc"},
        {"password": "abc"},
        {"note": "with hf_abcdefghijklmnopqrstuvwx"},
        {"note": "ghp_abcdefghijklmnopqrstuvwxyz0123456789"},
    ],
)
def test_secrets_are_removed_and_counted(content: dict[str, str]) -> None:
    redactor = Redactor(content)
    assert REMOVED in str(redactor.value(content))
    assert redactor.secrets == 1
    assert not redactor.replaced


def test_settings_whose_names_resemble_secrets_stay() -> None:
    content: dict[str, Any] = {"end_token": True, "max_tokens": 40, "tokenizer": {"vocab_size": 8000}}
    assert Redactor(content).value(content) == content


def test_the_keys_of_shortened_texts_are_listed() -> None:
    content = {"data": {"files": "/home/anna/a/b.jsonl", "size": 3}, "name": "x"}
    assert list(changed_keys(content, Redactor(content).value(content))) == ["data.files"]
