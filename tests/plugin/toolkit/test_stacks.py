"""Layers of an encoder, and the linear layers that adapters change."""

from __future__ import annotations

from torch import nn

from x2kit.plugin.toolkit.stacks import layers_of, linear_names


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2)
        self.inner = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.Linear(8, 4))


class Encoder(nn.Module):
    def __init__(self, layers: int) -> None:
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.layers = nn.ModuleList(Layer() for _ in range(layers))


def test_layers_are_members_of_the_innermost_stacks() -> None:
    encoder = Encoder(2)
    assert list(layers_of(encoder)) == list(encoder.layers)
    assert list(layers_of(nn.Sequential(nn.Linear(1, 1), nn.GELU()))) == []


def test_linear_layers_are_those_of_the_stack_that_are_called() -> None:
    """`out_proj` of nn.MultiheadAttention is a Linear whose weight is read without a call."""
    assert linear_names(Encoder(2)) == [
        f"layers.{layer}.inner.{place}" for layer in (0, 1) for place in (0, 2)
    ]


def test_without_a_stack_all_linear_layers_are_named() -> None:
    assert linear_names(Encoder(1)) == ["first", "layers.0.inner.0", "layers.0.inner.2"]
