"""Every encoder of x2kit is exported to both formats, or says why it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.export.conftest import config_of, tiny
from tests.plugins.debug_settings import FUSION, TEXT, VISION
from tests.plugins.test_matrix import DIAGONAL, Names, shown
from x2kit.errors import X2KitError
from x2kit.export import torch_export
from x2kit.export.folder import export_model
from x2kit.model.build import build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.plugin import FusionEncoder, FusionEncoderConfig


@pytest.mark.slow
@pytest.mark.parametrize("names", DIAGONAL, ids=shown)
def test_it_is_exported_as_onnx(names: Names, tmp_path: Path) -> None:
    manifest = export_model(tiny(tmp_path / "weights", config_of(*names)), "onnx", tmp_path / "out")
    assert list(manifest["programs"]) == ["image", "text", "pair"]
    for program in manifest["programs"].values():
        assert max(program["largest_difference"].values()) < 1e-5


def test_all_can_be_exported() -> None:
    for table in (VISION, TEXT, FUSION):
        assert {name: setting.no_export() for name, setting in table.items() if setting.no_export()} == {}


@pytest.mark.parametrize(("family", "reason"), [("mobilebert", "neighbours"), ("big_bird", "704 tokens")])
def test_families_that_cannot_say_so(family: str, reason: str) -> None:
    from x2kit_transformers import HuggingFaceText

    said = HuggingFaceText(family=family).no_export()
    assert said is not None
    assert reason in said


def test_a_published_model_of_such_a_family_says_so(tmp_path: Path) -> None:
    from x2kit_transformers import HuggingFaceText

    (tmp_path / "config.json").write_text('{"model_type": "big_bird"}')
    assert HuggingFaceText(pretrained=str(tmp_path)).no_export() is not None
    assert HuggingFaceText(pretrained=str(tmp_path / "absent")).no_export() is None


class Declared(type(FUSION["CrossBert"])):  # type: ignore[misc]
    """Says that it cannot be exported."""

    def no_export(self) -> str:
        return "it counts its words"


class Branching(type(FUSION["CrossBert"])):  # type: ignore[misc]
    """Branches on a value."""

    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> FusionEncoder:
        encoder: FusionEncoder = super().build(text_width, context_width, assets)
        forward = encoder.forward

        def branching(text: Tensor, *rest: object, **named: object) -> Tensor:
            return forward(text if text.sum() > 0 else -text, *rest, **named)  # type: ignore[arg-type]

        encoder.forward = branching  # type: ignore[method-assign]
        return encoder


def built(fusion: FusionEncoderConfig) -> torch.nn.Module:
    config = ModelConfig(
        vision=VISION["TimmViT"], text=TEXT["Bert"], fusion=fusion, heads=HeadsConfig(embed_dim=8)
    )
    return build_model(config, ["a dog", "a cat", "the sun"]).eval()


@pytest.mark.parametrize(
    ("component", "said"),
    [
        (Declared, r"pair: model\.fusion \(Declared\) cannot be exported: it counts its words"),
        (Branching, r"pair: model\.fusion \(Branching\) cannot be exported: .*"),
    ],
)
def test_an_encoder_that_cannot_be_exported_is_named(component: type[FusionEncoderConfig], said: str) -> None:
    from x2kit.export.programs import programs_of
    from x2kit.export.samples import example, inputs_of

    model = built(component(layers=1, heads=2))  # type: ignore[call-arg]
    programs, _ = programs_of(model)  # type: ignore[arg-type]
    pair = programs[-1]
    with pytest.raises(X2KitError, match=said):
        torch_export.trace(pair, inputs_of(pair, model, example(model)), 20)  # type: ignore[arg-type]
