from __future__ import annotations

from typing import Any

from x2kit.recipe.merging import EMPTY, apply
from x2kit.recipe.yaml_text import Place, node_of

RECIPE = {
    "description": "old",
    "model": {"text": {"class_path": "Bert", "init_args": {"pretrained": "dir", "tokenizer": {"size": 5}}}},
    "data": {"streams": {"regions": {"losses": {"bbox": {"weight": 3}}}}},
}


def with_keys(*overrides: tuple[str, Any]) -> Any:
    tree, faults = apply(node_of(RECIPE, Place("r.yaml", 1)), overrides)
    assert faults == []
    return tree.plain()


def test_a_setting_is_reached_without_init_args() -> None:
    expected = with_keys(("model.text.init_args.pretrained", "other"))
    assert with_keys(("model.text.pretrained", "other")) == expected
    assert expected["model"]["text"]["init_args"] == {"pretrained": "other", "tokenizer": {"size": 5}}


def test_a_setting_inside_a_setting_is_reached() -> None:
    text = with_keys(("model.text.tokenizer.size", "9"))["model"]["text"]
    assert text["init_args"] == {"pretrained": "dir", "tokenizer": {"size": 9}}


def test_a_name_switches_the_class_to_its_defaults() -> None:
    assert with_keys(("model.text", "XLMRoberta"))["model"]["text"] == {"class_path": "XLMRoberta"}


def test_the_order_of_class_and_setting_does_not_matter() -> None:
    switched = {"class_path": "XLMRoberta", "init_args": {"pretrained": "new"}}
    assert (
        with_keys(("model.text", "XLMRoberta"), ("model.text.pretrained", "new"))["model"]["text"] == switched
    )
    assert (
        with_keys(("model.text.pretrained", "new"), ("model.text", "XLMRoberta"))["model"]["text"] == switched
    )


def test_the_last_value_of_a_key_wins() -> None:
    assert with_keys(("training.steps", "1"), ("training.steps", "2"))["training"] == {"steps": 2}


def test_one_part_of_a_loss_is_set() -> None:
    losses = with_keys(("data.streams.regions.losses.bbox.start", "0.5"))["data"]["streams"]["regions"][
        "losses"
    ]
    assert losses == {"bbox": {"weight": 3, "start": 0.5}}


def test_null_removes_a_stream() -> None:
    assert with_keys(("data.streams.regions", "null"))["data"]["streams"] == {}


def test_strings_are_parsed_as_yaml_and_other_values_are_kept() -> None:
    data = with_keys(
        ("evaluation.languages", "[en, no]"), ("training.lr", 0.5), ("training.optimizer.betas", (0.9, 0.95))
    )
    assert data["evaluation"] == {"languages": ["en", "no"]}
    assert data["training"] == {"lr": 0.5, "optimizer": {"init_args": {"betas": [0.9, 0.95]}}}


def test_string_keys_take_any_text() -> None:
    assert with_keys(("description", "2024"))["description"] == "2024"
    assert with_keys(("description", "a: [b"))["description"] == "a: [b"
    assert with_keys(("description", "'quoted'"))["description"] == "quoted"


def test_the_place_is_the_command_line() -> None:
    tree, _ = apply(EMPTY, [("training.steps", "1")])
    assert str(dict(tree.walk())["training.steps"]) == "command line"
