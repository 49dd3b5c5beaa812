"""Initial tensors of the answer decoder equal the official ones (tasks/vqa_generation)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from x2kit.interop.convert import from_official
from x2kit.interop.layout import MLM_OF_STACK, PLAIN_TEXT, Layout, official_names
from x2kit.model.initialisation import build_started
from x2kit.model.saving import read_model_config
from x2kit.plugin.loading.manager import load_plugins

from .conftest import REFERENCE
from .evidence import check, check_equal

FILE = "tasks/vqa_generation.json"
FACTS: dict[str, Any] = json.loads((REFERENCE / FILE).read_text())
DEPTHS = {FACTS["num_decoder_layers"]: FACTS} | {
    int(depth): mapping for depth, mapping in FACTS["other_decoder_depth"].items()
}


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorded model as a weights directory."""
    directory = tmp_path_factory.mktemp("pretrained") / "weights"
    heads = json.loads((REFERENCE / "xvlm" / "config.json").read_text())["text"]["num_heads"]
    from_official(REFERENCE / "xvlm" / "model.safetensors", directory, load_plugins().registry, heads=heads)
    return directory


@pytest.mark.parametrize("depth", DEPTHS)
def test_every_initial_tensor_equals_the_official_one(pretrained: Path, depth: int) -> None:
    config = read_model_config(pretrained / "recipe.yaml")
    heads = config.heads.model_copy(update={"built": (), "decoder_layers": depth})
    model, began = build_started(config.model_copy(update={"heads": heads, "init_from": str(pretrained)}))
    assert began is not None
    layout = Layout(PLAIN_TEXT, True, MLM_OF_STACK)
    names = official_names(model, layout, config.text.layers)  # type: ignore[attr-defined]
    state, found, fresh = model.state_dict(), {}, []
    for own, official in names.items():
        parts = state[own].chunk(len(official)) if len(official) > 1 else (state[own],)
        found |= dict(zip(official, parts, strict=True))
        fresh += official if began.origins[own][0] == "fresh" else ()
    twins = layout.twins(DEPTHS[depth]["target_to_source"])
    source = load_file(REFERENCE / "xvlm" / "model.safetensors")
    for target, origin in DEPTHS[depth]["target_to_source"].items():
        own = twins.get(target, target)
        check(FILE, f"target_to_source ({target.split('.')[0]})", found[own], source[origin])
    check_equal(FILE, "freshly_initialised", sorted(fresh), sorted(DEPTHS[depth]["freshly_initialised"]))
    assert {origin for own, (origin, _) in began.origins.items() if own.startswith("decoder.")} == {
        "copied",
        "fresh",
    }
