"""HuggingFaceText: many families of encoders through one component."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoModel, AutoModelForMaskedLM
from x2kit_fusion import CrossBert
from x2kit_timm import BeitV2
from x2kit_transformers import HuggingFaceText

from tests.plugins.x2kit_transformers.published_models import DEBERTA_V3, FAMILIES, HEADLESS, publish
from x2kit.errors import HeadError
from x2kit.model import X2VLM, build_model
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.plugin import SettingError, TextEncoder, WeightsError
from x2kit.plugin.toolkit.sentencepiece import SentencePiece
from x2kit.testing import checks
from x2kit.testing.subjects import TEXTS, TextSubject

SMALL: dict[str, Any] = {"layers": 2, "width": 16, "heads": 2, "mlp_ratio": 2.0, "max_length": 24}
TOKENIZER = SentencePiece(vocab_size=120)
DEBERTA = {key: value for key, value in DEBERTA_V3.items() if key != "type_vocab_size"}


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A directory for each family."""
    root = tmp_path_factory.mktemp("published")
    return {name: str(publish(name, root / name)) for name in FAMILIES}


def component(name: str, published: dict[str, str], **settings: Any) -> HuggingFaceText:
    own = {"summary": "mean", "prefix": "query: "} if name == "e5" else {}
    return HuggingFaceText(pretrained=published[name], **{**own, **settings})


def built(config: HuggingFaceText) -> TextEncoder:
    return config.build(config.build_tokenizer(TEXTS)).eval()


@pytest.mark.conformance(
    HuggingFaceText(family="roberta", **SMALL, tokenizer=TOKENIZER),
    HuggingFaceText(family="distilbert", **SMALL, tokenizer=TOKENIZER),
    HuggingFaceText(family="deberta-v2", config=DEBERTA, **SMALL, tokenizer=TOKENIZER),
    HuggingFaceText(family="modernbert", config={"local_attention": 4}, **SMALL, tokenizer=TOKENIZER),
)
def test_from_scratch_a_family_keeps_the_contract(conformance: Callable[[], None]) -> None:
    conformance()


@pytest.mark.parametrize("name", FAMILIES)
def test_a_published_model_keeps_the_contract(name: str, published: dict[str, str]) -> None:
    for check in checks("text"):
        if check.__name__ != "the_module_imports_no_torch":  # the same module as above
            check(component(name, published))


@pytest.mark.parametrize("name", FAMILIES)
def test_its_tokens_are_transformers_own(name: str, published: dict[str, str]) -> None:
    """In a padded batch too; positions, segments and windows are the model's business."""
    encoder = built(component(name, published, summary="cls"))
    model = AutoModel.from_pretrained(published[name], attn_implementation="eager").eval()
    ids, mask = TextSubject(component(name, published)).batch()
    for row, length in enumerate(mask.sum(1).tolist()):
        alone = ids[row : row + 1, :length]
        expected = model(input_ids=alone, attention_mask=torch.ones_like(alone)).last_hidden_state
        assert_close(encoder(ids, mask)[row, :length], expected[0], rtol=1e-4, atol=1e-4)
    assert encoder.fresh() == set()


@pytest.mark.parametrize(("name", "longest"), [("roberta", 24), ("e5", 24), ("deberta-v3", 24)])
def test_positions_that_begin_behind_the_padding_are_not_counted(
    name: str, longest: int, published: dict[str, str]
) -> None:
    assert component(name, published).describe()[:2] == (16, longest)


@pytest.mark.parametrize("name", FAMILIES)
def test_it_never_looks_into_a_mask(name: str, published: dict[str, str]) -> None:
    """A GPU would wait for what it finds there; tensors without memory have nothing to find."""
    encoder = built(component(name, published)).to("meta")
    ids, mask = TextSubject(component(name, published)).batch()
    assert encoder(ids.to("meta"), mask.to("meta")).shape == (*ids.shape, 16)


def test_e5_sees_its_prefix_and_people_do_not(published: dict[str, str]) -> None:
    plain, prefixed = (
        component("e5", published, prefix=prefix).build_tokenizer() for prefix in ("", "query: ")
    )
    (ids,) = prefixed.encode(["a dog"], 24)
    assert ids == plain.encode(["query: a dog"], 24)[0]
    assert prefixed.decode(ids) == "a dog"
    assert plain.decode(ids) == "query: a dog"


