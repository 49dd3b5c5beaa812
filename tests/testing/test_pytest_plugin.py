"""The pytest plugin, as the author of a plugin uses it."""

from __future__ import annotations

import pytest

from x2kit.testing import checks

pytest_plugins = ["pytester"]

PLUGIN = """
from pathlib import Path
from typing import TYPE_CHECKING
from pydantic import Field
from x2kit.plugin import FusionEncoderConfig, FusionFacts
{heavy}

class Adder(FusionEncoderConfig):
    '''Adds what it sees.'''

    layers: int = Field(1, description="layers")

    def describe(self, text_width, context_width):
        return FusionFacts(text_width, self.layers)

    def build(self, text_width, context_width, assets=None):
        import adder_model
        return adder_model.Model(text_width, context_width)
"""

MODEL = """
from torch import nn
from x2kit.plugin import FusionEncoder

class Model(FusionEncoder):
    def __init__(self, width, context_width):
        super().__init__()
        self.width = width
        self.look = nn.Linear(context_width, width)

    def forward(self, text, text_mask, context, summary_rows=0):
        text = text * text_mask[..., None]
        out = text + text.mean(1, keepdim=True)
        if context is None:
            return out
        tokens, mask = context.expand()
        seen = (tokens * mask[..., None]).sum(1, keepdim=True) / mask.sum(1)[:, None, None]
        return out + self.look(seen)
"""

TEST = """
import pytest
from adder import Adder

@pytest.mark.conformance(Adder(), text_width=8)
def test_it_keeps_the_contract(conformance):
    conformance()
"""


def run(pytester: pytest.Pytester, test: str, heavy: str = "") -> pytest.RunResult:
    pytester.makepyfile(adder=PLUGIN.format(heavy=heavy), adder_model=MODEL, test_adder=test)
    pytester.syspathinsert()
    return pytester.runpytest("-p", "no:cacheprovider", "--strict-markers")


def test_a_marked_test_runs_every_check(pytester: pytest.Pytester) -> None:
    run(pytester, TEST).assert_outcomes(passed=len(checks("fusion")))


def test_settings_that_import_torch_fail_their_check_alone(pytester: pytest.Pytester) -> None:
    result = run(pytester, TEST, heavy="import torch")
    result.assert_outcomes(passed=len(checks("fusion")) - 1, failed=1)
    result.stdout.fnmatch_lines(["*importing adder imports torch; move it into build()*"])


def test_the_fixture_without_the_mark_says_what_is_missing(pytester: pytest.Pytester) -> None:
    result = run(pytester, "def test_it(conformance): conformance()")
    result.stdout.fnmatch_lines(["*the fixture conformance needs @pytest.mark.conformance(component, ...)*"])
