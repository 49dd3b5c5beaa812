from __future__ import annotations

from typing import Any

from x2kit.recipe.merging import EMPTY, merge, with_default_classes
from x2kit.recipe.yaml_text import Place, node_of


def laid_over(*recipes: dict[str, Any]) -> Any:
    tree = EMPTY
    for number, recipe in enumerate(recipes):
        tree, faults = merge(tree, node_of(recipe, Place(f"{number}.yaml", 1)))
        assert faults == []
    return tree.plain()


def text(*choices: Any) -> Any:
    return laid_over(*({"model": {"text": choice}} for choice in choices))["model"]["text"]


BERT = {"class_path": "Bert", "init_args": {"pretrained": "bert-dir", "width": 64}}


def test_mappings_merge_and_everything_else_replaces() -> None:
    old = {"training": {"steps": 5, "warmup": 2}, "plugins": ["a.py"]}
    new = {"training": {"warmup": 3, "lr": 1.0}, "plugins": ["b.py"]}
    assert laid_over(old, new) == {"training": {"steps": 5, "warmup": 3, "lr": 1.0}, "plugins": ["b.py"]}


def test_another_class_starts_from_its_own_defaults() -> None:
    assert text(BERT, "XLMRoberta") == {"class_path": "XLMRoberta"}
    assert text(BERT, {"class_path": "XLMRoberta", "init_args": {"width": 32}}) == {
        "class_path": "XLMRoberta",
        "init_args": {"width": 32},
    }


def test_switching_back_does_not_restore_settings() -> None:
    assert text(BERT, "XLMRoberta", "Bert") == {"class_path": "Bert"}


def test_the_same_class_keeps_its_settings() -> None:
    assert text(BERT, "Bert") == BERT
    assert text(BERT, {"class_path": "Bert", "init_args": {"width": 32}}) == {
        "class_path": "Bert",
        "init_args": {"pretrained": "bert-dir", "width": 32},
    }


def test_settings_alone_go_to_the_chosen_class() -> None:
    assert text("Bert", {"init_args": {"width": 32}}) == {"class_path": "Bert", "init_args": {"width": 32}}


def test_settings_inside_settings_merge() -> None:
    assert text(
        {"class_path": "Bert", "init_args": {"tokenizer": {"a": 1, "b": 2}}},
        {"init_args": {"tokenizer": {"b": 3}}},
    ) == {"class_path": "Bert", "init_args": {"tokenizer": {"a": 1, "b": 3}}}


def test_a_component_inside_a_component_follows_the_same_rule() -> None:
    inner = {"class_path": "A", "init_args": {"x": 1}}
    assert text(
        {"class_path": "Pair", "init_args": {"first": inner}},
        {"init_args": {"first": {"class_path": "B"}}},
    ) == {"class_path": "Pair", "init_args": {"first": {"class_path": "B"}}}


def test_every_kind_of_component_follows_the_rule() -> None:
    old = {"class_path": "A", "init_args": {"x": 1}}
    for path in (
        ("model", "vision"),
        ("model", "fusion"),
        ("data", "streams", "any", "source"),
        ("evaluation", "source"),
        ("evaluation", "tasks", "any"),
    ):
        before, after = old, "B"
        for name in reversed(path):
            before, after = {name: before}, {name: after}  # type: ignore[assignment]
        result = laid_over(before, after)  # type: ignore[arg-type]
        for name in path:
            result = result[name]
        assert result == {"class_path": "B"}, path


def test_the_start_of_a_loss_keeps_a_weight_that_was_given_as_a_number() -> None:
    def losses(value: Any) -> Any:
        return {"data": {"streams": {"s": {"losses": {"bbox": value}}}}}

    assert laid_over(losses(2), losses({"start": 0.3})) == losses({"weight": 2, "start": 0.3})
    assert laid_over(losses({"start": 0.3}), losses(2)) == losses({"start": 0.3, "weight": 2})


def test_null_removes_a_stream_a_task_and_a_loss() -> None:
    old = {
        "data": {"streams": {"a": {"batch_size": 1, "losses": {"itc": {"weight": 2}}}, "b": {}}},
        "evaluation": {"tasks": {"t": "T"}},
    }
    new = {
        "data": {"streams": {"a": {"losses": {"itc": None}}, "b": None}},
        "evaluation": {"tasks": {"t": None}},
    }
    assert laid_over(old, new) == {
        "data": {"streams": {"a": {"batch_size": 1, "losses": {}}}},
        "evaluation": {"tasks": {}},
    }


