"""Training runs: losses, logs, checkpoints, resuming, requests to stop."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from x2kit.distributed.processes import Processes
from x2kit.errors import X2KitError
from x2kit.io.run_directory import read_metrics
from x2kit.model import X2VLM, device, load
from x2kit.recipe.reading import ResolvedRecipe
from x2kit.training import stepper, train
from x2kit.training.checkpoint.checkpoints import checkpoints
from x2kit.training.checkpoint.resume import data_facts
from x2kit.training.logging import progress
from x2kit.training.logging.progress import StepProgress
from x2kit.training.logging.run_record import recorded_facts
from x2kit.training.trainer import Trainer, stop_requests

from .conftest import Written

LOSSES = {
    "images": ("itc", "itm", "mlm"),
    "regions": ("itc", "itm", "mlm", "bbox", "giou"),
    "parallel": ("ttc", "ttm", "tlm"),
}
SHARES = (".padding", "_accuracy")
COUNTS = ("regions.images_", "regions.rows_")
TIMES = {"time", "seconds", "samples_per_second", "data_wait_share"}


def is_loss(name: str) -> bool:
    """Whether a value of metrics.jsonl is a loss of a stream."""
    return "." in name and not name.endswith(SHARES) and not name.startswith(COUNTS)


def run(resolved: ResolvedRecipe, directory: Path, resume: bool = False) -> bytes:
    """Train, and return the bytes of the final weights."""
    weights = train(resolved.recipe, resolved.plugins, directory, resume)
    return (weights / "model.safetensors").read_bytes()


def numbers(directory: Path) -> list[dict[str, Any]]:
    """Read the metrics without times."""
    return [{k: v for k, v in line.items() if k not in TIMES} for line in read_metrics(directory)]


def after(monkeypatch: pytest.MonkeyPatch, step: int, act: Any) -> None:
    """Call `act` with the trainer after a step."""
    ordinary = Trainer.step

    def stepped(self: Trainer, batch: Any) -> Any:
        values = ordinary(self, batch)
        if self.done + 1 == step:
            act(self)
        return values

    monkeypatch.setattr(Trainer, "step", stepped)


def test_run_writes_weights_metrics_and_checkpoints(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    directory = tmp_path / "run"
    run(written(), directory)
    assert sorted(path.name for path in directory.iterdir()) == [
        "bad-records-counts.json",
        "bad-records.jsonl",
        "checkpoints",
        "lock",
        "metrics.jsonl",
        "plugins",
        "plugins.json",
        "recipe.yaml",
        "versions.json",
        "weights",
    ]
    lines = read_metrics(directory)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    wanted = {f"{stream}.{loss}" for stream, losses in LOSSES.items() for loss in losses}
    assert set(lines[0]) == wanted | TIMES | {
        "step",
        "loss",
        "lr",
        "gradient_norm",
        "temperature",
        "temperature_clamped",
        "bad_records",
        "images.padding",
        "regions.padding",
        "regions.images_held",
        "regions.images_over_limit",
        "regions.rows_over_limit",
        "parallel.padding",
        "images.itm_positive_accuracy",
        "images.itm_negative_accuracy",
        "regions.itm_positive_accuracy",
        "regions.itm_negative_accuracy",
        "parallel.ttm_positive_accuracy",
        "parallel.ttm_negative_accuracy",
    }
    assert [round(line["lr"], 6) for line in lines] == [0.0, 0.01, 0.008, 0.006, 0.004, 0.002]
    assert [path.name for path in checkpoints(directory)] == ["step-0000004", "step-0000006"]
    facts = json.loads((directory / "versions.json").read_text())
    assert facts["seed"] == 42
    assert sorted(facts["data"]) == ["images", "parallel", "regions"]
    assert not load(directory).training
    assert f"weights: {directory}/weights" in capsys.readouterr().out


def test_loss_falls(written: Written, tmp_path: Path) -> None:
    run(written(steps=80, lr=0.02, log_every=1, checkpoint_every=100), tmp_path / "run")
    losses = [line["loss"] for line in read_metrics(tmp_path / "run")]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_total_loss_is_weighted_by_stream_and_loss(written: Written, tmp_path: Path) -> None:
    streams = {"images": {"weight": 0.5, "losses": {"mlm": 3.0}}, "regions": {"losses": {"giou": 0}}}
    run(written(streams, steps=1), tmp_path / "run")
    (line,) = read_metrics(tmp_path / "run")
    assert "regions.giou" not in line
    weights = {"images.itc": 0.5, "images.itm": 0.5, "images.mlm": 1.5}
    parts = [value * weights.get(name, 1) for name, value in line.items() if is_loss(name)]
    assert line["loss"] == pytest.approx(sum(parts), rel=1e-5)


def test_losses_start_and_stop_at_their_share_of_the_steps(written: Written, tmp_path: Path) -> None:
    streams = {
        "images": {"losses": {"itm": {"start": 0.5}, "mlm": {"stop": 0.5}}},
        "parallel": {"losses": {loss: {"start": 0.75} for loss in ("ttc", "ttm", "tlm")}},
    }
    run(written(streams, steps=4), tmp_path / "run")
    on = [
        {name for name in line if is_loss(name)} - {f"regions.{l}" for l in LOSSES["regions"]}
        for line in read_metrics(tmp_path / "run")
    ]
    parallel = {"parallel.ttc", "parallel.ttm", "parallel.tlm"}
    early, late = {"images.itc", "images.mlm"}, {"images.itc", "images.itm"}
    assert on == [early, early, late, late | parallel]


def test_run_without_a_loss_is_refused(written: Written, tmp_path: Path) -> None:
    off = {name: {"losses": {loss: {"start": 0.5} for loss in losses}} for name, losses in LOSSES.items()}
    with pytest.raises(X2KitError, match=r"step 0: no loss is on; see data\.streams\.\*\.losses"):
        run(written(off, steps=4), tmp_path / "run")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_equal_runs_have_equal_weights(written: Written, tmp_path: Path, precision: str) -> None:
    resolved = written(precision=precision)
    assert run(resolved, tmp_path / "one") == run(resolved, tmp_path / "two")
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")


def test_precision_auto_is_chosen_once_and_recorded(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumed run reads the recipe of the run, so that another measurement cannot change its precision."""
    monkeypatch.setattr(device, "has_bf16", lambda _: True)
    monkeypatch.setattr(device, "bf16_gain", iter([1.5, 0.5]).__next__)
    run(written(precision="auto", steps=1), tmp_path / "run")
    assert "precision: bf16" in (tmp_path / "run/recipe.yaml").read_text()
    assert json.loads((tmp_path / "run/versions.json").read_text())["precision"] == "bf16"


