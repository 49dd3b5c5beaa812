"""`x2kit recipes validate` says which encoder cannot be exported, before anything is trained."""

from __future__ import annotations

import json
from collections.abc import Callable

from tests.cli.conftest import Done

Subcommand = Callable[..., Done]
BIG_BIRD = ("--model.text", "HuggingFaceText", "--model.text.family", "big_bird")
RECIPE = ("recipes", "validate", "quickstart/multilingual", "--without-data")
REASON = "BigBird reads texts of more than 704 tokens by another attention than shorter ones"


def test_it_names_the_encoder_and_the_reason(x2kit: Subcommand) -> None:
    done = x2kit(*RECIPE, *BIG_BIRD)
    assert done.status == 0, done.err
    said = f"  text    HuggingFaceText cannot be exported (x2kit export): {REASON}"
    assert said in done.out.splitlines()


def test_json_has_the_reason_of_each_part(x2kit: Subcommand) -> None:
    (found,) = json.loads(x2kit(*RECIPE, *BIG_BIRD, "--json").out)
    reasons = {part: fact["no_export"] for part, fact in found["model"].items() if "no_export" in fact}
    assert reasons == {"text": REASON}


def test_nothing_is_said_of_encoders_that_can(x2kit: Subcommand) -> None:
    done = x2kit(*RECIPE)
    assert done.status == 0
    assert "export" not in done.out
