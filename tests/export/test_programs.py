"""Which programs and outputs a model has."""

from __future__ import annotations

import pytest
import torch

from tests.data.stubs import WORDS
from tests.export.conftest import config_of
from tests.model.conftest import build
from x2kit.errors import HeadError
from x2kit.export.programs import programs_of
from x2kit.export.samples import cases, inputs_of
from x2kit.model import X2VLM
from x2kit.model.build import build_model
from x2kit.model.config import HeadName


def model_with(*heads: HeadName) -> X2VLM:
    return build_model(config_of(heads=heads), WORDS).eval()


def test_a_model_without_pair_has_two_towers() -> None:
    programs, left_out = programs_of(model_with("itc"))
    assert [(one.name, [*one.outputs]) for one in programs] == [
        ("image", ["image_vector"]),
        ("text", ["text_vector"]),
    ]
    assert set(left_out) == {"probability", "box", "pair"}


def test_a_model_without_vectors_has_tokens_and_pair() -> None:
    programs, left_out = programs_of(model_with("itm"))
    assert [(one.name, [*one.outputs]) for one in programs] == [
        ("image", ["image_tokens"]),
        ("text", ["text_tokens"]),
        ("pair", ["probability"]),
    ]
    assert left_out == {
        "image_vector, text_vector": "the model has no contrastive head (itc)",
        "box": "the model has no box head (bbox)",
    }


def test_a_model_without_these_heads_is_refused() -> None:
    with pytest.raises(HeadError, match=r"none of the heads that are exported.*itc.*itm.*bbox"):
        programs_of(model_with("mlm"))


def test_videos_are_left_out() -> None:
    _, left_out = programs_of(build(frames=2))
    assert left_out == {"videos": "the programs read single images; frame positions are not exported"}


@pytest.mark.parametrize("positions", [0.0, 0.5])
def test_the_modules_give_what_the_model_gives(positions: float) -> None:
    """With and without fixed positions, on every case that exported files are compared on."""
    model = build(context_positions=positions)
    programs, _ = programs_of(model)
    rows, lengths = set(), set()
    for case in cases(model):
        rows.add(len(case.ids))
        lengths.add(case.ids.shape[1])
        for program in programs:
            inputs = inputs_of(program, model, case)
            with torch.no_grad():
                found, expected = program.module(*inputs), program.eager(*inputs)
            for one, other in zip(found, expected, strict=True):
                torch.testing.assert_close(one, other, atol=1e-6, rtol=0)
    assert {1, 2} <= rows
    assert {2, model.max_length} <= lengths