def test_every_operation_has_a_deterministic_algorithm(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    plain = run(written(steps=3), tmp_path / "plain")
    try:
        deterministic = run(written(steps=3, deterministic=True), tmp_path / "deterministic")
        assert torch.are_deterministic_algorithms_enabled()
        assert os.environ.pop("CUBLAS_WORKSPACE_CONFIG") == ":4096:8"
    finally:
        torch.use_deterministic_algorithms(False)
    assert deterministic == plain


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_data_workers_of_any_start_method_read_a_source_of_a_file_plugin(
    written: Written, tmp_path: Path, method: str
) -> None:
    plain = run(written(steps=2), tmp_path / "plain")
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(method, force=True)
    try:
        resolved = written(steps=2)
        data = resolved.recipe.data.model_copy(update={"num_workers": 1})
        with_worker = replace(resolved, recipe=resolved.recipe.model_copy(update={"data": data}))
        assert run(with_worker, tmp_path / "worker") == plain
    finally:
        multiprocessing.set_start_method(before, force=True)


def test_another_seed_changes_the_weights(written: Written, tmp_path: Path) -> None:
    assert run(written(seed=1), tmp_path / "one") != run(written(seed=2), tmp_path / "two")


def test_random_state_of_the_caller_changes_nothing(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = run(written(), tmp_path / "one")
    after(monkeypatch, 2, lambda trainer: torch.rand(100))
    assert run(written(), tmp_path / "two") == plain


class Crash(Exception):
    pass


def crash(trainer: Trainer) -> None:
    raise Crash


@pytest.mark.parametrize("step", [3, 4, 5])
def test_crashed_run_resumes_to_the_same_weights(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    plain = run(written(), tmp_path / "plain")
    with monkeypatch.context() as patch:
        after(patch, step, crash)
        with pytest.raises(Crash):
            run(written(), tmp_path / "crashed")
    assert len(read_metrics(tmp_path / "crashed")) == step - 1
    assert run(written(), tmp_path / "crashed", resume=True) == plain
    assert numbers(tmp_path / "crashed") == numbers(tmp_path / "plain")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_run_saves_and_prints_the_command_to_resume(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    plain = run(written(), tmp_path / "plain")
    handlers = [signal.getsignal(other) for other in (signal.SIGINT, signal.SIGTERM)]
    with monkeypatch.context() as patch:
        after(patch, 3, lambda trainer: os.kill(os.getpid(), number))
        with pytest.raises(KeyboardInterrupt) as stopped:
            run(written(), tmp_path / "run")
    assert str(stopped.value) == (
        f"stopped after step 3, saved; resume with: x2kit train --resume --run-dir {tmp_path}/run"
    )
    assert checkpoints(tmp_path / "run")[-1].name == "step-0000003"
    assert not (tmp_path / "run/weights").exists()
    assert [signal.getsignal(other) for other in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert run(written(), tmp_path / "run", resume=True) == plain


def test_second_ctrl_c_interrupts_the_run(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def twice(trainer: Trainer) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)

    after(monkeypatch, 3, twice)
    with pytest.raises(KeyboardInterrupt, match="stopped at once; the newest checkpoint is kept"):
        run(written(), tmp_path / "run")
    assert checkpoints(tmp_path / "run")[-1].name == "step-0000002"


def test_stop_request_in_the_last_step_ends_the_run_normally(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    after(monkeypatch, 6, lambda trainer: os.kill(os.getpid(), signal.SIGTERM))
    run(written(), tmp_path / "run")
    assert (tmp_path / "run/weights/model.safetensors").exists()


def test_finished_run_can_be_resumed_for_its_weights(written: Written, tmp_path: Path) -> None:
    plain = run(written(), tmp_path / "run")
    (tmp_path / "run/weights/model.safetensors").unlink()
    assert run(written(), tmp_path / "run", resume=True) == plain


def test_run_without_a_checkpoint_restarts(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = run(written(), tmp_path / "whole")
    assert run(written(), tmp_path / "run", resume=True) == plain
    assert "no checkpoint yet, starting at the first step" in capsys.readouterr().out


@pytest.mark.parametrize("metric", ["loss", "images.itc"])
def test_async_saving_changes_no_number(written: Written, tmp_path: Path, metric: str) -> None:
    plain = run(written(), tmp_path / "whole")
    assert run(written(async_saving=True, keep_every=4, keep_best=metric), tmp_path / "run") == plain


def test_damaged_checkpoint_is_reported_and_the_previous_one_used(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain = run(written(), tmp_path / "run")
    (checkpoints(tmp_path / "run")[-1] / "state.pt").write_bytes(b"")
    assert run(written(), tmp_path / "run", resume=True) == plain
    assert (
        "step-0000006: damaged, using the previous one: state.pt: its checksum differs"
        in capsys.readouterr().out
    )


def test_broken_records_are_counted_and_too_many_stop_the_run(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    resolved = written(
        {
            "images": {"source": {"class_path": "Scenes", "init_args": {"undecodable": [1, 2, 3]}}},
            "regions": {"source": {"class_path": "Scenes", "init_args": {"undecodable": [1, 2, 3]}}},
        }
    )
    run(resolved, tmp_path / "run")
    assert "6 in stream images: image not readable" in capsys.readouterr().out
    strict = resolved.recipe.data.model_copy(update={"max_bad_share": 0.005})
    recipe = resolved.recipe.model_copy(update={"data": strict})
    with pytest.raises(X2KitError, match=r"more records are broken than data\.max_bad_share = 0\.005 allows"):
        train(recipe, resolved.plugins, tmp_path / "strict")


def test_temperatures_are_clamped_before_every_step(
    written: Written, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    plain = stepper.step_losses

    def watch(model: X2VLM, *rest: Any, **named: Any) -> Any:
        seen.append(model.temperature.item())
        return plain(model, *rest, **named)

    monkeypatch.setattr(stepper, "step_losses", watch)
    after(monkeypatch, 2, lambda trainer: torch.nn.init.constant_(trainer.model.temperature, 9.0))
    run(written(steps=3), tmp_path / "run")
    assert seen[2] == 0.5


class SecondOfTwo(Processes):
    """Rank 1, after rank 0 sent the fingerprints."""

    def from_rank_zero(self, value: Any) -> Any:
        assert value is None
        return {"images": "a1"}


def test_only_rank_0_computes_fingerprints() -> None:
    class Unread:
        def fingerprints(self) -> dict[str, str]:
            raise AssertionError("read by rank 1")

    unpublished = SimpleNamespace(published=lambda: None)
    model = SimpleNamespace(vision=unpublished, text=unpublished, fusion=unpublished)
    recipe = SimpleNamespace(training=SimpleNamespace(seed=0), model=model)
    plugins = SimpleNamespace(states=[])
    facts: Any = recorded_facts
    found: Any = data_facts
    data = found(Unread(), SecondOfTwo(rank=1, count=2), None)
    assert facts(recipe, plugins, data)["data"] == {"images": "a1"}


def test_later_losses_are_announced_and_counted_in_the_time_left(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: list[Any] = []
    monkeypatch.setattr(StepProgress, "expect", lambda self, costs: expected.extend(costs))
    run(written({"images": {"losses": {"itm": {"start": 0.5}, "mlm": {"start": 0.5}}}}), tmp_path / "run")
    assert [stop for stop, _ in expected] == [3, 6]
    assert 0 < expected[0][1] < expected[1][1]
    value = read_metrics(tmp_path / "run")[3]["images.itm"]
    said = [line for line in capsys.readouterr().out.splitlines() if "since step 3" in line]
    assert len(said) == 1
    assert f"images.itm {value:.3g}" in said[0]


def test_model_that_fails_on_meta_tensors_is_trained(
    written: Written, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> list[int]:
        raise NotImplementedError("no meta kernel")

    monkeypatch.setattr(progress, "phase_costs", fail)
    run(written({"images": {"losses": {"itm": {"start": 0.5}}}}), tmp_path / "run")
    assert "NotImplementedError: no meta kernel" in capsys.readouterr().out


@pytest.mark.parametrize(("passed_on", "heard"), [(False, 1), (True, 2)])
def test_ctrl_c_is_collected_and_the_next_one_interrupts(passed_on: bool, heard: int) -> None:
    with stop_requests(passed_on) as asked:
        for _ in range(heard):
            os.kill(os.getpid(), signal.SIGINT)
        assert asked == [signal.SIGINT] * heard
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_sigterm_never_interrupts() -> None:
    with stop_requests() as asked:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
    assert asked == [signal.SIGTERM] * 3


def test_signal_handlers_are_restored() -> None:
    before = signal.getsignal(signal.SIGINT)
    with stop_requests():
        assert signal.getsignal(signal.SIGINT) is not before
    assert signal.getsignal(signal.SIGINT) is before
