"""Adapters are light to import, and a loaded model is used as it is."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.model.conftest import build
from x2kit.adapters.opening import import_package, open_model
from x2kit.errors import X2KitError
from x2kit.inference import Model


def test_importing_them_imports_no_torch_and_none_of_the_libraries() -> None:
    code = (
        "import sys, x2kit.adapters.open_clip, x2kit.adapters.clip_benchmark, x2kit.adapters.mteb;"
        "print({'torch', 'open_clip', 'clip_benchmark', 'mteb', 'datasets'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_a_loaded_model_is_not_loaded_again() -> None:
    model = Model(build(), "tiny", precision="bf16")
    assert open_model(model, "cpu", "fp32") is model


def test_a_missing_package_is_named_with_its_command() -> None:
    with pytest.raises(
        X2KitError, match=r"no_such_thing cannot be imported.*install it with: pip install no-such"
    ):
        import_package("no_such_thing", "no-such")
