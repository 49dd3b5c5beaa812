"""A model that starts from the weights of another: what is kept, resized, replaced, new."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from pydantic import Field

from tests.model import tiny
from x2kit.errors import WeightsError
from x2kit.model import X2VLM, load, save_weights
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.model.initialisation import build_started
from x2kit.plugin import Tokenizer
from x2kit.training.config import TrainingConfig
from x2kit.training.optim.optimizer import parameter_groups

from .conftest import RECIPE


class OtherText(tiny.TinyText):
    """Another text encoder with words of its own."""

    size: int = Field(30, description="number of words")

    def build_tokenizer(self, texts: Iterable[str] | None = None, assets: Path | None = None) -> Tokenizer:
        return tiny.TinyTokenizer([f"word{number}" for number in range(self.size)])


def settings(weights: Path, **changed: object) -> ModelConfig:
    return ModelConfig(
        **{
            "vision": tiny.TinyVision(),
            "text": tiny.TinyText(),
            "fusion": tiny.TinyFusion(),
            "heads": HeadsConfig(embed_dim=6),
            "init_from": str(weights),
            **changed,
        }
    )


def begun(config: ModelConfig) -> tuple[X2VLM, dict[str, str]]:
    torch.manual_seed(99)
    model, found = build_started(config)
    assert found is not None
    return model, {name: origin for name, (origin, _) in found.origins.items()}


def test_without_init_from_there_is_no_report(weights: Path) -> None:
    assert build_started(settings(weights, init_from=None))[1] is None


def test_init_from_the_same_architecture_keeps_every_tensor(weights: Path, model: X2VLM) -> None:
    started, origins = begun(settings(weights))
    assert set(origins.values()) == {"kept"}
    own = started.state_dict()
    assert all(torch.equal(own[name], value) for name, value in model.state_dict().items())


def test_a_different_text_encoder_replaces_the_vocabulary_head(weights: Path, model: X2VLM) -> None:
    heads = HeadsConfig(embed_dim=6, tie_mlm=False)
    started, origins = begun(settings(weights, text=OtherText(), heads=heads))
    replaced = {name for name in origins if name.startswith(("text.", "mlm_head.decoder."))}
    assert {name for name, origin in origins.items() if origin == "fresh"} == replaced
    assert all(origin == "kept" for name, origin in origins.items() if name not in replaced)
    assert torch.equal(started.mlm_head.dense.weight, model.mlm_head.dense.weight)
    assert started.mlm_head.decoder.out_features == 35


def test_a_tied_vocabulary_head_follows_the_new_word_embedding(weights: Path) -> None:
    started, origins = begun(settings(weights, text=OtherText()))
    assert origins["mlm_head.decoder.weight"] == "pretrained"
    assert started.mlm_head.decoder.weight is started.text.token_embedding().weight  # type: ignore[union-attr]


def test_a_kept_text_encoder_keeps_its_tokenizer(model: X2VLM, tmp_path: Path) -> None:
    model.text.tokenizer.words.reverse()  # type: ignore[attr-defined]
    save_weights(model, RECIPE, tmp_path / "reversed")
    started, _ = begun(settings(tmp_path / "reversed"))
    assert started.tokenizer.words == list(reversed(tiny.WORDS))  # type: ignore[attr-defined]


def test_parts_can_be_excluded(weights: Path, model: X2VLM) -> None:
    _, origins = begun(settings(weights, init_except=("fusion", "heads")))
    fresh = {name.partition(".")[0] for name, origin in origins.items() if origin == "fresh"}
    kept = {name.partition(".")[0] for name, origin in origins.items() if origin == "kept"}
    assert kept == {"vision", "text"}
    assert {"fusion", "itm_head", "temperature"} <= fresh


def test_heads_that_only_one_of_both_has_are_new_or_dropped(weights: Path) -> None:
    heads = HeadsConfig(embed_dim=6, built=("itc", "itm"), answers=3)
    model, found = build_started(settings(weights, heads=heads))
    assert found is not None
    assert found.origins["answer_head.0.weight"][0] == "fresh"
    assert set(found.dropped) == {"bbox_head", "mlm_head"}
    assert not hasattr(model, "bbox_head")


def test_only_new_tensors_get_the_higher_rate(weights: Path) -> None:
    model, origins = begun(settings(weights, text=OtherText(), heads=HeadsConfig(embed_dim=6, tie_mlm=False)))
    groups = parameter_groups(model, TrainingConfig(lr=1.0, lr_mult=2.0, steps=1))
    faster = {name for group in groups if group["peak"] == 2.0 for name in group["names"]}  # type: ignore[attr-defined]
    assert faster == {name for name, origin in origins.items() if origin == "fresh"}


def test_a_kept_encoder_of_another_size_is_refused_with_advice(weights: Path) -> None:
    with pytest.raises(WeightsError) as error:
        build_started(settings(weights, vision=tiny.TinyVision(width=12)))
    message = str(error.value)
    assert f"model.init_from: {weights} does not fit this recipe\n" in message
    assert "vision.patches.weight: shape [8, 3, 4, 4] in the source, [12, 3, 4, 4] here" in message
    assert "init_except: [fusion, vision]" in message


def test_the_table_counts_tensors_and_values(weights: Path) -> None:
    _, found = build_started(settings(weights, text=OtherText()))
    assert found is not None
    lines = list(found.lines())
    assert lines[0] == f"initial weights from {weights}"
    assert lines[1].split() == ["PART", "ORIGIN", "TENSORS", "VALUES", "REASON"]
    assert any(line.split()[:4] == ["vision", "kept", "4", "408"] for line in lines), lines
    assert any("OtherText replaces TinyText" in line for line in lines)


def test_a_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no such directory"):
        build_started(settings(tmp_path / "nothing"))


def test_an_initialised_model_loads_without_its_source(weights: Path, tmp_path: Path) -> None:
    started, _ = begun(settings(weights))
    recipe = RECIPE + "  init_from: /gone/by/then\n"
    save_weights(started, recipe, tmp_path / "saved")
    loaded = load(tmp_path / "saved")
    assert torch.equal(loaded.vision_proj.weight, started.vision_proj.weight)
