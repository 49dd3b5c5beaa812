"""What goes away from the plugin API is told at the plugin's own line, and works until then."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from x2kit.plugin.loading import deprecation
from x2kit.plugin.loading.deprecation import Deprecated, warn_deprecated
from x2kit.plugin.loading.manager import load_plugins

PLUGIN = """\
from x2kit.plugin import hookimpl
from x2kit.plugin import {name}

@hookimpl
def x2kit_register(registry):
    pass
"""


def told(path: Path) -> list[warnings.WarningMessage]:
    """What loading a plugin warns of."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("default")
        assert load_plugins([str(path)])
    return [
        one for one in found if issubclass(one.category, DeprecationWarning) and "x2kit" in str(one.message)
    ]


def test_a_name_that_goes_away_is_told_with_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(deprecation.DEPRECATED, "gather_rows", Deprecated("pick_rows", 2))
    path = tmp_path / "old_plugin.py"
    path.write_text(PLUGIN.format(name="gather_rows"))
    (warning,) = told(path)
    assert (warning.filename, warning.lineno) == (str(path), 2)
    assert str(warning.message) == ("gather_rows is removed in API version 2 of x2kit.plugin; use pick_rows")


FRESH = """\
import sys
from x2kit.plugin.loading import deprecation
from x2kit.plugin.loading.manager import load_plugins

deprecation.DEPRECATED["gather_rows"] = deprecation.Deprecated("pick_rows", 2)
load_plugins(sys.argv[1:])
"""


@pytest.mark.parametrize("filter", ["default", "always"])
def test_a_fresh_process_warns_once_a_line(tmp_path: Path, filter: str) -> None:
    path = tmp_path / "old_plugin.py"
    path.write_text(PLUGIN.format(name="gather_rows"))
    command = [sys.executable, "-W", f"{filter}::DeprecationWarning", "-c", FRESH, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr.count("gather_rows is removed") == 1
    assert f"{path}:2: DeprecationWarning" in done.stderr


def test_a_name_that_stays_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "new_plugin.py"
    path.write_text(PLUGIN.format(name="gather_rows"))
    assert told(path) == []


def test_an_argument_that_goes_away_is_told_where_it_is_given() -> None:
    with pytest.warns(DeprecationWarning, match="argument rows of gather_rows is removed") as found:
        warn_deprecated("argument rows of gather_rows", Deprecated("index", 2))
    assert found[0].filename == __file__
