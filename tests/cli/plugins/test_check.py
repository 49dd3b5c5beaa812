"""`x2kit plugins check`: what it says of plugins that keep their contract and of plugins that do not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

PLUGIN = """
from pydantic import Field
from x2kit.plugin import TaskConfig, hookimpl

class Counting(TaskConfig):
    '''Counts.'''

    limit: int = Field(3, description="the last number")

    def run(self, context):
        return {"count": self.limit}

class Silent(TaskConfig):
    '''Counts up to what it is given.'''

    limit: int

    def run(self, context):
        return {"count": self.limit}

@hookimpl
def x2kit_register(registry):
    registry.add(Counting)
    registry.add(Silent)
"""


@pytest.fixture
def file(folder: Path) -> Path:
    file = folder / "counting.py"
    file.write_text(PLUGIN)
    return file


def test_every_check_of_a_component_is_printed(file: Path, x2kit: Callable[..., object]) -> None:
    done = x2kit("plugins", "check", "counting.py", "--component", "Counting")
    first, *lines, last = done.out.splitlines()
    assert (done.status, first, last) == (
        0,
        "Counting (task, plugin counting)",
        f"{len(lines)} passed, 0 failed",
    )
    assert "  pass  settings_survive_a_recipe" in lines


def test_a_failed_check_prints_its_reason_and_returns_1(file: Path, x2kit: Callable[..., object]) -> None:
    done = x2kit("plugins", "check", "counting.py", "--component", "Silent", "--set", "limit=4")
    assert done.status == 1
    assert (
        "  FAIL  every_setting_is_described\n        no description for: limit; write Field(..., description=...)\n"
        in done.out
    )
    assert done.out.splitlines()[-1].endswith(" passed, 1 failed")


def test_a_component_that_needs_settings_is_a_failure_that_names_them(
    file: Path, x2kit: Callable[..., object]
) -> None:
    done = x2kit("plugins", "check", "counting.py")
    assert done.status == 1
    assert "limit: missing; give settings with --component and --set KEY=VALUE" in done.out


def test_an_invalid_setting_is_reported_as_in_a_recipe(file: Path, x2kit: Callable[..., object]) -> None:
    wrong = ("--set", "limit=many", "--set", "limits=4")
    done = x2kit("plugins", "check", "counting.py", "--component", "Counting", *wrong)
    assert done.status == 1
    assert 'limit: should be an integer, found "many"' in done.out
    assert "limits: no setting of Counting; nearest: limit; known: max_words, max_tokens, limit" in done.out


def test_torch_at_the_top_of_a_file_is_a_note_and_in_an_installed_plugin_a_failure(
    file: Path, x2kit: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy = "import torch\n" + PLUGIN.replace("    limit: int\n", "    limit: int = 2\n")
    file.write_text(heavy.replace("Counting", "Heavy"))
    done = x2kit("plugins", "check", "counting.py", "--component", "Heavy", "--json")
    (note,) = [entry for entry in json.loads(done.out) if entry["message"]]
    assert (done.status, note["check"], note["passed"]) == (0, "the_module_imports_no_torch", True)
    assert "imports torch; move it into build()" in note["message"]

    site = file.parent / "site"
    (site / "acme-1.0.dist-info").mkdir(parents=True)
    (site / "acme-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (site / "acme-1.0.dist-info" / "entry_points.txt").write_text("[x2kit]\nacme_heavy = acme_heavy\n")
    (site / "acme_heavy.py").write_text(heavy.replace("Counting", "Heavy"))
    monkeypatch.syspath_prepend(str(site))
    done = x2kit("plugins", "check", "acme_heavy", "--component", "Heavy")
    assert done.status == 1
    assert "  FAIL  the_module_imports_no_torch" in done.out


def test_results_are_printed_as_json(file: Path, x2kit: Callable[..., object]) -> None:
    done = x2kit("plugins", "check", "counting.py", "--component", "Silent", "--set", "limit=4", "--json")
    outcomes = json.loads(done.out)
    assert done.status == 1
    assert [entry for entry in outcomes if not entry["passed"]] == [
        {
            "component": "Silent",
            "kind": "task",
            "check": "every_setting_is_described",
            "passed": False,
            "message": "no description for: limit; write Field(..., description=...)",
        }
    ]


TASK = """
from torch import nn
from torch.nn import functional as F
from x2kit.plugin import DataError, HeadConfig, Reason, Task, TaskConfig, TaskRow, hookimpl

class TruthHead(HeadConfig):
    '''A linear layer.'''

    def build(self, width):
        return nn.Linear(width, 2)

