"""Maps of a text over the patches: attention × positive gradient of the matching logit."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.evaluation.stubs import tiny_model
from x2kit.errors import HeadError
from x2kit.model import X2VLM
from x2kit.model.attention_map import Attention, matching_attention, text_maps, token_maps
from x2kit.plugin import Context
from x2kit.plugin.encoders import FusionEncoder


@pytest.fixture
def model() -> X2VLM:
    return tiny_model()


@pytest.fixture
def rows(model: X2VLM) -> tuple[Tensor, Tensor, Context]:
    """Three texts of up to five tokens about two images."""
    draw = torch.Generator().manual_seed(0)
    spec = model.image_spec
    features = model.encode_images(torch.rand(2, 3, spec.size, spec.size, generator=draw))
    mask = torch.arange(5) < torch.tensor([5, 2, 3])[:, None]
    text = torch.randn(3, 5, model.text.width, generator=draw)
    return text, mask, model.prepare_images(features)._replace(rows=torch.tensor([1, 0, 1]))


def test_the_gradient_is_that_of_the_logit_of_matched(
    model: X2VLM, rows: tuple[Tensor, Tensor, Context]
) -> None:
    """A small change of one probability changes the logit by its gradient."""
    text, mask, context = rows
    found = matching_attention(model, text, mask, context, 0)
    tokens, _ = context.expand()

    def logit(probabilities: Tensor) -> Tensor:
        fused = model.fusion._summed(text + probabilities[:, 0] @ tokens, mask)
        return model.itm_logits(fused)[:, 1]

    change = torch.zeros_like(found.probabilities)
    change[0, 0, 0, 2] = change[2, 0, 1, 4] = 1e-3
    difference: Tensor = logit(found.probabilities + change) - logit(found.probabilities - change)
    difference = difference.detach()
    assert float(difference[0]) == pytest.approx(2e-3 * float(found.gradient[0, 0, 0, 2]), rel=1e-2)
    assert float(difference[2]) == pytest.approx(2e-3 * float(found.gradient[2, 0, 1, 4]), rel=1e-2)


def test_a_map_is_attention_times_positive_gradient_without_the_summary() -> None:
    probabilities = torch.tensor([[[[0.2, 0.5, 0.3]], [[0.6, 0.4, 0.0]]]])  # one row, two heads, one token
    gradient = torch.tensor([[[[9.0, 2.0, -1.0]], [[9.0, -1.0, 5.0]]]])
    maps = token_maps(Attention(probabilities, gradient), torch.tensor([[True]]))
    torch.testing.assert_close(maps, torch.tensor([[[0.5, 0.0]]]))


def test_padding_has_no_map_and_no_part_in_the_mean(
    model: X2VLM, rows: tuple[Tensor, Tensor, Context]
) -> None:
    text, mask, context = rows
    maps = token_maps(matching_attention(model, text, mask, context, 0), mask)
    assert not maps[~mask].any()
    whole = text_maps(model, text, mask, context, 0)
    for row, length in enumerate(mask.sum(1).tolist()):
        torch.testing.assert_close(whole[row], maps[row, :length].mean(0))
        alone = context._replace(rows=context.rows[row : row + 1])
        short = text_maps(model, text[row : row + 1, :length], mask[row : row + 1, :length], alone, 0)
        torch.testing.assert_close(whole[row], short[0])


def test_it_works_without_gradients_and_with_frozen_parameters(
    model: X2VLM, rows: tuple[Tensor, Tensor, Context]
) -> None:
    expected = text_maps(model, *rows, 0)
    model.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(text_maps(model, *rows, 0), expected)
    assert not any(parameter.grad is not None for parameter in model.parameters())


def test_what_the_model_lacks_is_named(model: X2VLM, rows: tuple[Tensor, Tensor, Context]) -> None:
    with pytest.raises(
        HeadError, match=r"layer 1: Attend \(model\.fusion\) has cross-attention in the layers 0 to 0"
    ):
        text_maps(model, *rows, 1)
    model.fusion.attention_layers = 0
    model.fusion.attend = FusionEncoder.attend.__get__(model.fusion)
    with pytest.raises(
        HeadError, match=r"Attend gives no attention probabilities .* set model\.fusion\.class_path"
    ):
        text_maps(model, *rows, 0)
