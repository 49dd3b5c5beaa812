from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from tests.plugin.conftest import BROKEN, VISION, Install, write_distribution
from x2kit.errors import PluginError
from x2kit.plugin.loading.admission import hook_names
from x2kit.plugin.loading.manager import Plugins, PluginState, load_plugins


def state_of(plugins: Plugins, name: str) -> PluginState:
    (found,) = [state for state in plugins.states if state.name == name]
    return found


def error_of(plugins: Plugins, name: str) -> str:
    state = state_of(plugins, name)
    assert state.status == "quarantined"
    assert state.components == ()
    assert state.error is not None
    return state.error


def test_an_installed_plugin_is_active_and_its_component_known(install: Install) -> None:
    install("acme-vit", {"acme_vit": VISION.format(name="AcmeViT")}, version="0.2")
    plugins = load_plugins()
    assert state_of(plugins, "acme_vit") == PluginState(
        "acme_vit", "entry point", "acme-vit 0.2", (("vision", "AcmeViT"),)
    )
    assert plugins.registry.get("vision", "AcmeViT").__module__ == "acme_vit"


def test_an_import_error_is_shown_with_its_place(install: Install) -> None:
    place = install("acme-vit", {"acme_vit": BROKEN["import error"]}, version="0.2")
    assert error_of(load_plugins(), "acme_vit") == (
        "plugin acme_vit (acme-vit 0.2): cannot be imported: ModuleNotFoundError: No module named "
        f"'acme_that_is_not_installed' ({place / 'acme_vit.py'}, line 1); "
        "install its dependencies, or update or uninstall acme-vit"
    )


def test_a_missing_module_behind_an_entry_point_is_an_import_error(install: Install) -> None:
    place = install("acme-vit", {"acme_vit": ""})
    (place / "acme_vit.py").unlink()
    assert "ModuleNotFoundError: No module named 'acme_vit'; install" in error_of(load_plugins(), "acme_vit")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("x = = 1\n", "SyntaxError: invalid syntax (/"),
        ("raise SystemExit(3)\n", "SystemExit: 3 (/"),
        ("import sys\nsys.exit('go away')\n", "SystemExit: go away (/"),
        ("class Own(BaseException): ...\nraise Own('odd')\n", "acme_odd.Own: odd (/"),
        ("raise ValueError('two\\nlines')\n", "ValueError: two lines (/"),
    ],
)
def test_whatever_an_import_raises_is_contained(install: Install, text: str, reason: str) -> None:
    install("acme-odd", {"acme_odd": text})
    assert f"cannot be imported: {reason}" in error_of(load_plugins(), "acme_odd")


def test_ctrl_c_during_an_import_is_no_fault_of_the_plugin(install: Install) -> None:
    install("acme-slow", {"acme_slow": "raise KeyboardInterrupt\n"})
    with pytest.raises(KeyboardInterrupt):
        load_plugins()


def test_a_misspelt_hook_is_named_with_the_nearest(install: Install) -> None:
    install("acme-vit", {"acme_vit": BROKEN["misspelt hook"]})
    assert error_of(load_plugins(), "acme_vit") == (
        "plugin acme_vit (acme-vit 1.0): unknown hook x2kit_regster; nearest: x2kit_register; "
        f"known: {', '.join(hook_names())}"
    )


def test_a_plugin_without_a_hook_is_told_how_to_write_one(install: Install) -> None:
    install("acme-vit", {"acme_vit": BROKEN["no hook"]})
    error = error_of(load_plugins(), "acme_vit")
    assert "has no hook; write `@hookimpl def x2kit_register(registry)`" in error


def test_a_hook_that_raises_is_shown_with_its_line(install: Install) -> None:
    install("acme-vit", {"acme_vit": BROKEN["hook raises"]})
    state = state_of(load_plugins(), "acme_vit")
    assert state.error is not None
    assert "its hook x2kit_register raised: RuntimeError: boom (" in state.error
    assert "acme_vit.py, line 17)" in state.error
    assert state.traceback is not None
    assert "raise RuntimeError('boom')" in state.traceback


def test_a_hook_that_raises_after_adding_leaves_nothing_behind(install: Install) -> None:
    install("acme-vit", {"acme_vit": VISION.format(name="AcmeViT") + "    raise RuntimeError('boom')\n"})
    plugins = load_plugins()
    with pytest.raises(PluginError, match=r"quarantined: plugin acme_vit \(acme-vit 1.0\): its hook"):
        plugins.registry.get("vision", "AcmeViT")


def test_another_api_range_is_refused_with_both_versions(install: Install) -> None:
    install("acme-vit", {"acme_vit": BROKEN["api range"]})
    error = error_of(load_plugins(), "acme_vit")
    assert (
        "needs plugin API >=2, and this x2kit has API 1; install a matching version of the plugin or of x2kit"
        in error
    )