class Truth(TaskConfig):
    '''Is the caption true.'''

    losses = ("truth",)

    def missing_heads(self, heads):
        return {} if "truth" in heads.extra else {"extra": "missing: truth"}

    def build(self):
        return TruthTask(self)

class TruthTask(Task):
    def draw(self, record, reader):
        if missing := {"image", "caption", "label"}.difference(record):
            raise DataError(f"missing: {', '.join(sorted(missing))}", reason=Reason.FIELD_MISSING)
        label = int(record["label"])
        return TaskRow([reader.image(record["image"])], [reader.text(record["caption"])], {"label": label}, label)

    def logits(self, model, fused):
        return model.extra_heads["truth"](fused[0].states[:, 0]).float()

    def loss(self, model, fused, targets):
        return {"truth": F.cross_entropy(self.logits(model, fused), targets["label"])}

    def predict(self, model, fused, targets):
        return self.logits(model, fused).argmax(1).tolist()

    def measure(self, predictions):
        right = sum(each.value == each.truth for each in predictions)
        return {"accuracy": right / len(predictions), "chance": 0.5, "rows": len(predictions)}

@hookimpl
def x2kit_register(registry):
    registry.add(TruthHead)
    registry.add(Truth)
"""


def test_a_task_without_records_is_not_counted_as_checked(folder: Path, x2kit: Callable[..., object]) -> None:
    (folder / "truth.py").write_text(TASK)
    done = x2kit("plugins", "check", "truth.py", "--component", "Truth")
    assert done.status == 0, done.out
    assert "  pass  it_can_be_used\n  skip  a_row_depends_on_its_record_and_generator\n" in done.out
    counts, needs = done.out.splitlines()[-2:]
    assert re.fullmatch(r"\d+ passed, 0 failed, \d+ not run:", counts)
    assert "--records FILE.jsonl --heads" in needs
    done = x2kit("plugins", "check", "truth.py", "--component", "Truth", "--json")
    assert None in {entry["passed"] for entry in json.loads(done.out)}


def test_a_task_is_checked_on_records_of_a_file(folder: Path, x2kit: Callable[..., object]) -> None:
    (folder / "truth.py").write_text(TASK)
    colours = ("red", "green", "blue", "white")
    for colour in colours:
        Image.new("RGB", (24, 24), colour).save(folder / f"{colour}.png")
    records = [
        {"image": f"{colour}.png", "caption": f"a {text} square", "label": int(colour == text)}
        for colour, text in zip(colours, ("red", "white", "blue", "green"), strict=True)
    ]
    (folder / "sample.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    arguments = ("plugins", "check", "truth.py", "--records", "sample.jsonl")
    done = x2kit(*arguments, "--heads", "{built: [], extra: {truth: TruthHead}}")
    assert done.status == 0, done.out
    assert " skip " not in done.out
    assert "  pass  training_lowers_the_loss" in done.out

    done = x2kit(*arguments)
    assert done.out.splitlines()[-1].startswith(
        "  needs a model with the task's heads; model.heads.extra: missing"
    )
    done = x2kit(*arguments, "--heads", "{answer: 3}")
    assert (done.status, "--heads {answer: 3}: " in done.err) == (2, True)
    done = x2kit("plugins", "check", "truth.py", "--records", "other.jsonl")
    assert (done.status, "other.jsonl" in done.err) == (2, True)


def test_an_installed_plugin_is_found_by_its_name(x2kit: Callable[..., object]) -> None:
    done = x2kit(
        "plugins", "check", "x2kit_fusion", "--component", "CrossBert",
        "--set", "width=16", "--set", "layers=1", "--set", "heads=2",
    )  # fmt: skip
    assert done.status == 0, done.out
    assert done.out.startswith("CrossBert (fusion, plugin x2kit_fusion)\n")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x2kit_fusoin"], "no plugin, distribution or module is called 'x2kit_fusoin'; nearest: x2kit_fusion"),
        (["x2kit_fusoin"], "installed: x2kit_data, "),
        (["counting"], "to check the file counting.py, write counting.py"),
        (["x2kit"], "distribution x2kit has several plugins; choose one: x2kit_data, "),
        (["missing.py"], "there is no file "),
        (["counting.py", "--component", "Countin"], "no component 'Countin'; nearest: Counting; it has "),
        (["counting.py", "--set", "limit"], "--set limit: expected KEY=VALUE"),
        (["counting.py", "--set", "limit={"], "is not valid YAML"),
    ],
)  # fmt: skip
def test_an_unknown_plugin_is_named(
    file: Path, x2kit: Callable[..., object], arguments: list[str], said: str
) -> None:
    done = x2kit("plugins", "check", *arguments)
    assert done.status == 2
    assert said in done.err
