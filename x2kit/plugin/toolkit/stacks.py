"""Find the layers of an encoder, and the linear layers in them. Imports torch."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn


def layers_of(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the members of the innermost stacks: lists of several modules of one class with submodules."""
    for child in module.children():
        inner = list(layers_of(child))
        if inner:
            yield from inner
        elif _is_stack(child):
            yield from child.children()


def _is_stack(module: nn.Module) -> bool:
    members = list(module.children())
    return (
        isinstance(module, nn.ModuleList | nn.Sequential)
        and len(members) > 1
        and len({type(member) for member in members}) == 1
        and all(any(member.children()) for member in members)
    )


def linear_names(module: nn.Module) -> list[str]:
    """Return the names of the `nn.Linear` in the layers of a module, in order; of all, if its layers have none.

    Not those of `nn.MultiheadAttention`, which reads their weights without calling them.
    """
    unused = {
        id(child)
        for attention in module.modules()
        if isinstance(attention, nn.MultiheadAttention)
        for child in attention.children()
    }
    linear = {
        name: id(one)
        for name, one in module.named_modules()
        if isinstance(one, nn.Linear) and id(one) not in unused
    }
    inside = {id(one) for layer in layers_of(module) for one in layer.modules()}
    return [name for name, number in linear.items() if number in inside] or list(linear)