def test_the_mean_is_over_kept_tokens_alone(published: dict[str, str]) -> None:
    ids, mask = TextSubject(component("e5", published)).batch(extra=1)
    mean, first = (
        built(component("e5", published, summary=summary))(ids, mask) for summary in ("mean", "cls")
    )
    weights = mask[..., None].float()
    assert_close(mean[:, 0], (first * weights).sum(1) / weights.sum(1))
    assert_close(mean[:, 1:], first[:, 1:])


def with_head(config: HuggingFaceText, tie: bool, eps: float) -> X2VLM:
    model = ModelConfig(
        vision=BeitV2(image_size=32, patch_size=16, width=16, depth=1, heads=2),
        text=config,
        fusion=CrossBert(layers=1, heads=2),
        heads=HeadsConfig(mlm_pretrained=True, tie_mlm=tie, mlm_layer_norm_eps=eps),
    )
    return build_model(model, TEXTS).eval()


@pytest.mark.parametrize("tie", [True, False])
@pytest.mark.parametrize("name", sorted(set(FAMILIES) - HEADLESS))
def test_the_published_masked_language_head_answers_as_it_did(
    name: str, tie: bool, published: dict[str, str]
) -> None:
    eps = {"deberta-v3": 1e-7, "modernbert": 1e-5}.get(name, 1e-12)
    model = with_head(component(name, published), tie, eps)
    original = AutoModelForMaskedLM.from_pretrained(published[name]).eval()
    special = model.tokenizer.special
    ids = torch.tensor([[special.cls, 7, special.mask, special.sep]])
    mask = torch.ones_like(ids, dtype=torch.bool)
    found = model.mlm_head(model.encode_texts(ids, mask), torch.tensor([[2]]))
    logits = original(input_ids=ids, attention_mask=mask).logits
    assert_close(found[:, 0], logits[:, 2], rtol=1e-4, atol=1e-4)


def test_the_head_of_deberta_v3_is_found_as_microsoft_published_it(
    published: dict[str, str], tmp_path: Path
) -> None:
    """Its generator's head under lm_predictions, its discriminator's beside it, and more rows than ids."""
    directory = shutil.copytree(published["deberta-v3"], tmp_path / "deberta")
    tensors = load_file(directory / "model.safetensors")
    old, new = "cls.predictions.", "lm_predictions.lm_head."
    names = {f"{old}bias": f"{new}bias"} | {
        f"{old}transform.{part}.{leaf}": f"{new}{part}.{leaf}"
        for part in ("dense", "LayerNorm")
        for leaf in ("weight", "bias")
    }
    words = "deberta.embeddings.word_embeddings.weight"
    renamed = {names.get(name, name): value for name, value in tensors.items()}
    renamed[words] = torch.cat([renamed[words], torch.zeros(5, 16)])
    renamed[f"{new}bias"] = torch.cat([renamed[f"{new}bias"], torch.zeros(5)])
    renamed["mask_predictions.dense.weight"] = torch.zeros(16, 16)
    save_file(renamed, directory / "model.safetensors", {"format": "pt"})
    config = json.loads((directory / "config.json").read_text())
    (directory / "config.json").write_text(json.dumps(config | {"vocab_size": config["vocab_size"] + 5}))
    for tie in (True, False):
        before = with_head(component("deberta-v3", published), tie, 1e-7)
        after = with_head(HuggingFaceText(pretrained=str(directory)), tie, 1e-7)
        assert len(after.mlm_head.decoder.weight) == len(before.mlm_head.decoder.weight) + 5 * tie
        states = torch.randn(1, 1, 16)
        ids = before.tokenizer.vocab_size
        place = torch.zeros(1, 1, dtype=torch.int64)
        assert_close(after.mlm_head(states, place)[..., :ids], before.mlm_head(states, place))


def test_an_encoder_that_was_published_alone_has_no_head(published: dict[str, str]) -> None:
    with pytest.raises(WeightsError, match="has no masked-language head"):
        component("e5", published).pretrained_mlm_head()


@pytest.mark.parametrize("name", FAMILIES)
def test_it_may_take_the_first_layers_of_a_published_model(
    name: str, published: dict[str, str], tmp_path: Path
) -> None:
    config = component(name, published, layers=2)
    whole, short = built(component(name, published)), built(config)
    kept = short.state_dict()
    assert 0 < len(kept) < len(whole.state_dict())
    for key, value in kept.items():
        assert_close(value, whole.state_dict()[key])
    short.save_assets(tmp_path)
    again = config.build(short.tokenizer, tmp_path).eval()
    again.load_state_dict(kept)
    ids, mask = TextSubject(config).batch()
    assert_close(again(ids, mask), short(ids, mask))


