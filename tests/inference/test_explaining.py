"""Heat maps of texts and words: attention where the fusion encoder has it, occlusion where it has not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch import nn
from x2kit_fusion import CrossBert

from tests.evaluation.stubs import tiny_model
from tests.model import tiny
from x2kit.errors import DataError, HeadError, X2KitError
from x2kit.inference import Model
from x2kit.inference.explaining import squares, word_pieces
from x2kit.model import X2VLM, build_model
from x2kit.model.attention_map import text_maps
from x2kit.model.config import HeadsConfig, ModelConfig
from x2kit.model.x2vlm import image_context
from x2kit.plugin.tokenizers import SpecialIds, Tokenizer

from .conftest import picture

TEXT = "a red dog under the sun"


@pytest.fixture(scope="module")
def attentive() -> X2VLM:
    """A model with a fusion encoder of two layers with cross-attention."""
    torch.manual_seed(0)
    config = ModelConfig(
        vision=tiny.TinyVision(),
        text=tiny.TinyText(),
        fusion=CrossBert(layers=2, heads=2, dropout=0.0, init_std=0.5),
        heads=HeadsConfig(built=("itc", "itm"), embed_dim=6),
    )
    model = build_model(config)
    nn.init.normal_(model.itm_head[-1].weight)
    return model.eval()


def test_the_map_is_that_of_weakly_supervised_grounding(attentive: X2VLM) -> None:
    found = Model(attentive, "tiny").explain(picture(0), TEXT)
    with torch.no_grad():
        features = attentive.encode_images(attentive.read(picture(0)))
        ids, mask = attentive.tokenize(TEXT)
        context = image_context(features, torch.tensor([0]))
        expected = text_maps(attentive, attentive.encode_texts(ids, mask), mask, context, layer=1)
    assert_allclose(found.heat, (expected / expected.max()).view(4, 4), rtol=1e-5)
    assert found.method == "attention × gradient of the matching logit, layer 1 of 0 to 1; words: layer 0"


def test_every_word_has_a_map_of_its_own(attentive: X2VLM) -> None:
    found = Model(attentive, "tiny").explain(picture(0), TEXT)
    assert [each.word for each in found.words] == TEXT.split()
    for each in (found, *found.words):
        assert each.heat.shape == (4, 4)
        assert each.heat.dtype == np.float32
        assert (each.heat.min() >= 0, each.heat.max()) == (True, 1)
    assert not np.array_equal(found.words[1].heat, found.words[2].heat)


def test_without_attention_patches_are_hidden(user: Model) -> None:
    """Drop of the logit written out: each patch alone hidden, for a grid whose quarter is one patch."""
    found = user.explain(picture(0), TEXT)
    module = user.module
    with torch.no_grad():
        features = module.encode_images(module.read(picture(0)))
        ids, mask = module.tokenize(TEXT)
        text = module.encode_texts(ids, mask)
        rows = torch.tensor([0])

        def logit(seen: torch.Tensor) -> float:
            lead = features.patches[:, seen].mean(1)
            context = image_context(features, rows)._replace(mask=seen[None], lead=lead[:, None])
            return float(module.itm_logits(module.fuse(text, mask, context))[0, 1])

        everything = torch.ones(16, dtype=torch.bool)
        drops = [
            logit(everything) - logit(~nn.functional.one_hot(torch.tensor(n), 16).bool()) for n in range(16)
        ]
    expected = np.maximum(drops, 0)
    assert_allclose(found.heat, (expected / expected.max()).reshape(4, 4), atol=1e-4)
    assert "occlusion of 1 x 1 patches" in found.method
    assert len(found.words) == 6


def test_a_single_layer_of_attention_maps_words_by_occlusion() -> None:
    found = Model(tiny_model(), "stub").explain(picture(0), "red car")
    assert found.method.startswith("attention")
    assert found.method.endswith("words: occlusion with the word masked or not")


def test_the_box_lies_where_the_map_is_hot(attentive: X2VLM) -> None:
    found = Model(attentive, "tiny").explain(picture(0, (80, 40)), TEXT)
    x, y, width, height = found.box.relative
    row, column = divmod(int(found.heat.argmax()), 4)
    assert x <= (column + 0.5) / 4 <= x + width
    assert y <= (row + 0.5) / 4 <= y + height
    assert found.box.pixels == pytest.approx((80 * x, 40 * y, 80 * width, 40 * height))
    assert 0 < found.box.probability < 1


def test_maps_are_drawn_at_the_size_of_the_image(attentive: X2VLM, tmp_path: Path) -> None:
    file = tmp_path / "wide.png"
    picture(0, (80, 40)).save(file)
    found = Model(attentive, "tiny").explain(file, TEXT)
    assert found.draw().size == found.overlay().size == found.overlay(word="dog").size == (80, 40)
    assert found.overlay(word=2).tobytes() == found.overlay(word="dog").tobytes()
    assert found.overlay().tobytes() != found.overlay(word="dog").tobytes()
    assert "<img" in found._repr_html_()
    with pytest.raises(X2KitError, match="'cat'; the words of this text are: a, red, dog"):
        found.overlay(word="cat")


def test_a_video_is_explained_as_a_whole(filming: Model) -> None:
    found = filming.explain([picture(0), picture(1)], TEXT)
    assert found.heat.shape == (4, 4)
    assert found.draw().size == (30, 20)


def test_it_works_within_the_users_inference_mode(attentive: X2VLM) -> None:
    user = Model(attentive, "tiny")
    expected = user.explain(picture(0), TEXT).heat
    with torch.inference_mode():
        assert_allclose(user.explain(picture(0), TEXT).heat, expected)


def test_what_is_missing_is_named(user: Model) -> None:
    with pytest.raises(DataError, match=r"absent\.png"):
        user.explain("absent.png", TEXT)
    with pytest.raises(DataError, match="nothing remains of the text"):
        user.explain(picture(0), "!?")
    del user.module.itm_head
    with pytest.raises(HeadError, match="matching head"):
        user.explain(picture(0), TEXT)


@pytest.mark.parametrize(
    ("grid", "side"), [((2, 2), 1), ((8, 8), 2), ((7, 9), 1), ((24, 24), 6), ((1, 5), 1)]
)
def test_squares_hide_every_patch_and_never_all(grid: tuple[int, int], side: int) -> None:
    seen = squares(grid)
    assert (~seen).any(0).all()
    assert ((~seen).sum(1) == side * side).all()


class Pieces(Tokenizer):
    """Ids are positions in a list; pieces with a leading space start words."""

    special = SpecialIds(pad=1, cls=0, sep=2, unk=3, mask=4)
    known = ("<s>", "<pad>", "</s>", "<unk>", "<mask>", " cro", "co", "dile", " ", "サ", "ル", " at")
    vocab_size = len(known)

    def encode(self, texts: list[str], max_length: int) -> list[list[int]]:  # type: ignore[override]
        raise NotImplementedError

    def decode(self, ids: list[int]) -> str:  # type: ignore[override]
        return "".join(self.known[id_] for id_ in ids if id_ > 4)

    def starts_word(self, ids: list[int]) -> list[bool]:  # type: ignore[override]
        return [id_ < 5 or self.known[id_].startswith(" ") for id_ in ids]

    def save(self, directory: Path) -> None:
        raise NotImplementedError


def test_pieces_are_joined_to_words_without_special_tokens() -> None:
    assert word_pieces(Pieces(), [0, 5, 6, 7, 11, 2, 1]) == [[1, 2, 3], [4]]


def test_kana_and_han_are_words_by_piece() -> None:
    assert word_pieces(Pieces(), [0, 8, 9, 10, 2]) == [[2], [3]]
