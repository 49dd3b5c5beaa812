"""The checks of fusion encoders: a right one passes, each mistake is found."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar, Literal

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn
from x2kit_fusion import CrossBert
from x2kit_fusion.cross_bert import CrossBertEncoder

from x2kit.plugin import Context, FusionEncoder, FusionEncoderConfig, FusionFacts, PackedContext, Past
from x2kit.testing import checks

Mistake = Literal[
    "", "rows", "region", "lead", "text mask", "deaf", "summary rows", "detached lead", "mixing", "no alone",
    "width", "prepared", "two", "uncounted attention", "other fusion", "half attention", "hidden attention",
    "copied attention", "one image", "one lead", "unlike images",
]  # fmt: skip


class Means(FusionEncoderConfig):
    """Adds the mean of what a row sees, with a mistake if one is asked for."""

    mistake: Mistake = Field("", description="what is wrong with it")

    def describe(self, text_width: int, context_width: int) -> FusionFacts:
        return FusionFacts(text_width + (self.mistake == "width"), 1)

    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> FusionEncoder:
        return MeansEncoder(self.mistake, text_width, context_width)


class PairMeans(Means):
    """Adds the means of what a row sees of two images."""

    images: ClassVar[int] = 2

    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> FusionEncoder:
        return PairMeansEncoder(self.mistake, text_width, context_width)


class MeansEncoder(FusionEncoder):
    def __init__(self, mistake: str, width: int, context_width: int) -> None:
        super().__init__()
        self.mistake, self.width = mistake, width
        self.attention_layers = int(mistake != "uncounted attention")
        self.look = nn.Linear(context_width, width)

    def prepare(self, tokens: Tensor) -> tuple[Tensor, ...]:
        return (tokens + 1,) if self.mistake == "prepared" else (tokens[:2],) if self.mistake == "two" else ()

    def forward(
        self, text: Tensor, text_mask: Tensor, context: Context | None, summary_rows: int = 0
    ) -> Tensor:
        if self.mistake != "text mask":
            text = text * text_mask[..., None]
        out = text + text.mean(1, keepdim=True)
        if self.mistake == "mixing":
            out = out + text.mean(0, keepdim=True)
        if context is None:
            if self.mistake == "no alone":
                return out[..., :1]
            return out
        if self.mistake == "deaf":
            return out + self.look(torch.zeros_like(context.tokens)).mean()
        if context.prepared:
            context = context._replace(tokens=context.prepared[0])
        if self.mistake == "rows":
            context = context._replace(rows=torch.arange(len(text)).clamp(max=len(context.tokens) - 1))
        if self.mistake == "region":
            context = context._replace(mask=None)
        if self.mistake == "lead":
            context = context._replace(lead=None)
        if self.mistake == "detached lead" and context.lead is not None:
            context = context._replace(lead=context.lead.detach())
        tokens, mask = context.expand()
        seen = (tokens * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
        out = out + self.look(seen)
        if self.mistake == "summary rows" and summary_rows:
            out = torch.cat([out[:summary_rows] * 0, out[summary_rows:]])
        return out

    def attend(self, text: Tensor, text_mask: Tensor, context: Context, layer: int) -> tuple[Tensor, Tensor]:
        """The mean is attention with equal probabilities."""
        tokens, mask = context.expand()
        probabilities = (mask / mask.sum(1, keepdim=True))[:, None, None].expand(-1, 2, text.shape[1], -1)
        probabilities = probabilities.clone().requires_grad_()
        out = self(text, text_mask, None) + self.look(probabilities[:, 0] @ tokens)
        if self.mistake == "other fusion":
            out = out * 2
        if self.mistake == "half attention":
            return out, probabilities / 2
        if self.mistake == "hidden attention":
            return out, torch.full_like(probabilities, 1 / probabilities.shape[-1])
        return out, probabilities.clone() if self.mistake == "copied attention" else probabilities


class NoAttention(FusionEncoderConfig):
    """Means without attention probabilities."""

    def describe(self, text_width: int, context_width: int) -> FusionFacts:
        return FusionFacts(text_width, 1)

    def build(self, text_width: int, context_width: int, assets: Path | None = None) -> FusionEncoder:
        encoder = MeansEncoder("", text_width, context_width)
        encoder.attention_layers = 0
        encoder.attend = partial(FusionEncoder.attend, encoder)
        return encoder


class PairMeansEncoder(MeansEncoder):
    def forward(
        self, text: Tensor, text_mask: Tensor, context: Context | None, summary_rows: int = 0
    ) -> Tensor:
        if context is None:
            return super().forward(text, text_mask, None, summary_rows)
        if self.mistake == "one image":
            context = context.select(0)
        if self.mistake == "one lead" and context.rows.ndim == 2 and context.lead is not None:
            context = context._replace(lead=context.lead[:, :1].expand(-1, 2, -1))
        several = self.mistake == "unlike images" and context.rows.ndim == 2
        factors = (0.75 if several else 0.5, 0.5)
        fused = [super(PairMeansEncoder, self).forward(text, text_mask, context.select(n)) for n in range(2)]
        return sum(factor * out for factor, out in zip(factors, fused, strict=True))


LAWS = [check for check in checks("fusion") if check.__name__ != "the_module_imports_no_torch"]


@pytest.mark.parametrize("check", LAWS)
@pytest.mark.parametrize("component", [Means(), NoAttention()])
def test_a_right_encoder_passes(component: FusionEncoderConfig, check: object) -> None:
    check(component)


@pytest.mark.parametrize(
    ("mistake", "name", "said"),
    [
        ("rows", "sharing_a_context_changes_nothing", "differ from the plain form"),
        ("prepared", "preparing_a_context_changes_nothing", "is fused differently"),
        ("two", "preparing_a_context_changes_nothing", r"of 3 contexts gives \[2\] rows"),
        ("region", "a_region_hides_the_rest", "a row sees context tokens that its mask hides"),
        ("lead", "the_lead_is_seen", "a row does not see its lead"),
        ("text mask", "padding_changes_nothing", "pass text_mask to self-attention"),
        ("deaf", "the_context_matters", "context.rows changes nothing"),
        ("summary rows", "summary_rows_change_nothing_that_is_read", "summary_rows=2 changes position 0"),
        ("detached lead", "gradients_reach_what_is_fused", "no gradient reaches context.lead"),
        ("mixing", "rows_do_not_mix", "a row alone differs"),
        ("no alone", "shapes_are_as_declared", "the output without a context is"),
        ("uncounted attention", "attention_is_given_or_refused", "works, but attention_layers is 0"),
        ("other fusion", "attention_is_given_or_refused", r"fuses differently from forward\(\)"),
        ("half attention", "attention_is_given_or_refused", "do not sum to 1"),
        ("hidden attention", "attention_is_given_or_refused", "masked tokens have a probability above 0"),
        ("copied attention", "attention_is_given_or_refused", "does not depend on the probabilities"),
        ("width", "facts_are_true", r"describe\(\) says width 17, the encoder has 16"),
    ],
)
def test_each_mistake_is_named(mistake: Mistake, name: str, said: str) -> None:
    check = next(check for check in LAWS if check.__name__ == name)
    with pytest.raises(AssertionError, match=f"Means: {name}: .*{said}"):
        check(Means(mistake=mistake))


@pytest.mark.parametrize("check", LAWS)
def test_a_right_encoder_of_image_pairs_passes(check: object) -> None:
    check(PairMeans())


@pytest.mark.parametrize(
    ("mistake", "name", "said"),
    [
        ("one image", "each_image_of_a_row_is_seen", "a row does not see the lead of its image 1"),
        ("one lead", "each_image_of_a_row_is_seen", "a row does not see the lead of its image 1"),
        ("unlike images", "equal_images_are_one", "a row with 2 equal images differs from the row with one"),
    ],
)
def test_each_mistake_with_image_pairs_is_named(mistake: Mistake, name: str, said: str) -> None:
    check = next(check for check in LAWS if check.__name__ == name)
    with pytest.raises(AssertionError, match=f"PairMeans: {name}: .*{said}"):
        check(PairMeans(mistake=mistake))


def test_first_party_fusion_keeps_the_contract() -> None:
    from x2kit_fusion import CrossBert

    from x2kit.testing import check_fusion

    check_fusion(CrossBert(layers=2, heads=2))


def test_a_cache_of_wrong_tokens_is_named() -> None:
    from x2kit_fusion import CrossBert
    from x2kit_fusion.cross_bert import CrossBertEncoder

    class Forgetful(CrossBertEncoder):
        def fuse_next(self, text: Tensor, context: Context, past: Past = ()) -> tuple[Tensor, Past]:
            return super().fuse_next(text, context, ())

    class Cached(CrossBert):
        def build(self, text_width: int, context_width: int, assets: Path | None = None) -> FusionEncoder:
            return Forgetful(self, text_width, context_width)

    check = next(check for check in LAWS if check.__name__ == "fusing_on_equals_fusing_again")
    with pytest.raises(AssertionError, match="differs from fusing all tokens again"):
        check(Cached(layers=2, heads=2))


@pytest.mark.parametrize(
    ("mistake", "said"), [("all", "are fused differently"), ("read", "read changes the first token")]
)
def test_an_encoder_that_packs_otherwise_is_named(mistake: str, said: str) -> None:
    class Packing(CrossBertEncoder):
        def forward(
            self,
            text: Tensor,
            text_mask: Tensor,
            context: Context | PackedContext | None,
            summary_rows: int = 0,
        ) -> Tensor:
            fused = super().forward(text, text_mask, context, summary_rows)
            wrong = isinstance(context, PackedContext) and (mistake == "all" or context.read is not None)
            return 2 * fused if wrong else fused

    class Wrong(CrossBert):
        def build(self, text_width: int, context_width: int, assets: Path | None = None) -> FusionEncoder:
            return Packing(self, text_width, context_width)

    check = next(check for check in LAWS if check.__name__ == "packed_texts_equal_padded_ones")
    check(CrossBert(layers=2, heads=2))
    with pytest.raises(AssertionError, match=said):
        check(Wrong(layers=2, heads=2))
