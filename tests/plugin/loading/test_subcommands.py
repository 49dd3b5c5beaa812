from __future__ import annotations

import re

import pytest

from tests.plugin.conftest import Install
from x2kit.errors import PluginError
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.loading.subcommands import OWN, Subcommands

HOOK = """\
from x2kit.plugin import hookimpl

@hookimpl
def x2kit_subcommands(subcommands):
    subcommands.add("{subcommand}", "{module}", "says hello")
"""


def test_a_plugin_brings_a_subcommand_and_its_module_is_not_imported(install: Install) -> None:
    install(
        "acme-hello", {"acme_hello": HOOK.format(subcommand="hello", module="acme.nowhere")}, version="0.2"
    )
    plugins = load_plugins()
    subcommand = plugins.subcommands.get("hello")
    assert subcommand is not None
    assert (subcommand.module, subcommand.help, subcommand.owner) == (
        "acme.nowhere",
        "says hello",
        "plugin acme_hello (acme-hello 0.2)",
    )
    assert plugins.state_of("acme_hello").subcommands == ("hello",)
    assert plugins.subcommands.get("train") is None


@pytest.mark.parametrize("subcommand", OWN)
def test_a_subcommand_of_x2kit_itself_is_not_taken(subcommand: str, install: Install) -> None:
    install("acme-own", {"acme_own": HOOK.format(subcommand=subcommand, module="acme_own")}, version="0.2")
    (state,) = load_plugins().quarantined
    assert (
        f'subcommand "{subcommand}" of plugin acme_own (acme-own 0.2) is a subcommand of x2kit itself'
        in str(state.error)
    )


def test_two_plugins_with_one_subcommand_are_both_named_and_the_first_keeps_it(install: Install) -> None:
    install("acme-a", {"acme_a": HOOK.format(subcommand="hello", module="a")}, version="1")
    install("acme-b", {"acme_b": HOOK.format(subcommand="hello", module="b")}, version="2")
    plugins = load_plugins()
    (state,) = plugins.quarantined
    assert (
        'subcommand "hello" of plugin acme_b (acme-b 2) is already registered by plugin acme_a (acme-a 1)'
        in str(state.error)
    )
    assert [subcommand.module for subcommand in plugins.subcommands if subcommand.name == "hello"] == ["a"]


@pytest.mark.parametrize("name", ["", "Hello", "-hello", "hel lo", "--x", "3d"])
def test_a_name_that_nobody_could_type_is_refused(name: str) -> None:
    with pytest.raises(PluginError, match=re.escape(f"subcommand {name!r}: expected lower-case letters")):
        Subcommands().add(name, "module", "help")


def test_a_subcommand_without_help_is_refused() -> None:
    with pytest.raises(PluginError, match="has an empty help"):
        Subcommands().add("hello", "module", " ")
