"""`x2kit plugins`: one subcommand for all that is done with plugins."""

from __future__ import annotations

from collections.abc import Callable


def test_without_an_action_the_plugins_are_listed(x2kit: Callable[..., object]) -> None:
    bare = x2kit("plugins")
    assert (bare.status, bare.err) == (0, "")
    assert bare.out == x2kit("plugins", "list").out
    assert "CrossBert" in bare.out


def test_plugin_in_the_singular_is_unknown(x2kit: Callable[..., object]) -> None:
    assert "no subcommand 'plugin'; nearest: plugins" in x2kit("plugin", "check", "x2kit_fusion").err
