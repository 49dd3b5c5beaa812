from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel, Field, ValidationError

from x2kit.plugin import ImageSpec, Registry, SettingError, VisionEncoderConfig, VisionFacts
from x2kit.plugin.choice import context_of, dump_component, split_choice


class Stem(BaseModel, frozen=True, extra="forbid"):
    kernels: tuple[int, ...] = (3,)


class Conv(VisionEncoderConfig):
    width: int = Field(8, gt=0)
    stem: Stem = Stem()

    def describe(self) -> VisionFacts:
        return VisionFacts(ImageSpec(8), self.width, (2, 2))

    def build(self, assets: Path | None = None) -> Any:
        raise NotImplementedError


class Ensemble(Conv):
    """A component with a choice inside, and a check of its own."""

    inner: VisionEncoderConfig

    def model_post_init(self, context: Any) -> None:
        if self.inner.describe().width != self.width:
            raise SettingError("width", "{braces} differ from the inner encoder")


class Model(BaseModel):
    vision: VisionEncoderConfig


class Recipe(BaseModel):
    model: Model


@pytest.fixture
def context() -> dict[str, Any]:
    registry = Registry("acme", "acme-vit 0.2")
    registry.add(Conv)
    registry.add(Ensemble)
    return context_of(registry)


def read(vision: Any, context: dict[str, Any]) -> Recipe:
    return Recipe.model_validate({"model": {"vision": vision}}, context=context)


@pytest.mark.parametrize(
    "written",
    [
        "Conv",
        {"class_path": "Conv"},
        {"class_path": "Conv", "init_args": None},
        {"class_path": "Conv", "init_args": {}},
    ],
)
def test_a_name_alone_takes_the_defaults(written: Any, context: dict[str, Any]) -> None:
    assert read(written, context).model.vision == Conv()


def test_settings_are_read_with_their_types(context: dict[str, Any]) -> None:
    written = {"class_path": "Conv", "init_args": {"width": "16", "stem": {"kernels": [5, 3]}}}
    assert read(written, context).model.vision == Conv(width=16, stem=Stem(kernels=(5, 3)))


def test_what_is_written_out_reads_back_equal(context: dict[str, Any]) -> None:
    inner = {"class_path": "Conv", "init_args": {"width": 4}}
    recipe = read({"class_path": "Ensemble", "init_args": {"width": 4, "inner": inner}}, context)
    dumped = recipe.model_dump(mode="json")
    assert dumped["model"]["vision"]["class_path"] == "Ensemble"
    assert dumped["model"]["vision"]["init_args"]["inner"]["init_args"] == {
        "width": 4,
        "stem": {"kernels": [3]},
    }
    assert Recipe.model_validate(dumped, context=context) == recipe
    assert dump_component(recipe.model.vision) == dumped["model"]["vision"]


def test_every_fault_keeps_its_place_and_kind(context: dict[str, Any]) -> None:
    settings = {"width": 0, "stem": {"kernels": [3, "x"]}, "widht": 8}
    with pytest.raises(ValidationError) as caught:
        read({"class_path": "Conv", "init_args": settings}, context)
    place = ("model", "vision", "init_args")
    faults = {fault["loc"]: (fault["type"], fault["msg"], fault["input"]) for fault in caught.value.errors()}
    assert faults == {
        (*place, "width"): ("greater_than", "Input should be greater than 0", 0),
        (*place, "stem", "kernels", 1): (
            "int_parsing",
            "Input should be a valid integer, unable to parse string as an integer",
            "x",
        ),
        (*place, "widht"): ("extra_forbidden", "Extra inputs are not permitted", 8),
    }


def test_a_choice_inside_a_choice_keeps_the_whole_place(context: dict[str, Any]) -> None:
    inner = {"class_path": "Conv", "init_args": {"width": -1}}
    with pytest.raises(ValidationError) as caught:
        read({"class_path": "Ensemble", "init_args": {"inner": inner}}, context)
    (fault,) = caught.value.errors()
    assert fault["loc"] == ("model", "vision", "init_args", "inner", "init_args", "width")


def test_a_check_of_the_component_itself_is_shown_as_written(context: dict[str, Any]) -> None:
    inner = {"class_path": "Conv", "init_args": {"width": 4}}
    with pytest.raises(ValidationError) as caught:
        read({"class_path": "Ensemble", "init_args": {"inner": inner}}, context)
    (fault,) = caught.value.errors()
    assert fault["loc"] == ("model", "vision", "init_args")
    assert fault["msg"].endswith("width: {braces} differ from the inner encoder")


def test_an_unknown_name_carries_the_registry_s_message(context: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        read("Convv", context)
    (fault,) = caught.value.errors()
    assert (fault["loc"], fault["type"]) == (("model", "vision"), "unknown_component")
    assert fault["msg"].startswith('no vision component is called "Convv"; nearest: "Conv" (plugin acme)')


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (3, "expected a component: its name, or class_path with init_args"),
        ({"init_args": {}}, "expected a component: its name, or class_path with init_args"),
        (
            {"class_path": "Conv", "width": 8},
            "a component has two keys, class_path and init_args; found width",
        ),
        ({"class_path": "Conv", "init_args": [8]}, "init_args: expected a mapping, found list"),
    ],
)
def test_what_is_no_choice_is_refused_with_what_is_allowed(
    written: Any, message: str, context: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=message):
        split_choice(written)
    with pytest.raises(ValidationError, match=message):
        read(written, context)


def test_without_a_registry_the_way_to_give_one_is_named() -> None:
    with pytest.raises(ValidationError, match=r"need a registry; see x2kit\.plugin\.choice\.context_of"):
        Recipe.model_validate({"model": {"vision": "Conv"}})


@pytest.fixture
def brought(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("brought")
    vars(module).update(Conv=Conv, Stem=Stem)
    monkeypatch.setitem(sys.modules, "brought", module)


def test_an_import_path_needs_no_registry(brought: None) -> None:
    written = {"class_path": "brought.Conv", "init_args": {"width": 4}}
    assert Model.model_validate({"vision": written}).vision == Conv(width=4)


@pytest.mark.parametrize("path", ["brought.Convv", "brought.Stem", "no_such_module.Conv"])
def test_an_import_path_that_leads_to_no_component_is_refused(path: str, brought: None) -> None:
    with pytest.raises(ValidationError, match=path.replace(".", r"\.")):
        Model.model_validate({"vision": path})


def test_a_component_that_was_made_in_code_is_taken_as_it_is() -> None:
    made = Conv(width=4)
    assert Model(vision=made).vision is made


def test_a_surplus_key_that_is_no_text_is_named_too() -> None:
    with pytest.raises(ValueError, match="found 7, width"):
        split_choice({"class_path": "Bert", 7: 0, "width": 0})