def test_a_name_clash_names_both_distributions_and_sets_the_later_plugin_aside_whole(
    install: Install,
) -> None:
    two = VISION.format(name="OnlyHere") + "    registry.add(Shared)\n" + VISION.format(name="Shared")
    two = two.rsplit("@hookimpl", 1)[0]
    install("acme-first", {"acme_first": VISION.format(name="Shared")}, version="0.1")
    install("acme-second", {"acme_second": two}, version="0.2")
    plugins = load_plugins()
    assert error_of(plugins, "acme_second") == (
        'plugin acme_second (acme-second 0.2): vision component "Shared" of plugin acme_second '
        "(acme-second 0.2) is already registered by plugin acme_first (acme-first 0.1); "
        "rename one or uninstall one distribution"
    )
    assert plugins.registry.get("vision", "Shared").__module__ == "acme_first"
    assert "OnlyHere" not in {entry.component.__name__ for entry in plugins.registry}


def test_of_two_named_plugins_with_one_component_name_the_first_keeps_it(tmp_path: Path) -> None:
    for stem in ("first", "second"):
        (tmp_path / f"{stem}.py").write_text(VISION.format(name="Shared"))
    plugins = load_plugins(["second.py", "first.py"], base=tmp_path)
    assert state_of(plugins, "second").status == "active"
    assert "is already registered by plugin second" in error_of(plugins, "first")


def test_the_order_is_first_party_then_distributions_then_named(install: Install, tmp_path: Path) -> None:
    install("acme-b", {"a_of_b": VISION.format(name="One")})
    install("Acme.A", {"z_of_a": VISION.format(name="Two"), "y_of_a": VISION.format(name="Three")})
    for stem in ("two", "one"):
        (tmp_path / f"{stem}.py").write_text(VISION.format(name=stem.title() + "File"))
    names = [state.name for state in load_plugins(["two.py", "one.py"], base=tmp_path).states]
    own = [name for name in names if name.startswith("x2kit_")]
    assert own == sorted(own)
    assert names == [*own, "y_of_a", "z_of_a", "a_of_b", "two", "one"]


def test_of_a_distribution_installed_twice_the_first_on_the_path_counts(install: Install) -> None:
    install("acme-vit", {"acme_vit": VISION.format(name="Old")}, version="0.1", folder="stale")
    install("Acme_ViT", {"acme_vit": VISION.format(name="New")}, version="0.2", folder="fresh")
    plugins = load_plugins()
    state = state_of(plugins, "acme_vit")
    assert (state.distribution, state.components) == ("Acme_ViT 0.2", (("vision", "New"),))


def test_two_distributions_may_call_their_plugins_the_same(install: Install) -> None:
    place = install("acme-a", {"acme_a": VISION.format(name="One")})
    install("acme-b", {"acme_b": VISION.format(name="Two")})
    for name in ("acme_a", "acme_b"):
        (place / f"{name}-1.0.dist-info" / "entry_points.txt").write_text(f"[x2kit]\nencoders = {name}\n")
    plugins = load_plugins()
    assert state_of(plugins, "encoders").distribution == "acme-a 1.0"
    assert state_of(plugins, "acme-b:encoders").components == (("vision", "Two"),)


@pytest.mark.parametrize("again", ["acme_vit", "site/acme_vit.py", "./site/acme_vit.py"])
def test_an_installed_plugin_that_is_also_named_is_loaded_once(
    install: Install, tmp_path: Path, again: str
) -> None:
    install("acme-vit", {"acme_vit": VISION.format(name="AcmeViT")})
    plugins = load_plugins([again], base=tmp_path)
    assert state_of(plugins, "acme_vit").status == "active"
    assert plugins.quarantined == load_plugins().quarantined
    plugins.require([again])


def test_a_file_named_in_two_ways_is_loaded_once(tmp_path: Path) -> None:
    file = tmp_path / "enc.py"
    file.write_text(VISION.format(name="Twice"))
    plugins = load_plugins(["enc.py", "./enc.py", str(file)], base=tmp_path)
    assert state_of(plugins, "enc") == PluginState("enc", "enc.py", str(file), (("vision", "Twice"),))
    plugins.require(["enc.py", "./enc.py", str(file), "enc"])


def test_a_file_and_the_module_it_holds_are_one_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "acme_package"
    folder.mkdir()
    (folder / "__init__.py").write_text(VISION.format(name="Packaged"))
    monkeypatch.syspath_prepend(str(tmp_path))
    mentions = ["./acme_package", "acme_package", "acme_package/__init__.py"]
    plugins = load_plugins(mentions, base=tmp_path)
    assert state_of(plugins, "acme_package").components == (("vision", "Packaged"),)
    assert plugins.quarantined == load_plugins().quarantined
    plugins.require(mentions)


