"""The usual mistakes of encoders, each in a file of `wrong/`: the kit names it, and passes the right twin."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.testing.wrong.adapters_unused import AdaptersUnused
from tests.testing.wrong.fixed_dtype import FixedDtype
from tests.testing.wrong.gradient_stops import GradientStops
from tests.testing.wrong.imports_torch import ImportsTorch
from tests.testing.wrong.mask_ignored import MaskIgnored
from tests.testing.wrong.padding_leaks import PaddingLeaks
from tests.testing.wrong.random_in_evaluation import RandomInEvaluation
from tests.testing.wrong.remembers_calls import RemembersCalls
from tests.testing.wrong.right import RightFusion, RightText, RightVision
from tests.testing.wrong.rows_mix import RowsMix
from tests.testing.wrong.settings_lost import SettingsLost
from tests.testing.wrong.shared_state import SharedState
from tests.testing.wrong.sizes_fixed import SizesFixed
from tests.testing.wrong.small_vocabulary import SmallVocabulary
from tests.testing.wrong.summary_of_one_patch import SummaryOfOnePatch
from tests.testing.wrong.tokenizer_changes import TokenizerChanges
from tests.testing.wrong.weights_not_saved import WeightsNotSaved
from tests.testing.wrong.writes_into_its_input import WritesIntoItsInput
from tests.testing.wrong.wrong_grid import WrongGrid
from tests.testing.wrong.wrong_width import WrongWidth
from x2kit.plugin.components import ComponentConfig
from x2kit.testing import checks

MISTAKES = [
    (PaddingLeaks(), "padding_changes_nothing", "kept positions change when a text is padded"),
    (SummaryOfOnePatch(), "the_summary_is_of_the_patches", "the summary does not depend on all patches"),
    (MaskIgnored(), "a_region_hides_the_rest", "a row sees context tokens that its mask hides"),
    (FixedDtype(), "it_follows_its_dtype", r"moved to float64 it returns torch\.float32"),
    (WeightsNotSaved(), "saved_and_loaded_it_is_the_same", "saved, .* and loaded, it computes something else"),
    (RandomInEvaluation(), "evaluation_is_deterministic", "two runs in eval mode differ"),
    (SharedState(), "instances_share_nothing", r"two encoders share state: project\.weight"),
    (SettingsLost(width=16), "settings_survive_a_recipe", "written to YAML and read back it is"),
    (TokenizerChanges(), "the_tokenizer_survives_saving", "texts have other ids after it is saved and read"),
    (ImportsTorch(), "the_module_imports_no_torch", r"importing tests\.testing\.wrong\.imports_torch imports torch"),
    (WrongGrid(), "shapes_are_as_declared", r"patches is \[4, 9, 8\], expected \[B, N, D\] = \[4, 8, 8\]"),
    (WrongWidth(), "shapes_are_as_declared", r"summary is \[4, 16\], expected \[B, D\] = \[4, 8\]"),
    (SmallVocabulary(), "the_vocabulary_fits", "the vocabulary does not match: the tokenizer has"),
    (GradientStops(), "gradients_reach_every_parameter", "the outputs have no graph"),
    (RowsMix(), "texts_do_not_mix", "rows influence each other"),
    (WritesIntoItsInput(), "its_inputs_stay_as_they_are", "it modifies its inputs"),
    (SizesFixed(), "it_is_exported_or_says_why_not", "torch.export cannot trace it with free batch"),
    (AdaptersUnused(), "adapted_layers_are_called", "mix is read without a call, so adapters in its place"),
    (RemembersCalls(), "calls_leave_nothing_behind", "a call changes the output of later calls"),
]  # fmt: skip
RIGHT = (RightVision(), RightText(), RightFusion())


@pytest.mark.conformance(*RIGHT)
def test_the_right_twins_pass(conformance: Callable[[], None]) -> None:
    conformance()


@pytest.mark.parametrize(
    ("wrong", "name", "said"), [pytest.param(*mistake, id=type(mistake[0]).__name__) for mistake in MISTAKES]
)
def test_a_mistake_is_found_by_a_check_that_names_it(wrong: ComponentConfig, name: str, said: str) -> None:
    law = {check.__name__: check for check in checks(wrong.kind)}[name]
    with pytest.raises(AssertionError, match=f"{wrong.component_name()}: {name}: .*{said}"):
        law(wrong)


def test_every_wrong_encoder_is_tried() -> None:
    files = {file.stem for file in (Path(__file__).parent / "wrong").glob("*.py")} - {"right", "networks"}
    tried: set[Any] = {type(wrong).__module__.rpartition(".")[2] for wrong, _, _ in MISTAKES}
    assert tried == files
    assert len(files) >= 15
