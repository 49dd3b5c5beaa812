from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from x2kit.data.storage.index_cache import FINGERPRINT_FORM
from x2kit.errors import CheckpointError
from x2kit.model import X2VLM
from x2kit.training.checkpoint.checkpoints import save_checkpoint
from x2kit.training.checkpoint.resume import require_same_data, restore_model, restore_optimizer, resume_from
from x2kit.training.config import TrainingConfig
from x2kit.training.optim.optimizer import build_optimizer


def test_leftovers_are_removed_before_loading(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 3, {"step": 3}, {})
    (tmp_path / "checkpoints/.step-0000004.4711.partial").mkdir()
    (tmp_path / ".weights.4711.partial").mkdir()
    state, messages = resume_from(tmp_path, steps=3)
    assert state == {"step": 3}
    assert len(messages) == 3
    assert messages[-1] == "resumed after step 3"
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoints"]


def test_fewer_steps_than_done_are_refused(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, 9, {"step": 9}, {})
    with pytest.raises(CheckpointError) as error:
        resume_from(tmp_path, steps=8)
    assert str(error.value) == "training.steps: 8, but the run has done 9 steps already; set it to 9 or more"


def never(form: int) -> dict[str, str]:
    raise AssertionError(f"computed in form {form}")


def record(run: Path, **facts: object) -> None:
    (run / "versions.json").write_text(json.dumps(facts))


def test_changed_records_are_refused_by_stream(tmp_path: Path) -> None:
    record(tmp_path, data={"images": "a1", "texts": "b2"}, fingerprint_form=FINGERPRINT_FORM)
    require_same_data(tmp_path, {"images": "a1", "texts": "b2"}, never)
    with pytest.raises(CheckpointError) as error:
        require_same_data(tmp_path, {"images": "a1", "texts": "c3"}, never)
    assert str(error.value).splitlines()[1:] == [
        "  data.streams.texts: b2 before, c3 now",
        "  restore the data, or start another run",
    ]


def test_fingerprints_of_earlier_versions_are_compared_in_their_form(tmp_path: Path) -> None:
    record(tmp_path, data={"images": "a1"})
    require_same_data(tmp_path, {"images": "a1"}, never)  # of small data both forms are equal
    require_same_data(tmp_path, {"images": "a2"}, {1: {"images": "a1"}}.__getitem__)
    with pytest.raises(CheckpointError, match="a1 before, a3 now"):
        require_same_data(tmp_path, {"images": "a2"}, {1: {"images": "a3"}}.__getitem__)


def test_a_run_without_fingerprints_is_not_compared(tmp_path: Path) -> None:
    require_same_data(tmp_path, {"images": "a1"}, never)


def test_a_model_with_other_parameters_is_refused(model: X2VLM) -> None:
    with pytest.raises(CheckpointError, match="the checkpoint is of another model"):
        restore_model(model, {"absent": torch.zeros(1)})


def test_averages_are_restored_and_rates_are_the_recipes(model: X2VLM) -> None:
    """Another learning rate changes the groups; averages are matched by name."""
    before = build_optimizer(model, TrainingConfig(lr=0.1, weight_decay=0.2))
    for parameter in model.parameters():
        parameter.grad = torch.rand_like(parameter)
    before.step()
    known = {name: before.state[p]["exp_avg"].clone() for name, p in model.named_parameters()}
    saved = before.state_dict()
    after = build_optimizer(model, TrainingConfig(lr=0.05, vision_lr=0.3, weight_decay=0.0))
    assert len(after.param_groups) != len(saved["param_groups"])
    restore_optimizer(after, saved)
    for name, parameter in model.named_parameters():
        assert torch.equal(after.state[parameter]["exp_avg"], known[name]), name
    assert {group["peak"] for group in after.param_groups} <= {0.05, 0.1, 0.3}
    assert {group["weight_decay"] for group in after.param_groups} == {0.0}