def test_null_is_a_value_for_other_keys() -> None:
    assert laid_over({"training": {"clip_norm": 1.0}}, {"training": {"clip_norm": None}}) == {
        "training": {"clip_norm": None}
    }


def test_null_for_an_entry_that_is_not_there_is_a_fault() -> None:
    old = node_of({"data": {"streams": {"parallel": {}}}}, Place("old.yaml", 1))
    new = node_of({"data": {"streams": {"paralel": None}}}, Place("new.yaml", 7))
    (fault,) = merge(merge(EMPTY, old)[0], new)[1]
    assert str(fault) == (
        "new.yaml:7: data.streams.paralel: null removes an entry, but there is no 'paralel'; nearest: parallel"
    )


def test_values_keep_the_place_where_they_were_written() -> None:
    old = node_of({"training": {"steps": 1, "lr": 2}}, Place("old.yaml", 1))
    new = node_of({"training": {"lr": 3}}, Place("new.yaml", 9))
    tree = merge(merge(EMPTY, old)[0], new)[0]
    assert {key: str(place) for key, place in tree.walk()} == {
        "training": "old.yaml:1",
        "training.steps": "old.yaml:1",
        "training.lr": "new.yaml:9",
    }


def test_kinds_of_older_recipes_become_tasks_with_the_settings_that_are_theirs() -> None:
    saved = {"images_from": None, "max_regions": 3, "min_clip_frames": 8, "pivot": None, "batch_size": 4}
    streams = laid_over(
        {
            "data": {
                "streams": {
                    "images": {"kind": "image-text", **saved, "task": None},
                    "regions": {"kind": "region-text", **saved},
                    "questions": {"kind": None, "task": "VQA", **saved},
                }
            }
        },
        {"data": {"streams": {"regions": {"images_from": "images"}}}},
    )["data"]["streams"]
    assert streams == {
        "images": {"task": {"class_path": "ImageText", "init_args": {}}, "batch_size": 4},
        "regions": {
            "task": {"class_path": "RegionText", "init_args": {"images_from": "images", "max_regions": 3}},
            "batch_size": 4,
        },
        "questions": {"task": {"class_path": "VQA"}, "batch_size": 4},
    }


def test_old_and_new_settings_of_a_stream_are_not_mixed() -> None:
    mixed = {"task": "RegionText", "max_regions": 3}
    assert laid_over({"data": {"streams": {"regions": mixed}}})["data"]["streams"]["regions"] == {
        "task": {"class_path": "RegionText"},
        "max_regions": 3,  # an unknown key
    }


def optimizer(*keys: dict[str, Any]) -> Any:
    return laid_over(*({"training": each} for each in keys))["training"]["optimizer"]


def test_keys_of_adamw_in_older_recipes_are_settings_of_the_optimizer() -> None:
    saved = {"update_rule": "torch", "betas": [0.9, 0.98], "eps": 1e-8}
    assert optimizer(saved) == {"class_path": "AdamW", "init_args": {"betas": [0.9, 0.98], "eps": 1e-8}}
    assert optimizer(saved, {"update_rule": "official"}) == {"class_path": "OfficialAdamW", "init_args": {}}
    assert optimizer({"update_rule": "official"}, {"eps": 1e-6}) == {
        "class_path": "OfficialAdamW",
        "init_args": {"eps": 1e-6},
    }
    assert optimizer(saved, {"optimizer": "Lion"}) == {"class_path": "Lion"}


def test_settings_alone_go_to_the_default_class() -> None:
    def named(tree: dict[str, Any]) -> Any:
        return with_default_classes(node_of(tree, Place("a.yaml", 1))).plain()

    keys = {"init_args": {"eps": 1e-6}}
    assert named({"training": {"optimizer": keys}}) == {
        "training": {"optimizer": {"class_path": "AdamW", "init_args": {"eps": 1e-6}}}
    }
    assert named({"model": {"text": keys}}) == {"model": {"text": keys}}, "it has no default"
