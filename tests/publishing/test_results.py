from __future__ import annotations

import yaml
from huggingface_hub import parse_eval_result_entries

from x2kit.publishing.results import NO_BREAK, eval_results, shares, tables

from .conftest import result


def rows(title: str) -> dict[str, list[str]]:
    """Cells of a table by its first cell."""
    (table,) = [table for table in tables(result()) if table.title == title]
    cells = [
        line.strip("| ").split(" | ") for line in table.to_markdown().replace(NO_BREAK, " ").splitlines()
    ]
    return {first: others for first, *others in cells}


def test_a_row_has_shares_in_per_cent_chance_and_counts() -> None:
    table = rows("Retrieval")
    titles = ["chance R@1", "texts", "images"]
    assert table["language"][:6] == [f"{d} R@{k}" for d in ("i→t", "t→i") for k in (1, 5, 10)]
    assert table["language"][6:] == ["re-ranked i→t R@1", "re-ranked t→i R@1", *titles]
    assert table["en"] == [
        "70.0",
        "80.0",
        "90.0",
        "60.0",
        "70.0",
        "80.0",
        "75.0",
        "65.0",
        "0.2",
        "1,500",
        "500",
    ]


def test_zero_shot_languages_are_named_and_have_a_mean_of_their_own() -> None:
    table = rows("Retrieval")
    assert list(table)[2:] == ["en", "de (zero-shot)", "fr (zero-shot)", "**mean, zero-shot**"]
    assert table["**mean, zero-shot**"] == [
        "55.0",
        "65.0",
        "75.0",
        "45.0",
        "55.0",
        "65.0",
        "60.0",
        "50.0",
        "–",
        "–",
        "–",
    ]


def test_grounding_and_tasks_measured_row_by_row_have_tables() -> None:
    assert rows("Grounding")["de (zero-shot)"] == ["60.0", "3.7", "1,514", "480"]
    assert rows("questions")["language"] == ["accuracy", "rows", "chance"]
    assert rows("questions")["fr (zero-shot)"] == ["50.0", "20", "10.0"]


def test_a_result_of_an_unknown_structure_has_no_table() -> None:
    assert list(tables({"split": "test", "languages": {"en": {"errors": 3}}, "tasks": {}})) == []


def test_shares_are_measured_numbers_and_not_chance_or_counts() -> None:
    found = {(share.task, share.language, share.name): share.value for share in shares(result())}
    assert found["retrieval", "de", "reranked_text_to_image_r1"] == 0.45
    assert found["grounding", "en", "iou50"] == 0.9
    assert found["questions", "fr", "accuracy"] == 0.5
    assert not any(name in ("chance", "queries", "rows") for _, _, name in found)


def test_the_files_of_the_hub_are_read_by_its_library() -> None:
    written = eval_results(result(), {"questions": "org/questions"}, "0.1.0")
    entries = {entry.task_id: entry for entry in parse_eval_result_entries(yaml.safe_load(written))}
    assert entries["questions_en_accuracy"].dataset_id == "org/questions"
    assert entries["questions_en_accuracy"].value == 0.75
    own = entries["retrieval_en_image_to_text_r1"]
    assert own.dataset_id == "JsonLines"
    assert "fingerprint 65dcce4db669e5cf" in str(own.notes)
    assert "not a data set of the Hub" in str(own.notes)