def test_files_of_one_name_in_two_folders_are_two_plugins(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "enc.py").write_text(VISION.format(name=f"In{folder.upper()}"))
    plugins = load_plugins(["a/enc.py", "b/enc.py"], base=tmp_path)
    assert state_of(plugins, "enc").components == (("vision", "InA"),)
    assert state_of(plugins, str(tmp_path / "b" / "enc.py")).components == (("vision", "InB"),)


def test_settings_of_a_file_plugin_survive_pickling(tmp_path: Path) -> None:
    (tmp_path / "enc.py").write_text(VISION.format(name="Pickled"))
    component = load_plugins(["enc.py"], base=tmp_path).registry.get("vision", "Pickled")
    settings = component.model_validate({"width": 16})
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_a_missing_file_or_module_is_quarantined(tmp_path: Path) -> None:
    plugins = load_plugins(["gone.py", "acme_gone", ""], base=tmp_path)
    assert error_of(plugins, "gone") == (
        f"plugin gone ({tmp_path / 'gone.py'}): there is no file {tmp_path / 'gone.py'}; "
        "relative paths start at the file or folder that names them"
    )
    assert error_of(plugins, "acme_gone") == (
        "plugin acme_gone: cannot be imported: ModuleNotFoundError: No module named 'acme_gone'; "
        "fix it, or remove 'acme_gone' from the plugins of the recipe or command line"
    )
    assert "Empty module name" in error_of(plugins, "")


def test_a_file_named_without_its_ending_is_recognised(tmp_path: Path) -> None:
    (tmp_path / "enc.py").write_text(VISION.format(name="Enc"))
    error = error_of(load_plugins(["enc"], base=tmp_path), "enc")
    assert error.endswith("to load the file, write enc.py")


def test_needing_a_quarantined_plugin_gives_its_reason(tmp_path: Path) -> None:
    (tmp_path / "enc.py").write_text(BROKEN["api range"])
    plugins = load_plugins(["enc.py"], base=tmp_path)
    plugins.require([])
    with pytest.raises(PluginError) as caught:
        plugins.require(["enc.py"])
    assert str(caught.value) == (
        f"plugin 'enc.py' is required but failed: plugin enc ({tmp_path / 'enc.py'}): needs plugin API "
        ">=2, and this x2kit has API 1; install a matching version of the plugin or of x2kit\n"
        "  see: x2kit plugins"
    )


def test_needing_a_plugin_that_is_not_there_lists_the_known() -> None:
    with pytest.raises(
        PluginError, match=r"plugin 'acme' is required but was not found; known: .*x2kit_timm"
    ):
        load_plugins().require(["acme"])


def test_strict_raises_at_the_first_with_its_cause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("x2kit.plugin.loading.manager.installed", lambda: iter(()))
    (tmp_path / "good.py").write_text(VISION.format(name="Good"))
    (tmp_path / "bad.py").write_text(BROKEN["hook raises"])
    assert load_plugins(["good.py"], base=tmp_path, strict=True).quarantined == ()
    with pytest.raises(
        PluginError, match=r"plugin bad .*: its hook x2kit_register raised: .* boom"
    ) as caught:
        load_plugins(["good.py", "bad.py"], base=tmp_path, strict=True)
    assert caught.value.__cause__ is not None
    assert isinstance(caught.value.__cause__.__cause__, RuntimeError)


def test_six_broken_plugins_leave_the_first_party_ones_working(tmp_path: Path) -> None:
    for number, text in enumerate(BROKEN.values()):
        write_distribution(tmp_path, f"broken-{number}", {f"broken_{number}": text})
    code = (
        "import sys; from x2kit.plugin.loading.manager import load_plugins; plugins = load_plugins()\n"
        "for s in plugins.states: print(s.name, s.status, s.error, sep='|')\n"
        "assert 'torch' not in sys.modules"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}  # a folder on the path, as site-packages is
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    states = [line.split("|", 2) for line in printed.splitlines()]
    broken = [error for name, status, error in states if name.startswith("broken_") and status != "active"]
    reasons = (
        "No module named 'acme_that_is_not_installed'",
        "unknown hook x2kit_regster",
        '"BeitV2" of plugin broken_2 (broken-2 1.0) is already registered by plugin x2kit_timm (x2kit ',
        "needs plugin API >=2",
        "RuntimeError: boom",
        "has no hook",
    )
    assert len(broken) == len(reasons)
    for error, reason in zip(broken, reasons, strict=True):
        assert reason in error
    assert [line for line in states if line[0].startswith("x2kit_") and line[1] != "active"] == []