def test_layers_that_are_not_alike_cannot_change_places(published: dict[str, str]) -> None:
    """The first layer of ModernBERT has no norm before its attention."""
    with pytest.raises(
        SettingError, match="pretrained_layers: the layers of ModernBertModel have different parameters"
    ):
        built(component("modernbert", published, pretrained_layers=(1, 2)))


def test_windows_stay_with_their_layers(published: dict[str, str]) -> None:
    encoder = built(component("modernbert", published, pretrained_layers=(0, 2)))
    assert encoder.model.config.layer_types == ["full_attention", "sliding_attention"]


def test_keys_of_the_configuration_and_dropout_can_be_set(published: dict[str, str]) -> None:
    encoder = built(component("distilbert", published, dropout=0.25, config={"attention_dropout": 0.5}))
    assert (encoder.model.config.dropout, encoder.model.config.attention_dropout) == (0.25, 0.5)


def test_from_scratch_sizes_are_said_in_the_familys_words() -> None:
    config = built(HuggingFaceText(family="distilbert", **SMALL, tokenizer=TOKENIZER)).model.config
    assert (config.dim, config.n_layers, config.n_heads, config.hidden_dim) == (16, 2, 2, 32)
    encoder = built(HuggingFaceText(family="roberta", **SMALL, tokenizer=TOKENIZER))
    assert encoder.model.config.max_position_embeddings == 26
    assert encoder.tokenizer.special.pad == encoder.token_embedding().padding_idx


def test_relative_positions_begin_as_wide_as_they_are_in_the_family() -> None:
    model = built(HuggingFaceText(family="deberta-v2", config=DEBERTA, **SMALL, tokenizer=TOKENIZER)).model
    relative, words = model.encoder.rel_embeddings.weight, model.get_input_embeddings().weight
    assert 0.5 < (relative.std() / words.std()).item() < 2


def test_attention_is_torchs_own_where_the_family_has_it(published: dict[str, str]) -> None:
    found = {name: built(component(name, published)).model.config._attn_implementation for name in FAMILIES}
    assert found == {**dict.fromkeys(FAMILIES, "sdpa"), "deberta-v3": "eager"}


def test_a_family_that_reads_whole_texts_only_says_so(published: dict[str, str]) -> None:
    encoder = built(component("distilbert", published))
    ids = torch.tensor([[2, 7, 3]])
    with pytest.raises(HeadError, match="reads whole texts only"):
        encoder.read_partly(ids, torch.ones(1, 3, 3, dtype=torch.bool), torch.arange(3)[None])


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "pretrained: required: .* or set family"),
        (
            {"family": "bert", "config": {"hidden_size": 8}},
            "config: hidden_size is set by the setting width",
        ),
        (
            {"family": "bert", "prefix": "query: "},
            "prefix: needs a published tokenizer",
        ),
        ({"family": "bert", "heads": 3}, "heads: 3 heads do not divide the width 128"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_built(
    settings: dict[str, Any], said: str
) -> None:
    with pytest.raises(SettingError, match=said):
        HuggingFaceText(**settings).describe()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            {"family": "debarta-v2"},
            'family: transformers has no model_type "debarta-v2"; nearest: "deberta-v2"',
        ),
        (
            {"family": "deberta-v2", "config": {"position_bucket": 4}},
            'config: .* have no key "position_bucket"',
        ),
        (
            {"family": "modernbert", "config": {"local_atention": 4}},
            'config: models of type "modernbert" have no key "local_atention"; nearest: "local_attention"',
        ),
        ({"family": "resnet"}, 'family: "resnet" has none of'),
    ],
)
def test_what_transformers_does_not_know_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingError, match=said):
        built(HuggingFaceText(**{**SMALL, **settings}, tokenizer=TOKENIZER))


def test_weights_of_another_family_are_refused(published: dict[str, str]) -> None:
    with pytest.raises(SettingError, match='is of type "distilbert", HuggingFaceText needs "bert"'):
        component("distilbert", published, family="bert").describe()


def test_weights_of_another_family_are_not_gone_on_from() -> None:
    one, other = HuggingFaceText(family="bert"), HuggingFaceText(family="deberta-v2")
    assert one.reads_weights_of(HuggingFaceText(family="bert"))
    assert not one.reads_weights_of(other)


@pytest.mark.parametrize("family", ["ibert", "luke", "markuplm"])
def test_the_longest_text_fits_the_positions_of_the_family(family: str) -> None:
    encoder = built(HuggingFaceText(family=family, **SMALL, tokenizer=TOKENIZER))
    ids = torch.full((1, encoder.max_length), 7)
    assert encoder(ids, torch.ones_like(ids, dtype=torch.bool)).shape[:2] == ids.shape
