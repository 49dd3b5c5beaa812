from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from x2kit.errors import PluginError, WeightsError, X2KitError
from x2kit.publishing.facts import Facts, read_facts


def test_parts_have_their_parameters_and_plugins(facts: Facts) -> None:
    assert [part.role for part in facts.parts] == ["vision", "text", "fusion"]
    assert all(part.owner == "tiny.py" and part.parameters > 0 for part in facts.parts)
    assert sum(part.parameters for part in facts.parts) < facts.parameters
    assert facts.heads == ("itc", "itm", "bbox", "mlm")
    assert facts.width == 6


def test_file_plugins_are_named_with_their_hash(facts: Facts) -> None:
    (plugin,) = facts.plugins
    assert (plugin.name, plugin.kind) == ("tiny.py", "file")
    assert re.fullmatch("SHA-256 [0-9a-f]{64}", plugin.detail)


def test_languages_are_those_of_streams_with_images_and_those_only_measured(facts: Facts) -> None:
    assert facts.languages() == (("en", "de"), (), ("fr",))


def test_hours_are_those_of_the_steps(facts: Facts) -> None:
    assert facts.seconds == 7200


def test_files_of_tasks_are_not_results(facts: Facts) -> None:
    assert list(facts.results) == ["evaluation.json"]
    assert list(facts.left_out) == ["evaluation-retrieval-predictions-en.json"]


def test_results_of_other_weights_are_refused(run: Path) -> None:
    file = run / "evaluation.json"
    found = json.loads(file.read_text())
    found["checkpoint"]["sha256"] = "f" * 64
    file.write_text(json.dumps(found))
    with pytest.raises(X2KitError, match=r"measured with other weights.*\n  measure these: x2kit evaluate"):
        read_facts(run)


def test_weights_without_a_run_have_fewer_facts(run: Path, tmp_path: Path) -> None:
    alone = (run / "weights").rename(tmp_path / "alone")
    facts = read_facts(alone)
    assert facts.seconds is None
    assert [fact.partition(" (")[0] for fact in facts.missing] == [
        "versions, device and data fingerprints of the training",
        "steps and hours of the training",
        "results",
    ]


def test_a_damaged_record_is_named(run: Path) -> None:
    (run / "versions.json").write_text("{")
    with pytest.raises(X2KitError, match=r"versions.json: damaged"):
        read_facts(run)


def test_a_directory_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no weights"):
        read_facts(tmp_path)


def test_a_plugin_of_the_weights_is_not_imported_without_consent(run: Path) -> None:
    stranger = run / "weights" / "plugins" / "tiny.py"
    stranger.write_text(f"{stranger.read_text()}\nraise SystemExit('imported')\n")
    with pytest.raises(PluginError, match="--plugin"):
        read_facts(run)
