from __future__ import annotations

from types import ModuleType, SimpleNamespace

import pluggy
import pytest

from x2kit.errors import PluginError
from x2kit.plugin import Registry, hookimpl
from x2kit.plugin.loading.admission import admit, hook_names, new_manager


def a_hook(registry: Registry) -> None:
    """Adds nothing."""


def module(**names: object) -> ModuleType:
    made = ModuleType("acme")
    vars(made).update(names)
    return made


GOOD = hookimpl(lambda registry: None)


def test_the_hooks_are_those_of_the_specification() -> None:
    assert hook_names() == [
        "x2kit_checkpoint_saved",
        "x2kit_evaluation_done",
        "x2kit_register",
        "x2kit_run_ended",
        "x2kit_run_started",
        "x2kit_step_done",
        "x2kit_subcommands",
    ]


@pytest.mark.parametrize("wanted", ["1", "1.0", 1, ">=1,<3", "~=1.0", ">=0.5", ""])
def test_a_fitting_api_is_admitted(wanted: object) -> None:
    manager = new_manager()
    plugin = module(x2kit_register=GOOD, x2kit_api=wanted)
    admit(plugin, "acme", manager)
    assert manager.get_plugin("acme") is plugin


@pytest.mark.parametrize("wanted", ["2", 0, ">=2", "<1", "!=1"])
def test_an_api_out_of_range_is_refused(wanted: object) -> None:
    with pytest.raises(PluginError, match=rf"needs plugin API {wanted}, and this x2kit has API 1; install"):
        admit(module(x2kit_register=GOOD, x2kit_api=wanted), "acme", new_manager())


def test_an_api_that_is_no_range_is_refused_with_an_example() -> None:
    with pytest.raises(PluginError, match=r"""x2kit_api is 'one'; write "1", or a range like ">=1,<3"$"""):
        admit(module(x2kit_register=GOOD, x2kit_api="one"), "acme", new_manager())


def test_the_api_is_compared_before_hooks_of_that_api_are_judged() -> None:
    with pytest.raises(PluginError, match="needs plugin API"):
        admit(module(x2kit_new_hook=hookimpl(a_hook), x2kit_api="2"), "acme", new_manager())


@pytest.mark.parametrize("function", [hookimpl(lambda registry: None), lambda registry: None])
def test_a_name_like_a_hook_is_no_hook_with_and_without_the_mark(function: object) -> None:
    with pytest.raises(PluginError, match=r"unknown hook x2kit_regiter; nearest: x2kit_register; known: "):
        admit(module(x2kit_register=GOOD, x2kit_regiter=function), "acme", new_manager())


def test_a_marked_function_of_any_name_must_be_a_hook() -> None:
    with pytest.raises(PluginError, match="unknown hook register; nearest: x2kit_register"):
        admit(module(register=hookimpl(a_hook)), "acme", new_manager())


def test_a_hook_without_its_mark_is_told_so() -> None:
    with pytest.raises(PluginError, match="function x2kit_register lacks the decorator @hookimpl of"):
        admit(module(x2kit_register=lambda registry: None), "acme", new_manager())


def test_pluggy_s_own_ways_to_name_a_hook_are_kept() -> None:
    plugin = module(
        mine=hookimpl(specname="x2kit_register")(a_hook),
        x2kit_of_tomorrow=hookimpl(optionalhook=True)(lambda registry: None),
    )
    admit(plugin, "acme", new_manager())


def test_other_things_with_our_prefix_are_left_alone() -> None:
    admit(
        module(x2kit_register=GOOD, x2kit_timm=ModuleType("x2kit_timm"), x2kit_x=SimpleNamespace()),
        "a",
        new_manager(),
    )


def test_arguments_that_the_hook_has_not_are_named() -> None:
    manager = new_manager()
    plugin = module(x2kit_register=hookimpl(lambda registry, settings: None))
    with pytest.raises(
        PluginError, match=r"Argument\(s\) \{'settings'\} are declared in the hookimpl"
    ) as caught:
        admit(plugin, "acme", manager)
    assert isinstance(caught.value.__cause__, pluggy.PluginValidationError)
    assert not manager.is_registered(plugin)


@pytest.mark.parametrize("plugin", [module(), None, object()])
def test_a_plugin_without_a_hook_registers_nothing(plugin: object) -> None:
    with pytest.raises(PluginError, match=r"has no hook; write `@hookimpl def"):
        admit(plugin, "acme", new_manager())


def test_managers_share_no_plugins() -> None:
    admit(module(x2kit_register=GOOD), "acme", new_manager())
    assert new_manager().get_plugins() == set()
