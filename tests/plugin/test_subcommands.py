from __future__ import annotations

import re

import pytest

from tests.plugin.conftest import Install
from x2kit.errors import PluginError
from x2kit.plugin.loading.manager import load_plugins
from x2kit.plugin.subcommands import OWN, Verbs

HOOK = """\
from x2kit.plugin import hookimpl

@hookimpl
def x2kit_verbs(verbs):
    verbs.add("{verb}", "{module}", "says hello")
"""


def test_a_plugin_brings_a_verb_and_its_module_is_not_imported(install: Install) -> None:
    install("acme-hello", {"acme_hello": HOOK.format(verb="hello", module="acme.nowhere")}, version="0.2")
    plugins = load_plugins()
    verb = plugins.verbs.get("hello")
    assert verb is not None
    assert (verb.module, verb.help, verb.owner) == (
        "acme.nowhere",
        "says hello",
        "plugin acme_hello (acme-hello 0.2)",
    )
    assert plugins.state_of("acme_hello").verbs == ("hello",)
    assert plugins.verbs.get("train") is None


@pytest.mark.parametrize("verb", OWN)
def test_a_verb_of_x2kit_itself_is_not_taken(verb: str, install: Install) -> None:
    install("acme-own", {"acme_own": HOOK.format(verb=verb, module="acme_own")}, version="0.2")
    (state,) = load_plugins().quarantined
    assert f'verb "{verb}" of plugin acme_own (acme-own 0.2) is a verb of x2kit itself' in str(state.error)


def test_two_plugins_with_one_verb_are_both_named_and_the_first_keeps_it(install: Install) -> None:
    install("acme-a", {"acme_a": HOOK.format(verb="hello", module="a")}, version="1")
    install("acme-b", {"acme_b": HOOK.format(verb="hello", module="b")}, version="2")
    plugins = load_plugins()
    (state,) = plugins.quarantined
    assert 'verb "hello" of plugin acme_b (acme-b 2) is already one of plugin acme_a (acme-a 1)' in str(
        state.error
    )
    assert [verb.module for verb in plugins.verbs if verb.name == "hello"] == ["a"]


@pytest.mark.parametrize("name", ["", "Hello", "-hello", "hel lo", "--x", "3d"])
def test_a_name_that_nobody_could_type_is_refused(name: str) -> None:
    with pytest.raises(PluginError, match=re.escape(f"verb {name!r}: a verb has lower-case letters")):
        Verbs().add(name, "module", "help")


def test_a_verb_without_help_is_refused() -> None:
    with pytest.raises(PluginError, match="says nothing in its help"):
        Verbs().add("hello", "module", " ")
