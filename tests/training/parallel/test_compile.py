"""torch.compile of the layers: equal losses and gradients, no recompilation for other batch shapes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from tests.benchmarks.step import CPU, our_step
from tests.benchmarks.step_batch import Task, make_task
from tests.training.conftest import Written
from x2kit.model.device import autocast
from x2kit.training.parallel.activation_checkpointing import checkpoint_activations
from x2kit.training.parallel.compile import compile_layers

pytestmark = pytest.mark.slow

SIZES = {
    "vision": {"image_size": 32, "width": 32, "depth": 2, "heads": 2},
    "text": {"layers": 2, "width": 32, "heads": 2, "vocab_size": 200, "max_length": 40},
    "fusion": {"layers": 2, "heads": 2},
}
SETTINGS: dict[str, object] = {
    f"model.{part}.init_args.{key}": value for part, of in SIZES.items() for key, value in of.items()
}
TOLERANCE = 1e-5
"""Of losses, and of gradients relative to their norm: compiled code sums in another order."""


@pytest.fixture
def task() -> Iterator[Task]:
    torch._dynamo.reset()
    yield make_task(2, SETTINGS)
    torch._dynamo.reset()


def differentiated(task: Task) -> tuple[dict[str, Tensor], Tensor]:
    """Return the losses and all gradients in one vector."""
    losses = our_step(task)()
    gradients = [p.grad.flatten() for p in task.model.parameters() if p.grad is not None]
    return losses, torch.cat(gradients)


def test_losses_and_gradients_are_the_same(task: Task) -> None:
    losses, gradients = differentiated(task)
    names = list(task.model.state_dict())
    assert compile_layers(task.model, CPU) == 6
    assert list(task.model.state_dict()) == names
    again, found = differentiated(task)
    torch.testing.assert_close(again, losses, rtol=0, atol=TOLERANCE)
    assert float((found - gradients).norm() / gradients.norm()) < TOLERANCE


def test_other_lengths_and_numbers_of_rows_cause_no_recompilation(
    task: Task, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # guards on sizes alone
    compile_layers(task.model, CPU)
    for images, tokens in ((2, None), (3, 24), (5, 32)):
        differentiated(make_task(images, SETTINGS, tokens=tokens)._replace(model=task.model))
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for images, tokens in ((4, 16), (6, 40), (7, None)):
        differentiated(make_task(images, SETTINGS, tokens=tokens)._replace(model=task.model))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before > 0


def test_error_without_a_compiler_names_the_requirement(tmp_path: Path) -> None:
    program = (
        "import torch\nfrom x2kit.errors import X2KitError\n"
        "from x2kit.training.parallel.compile import require_compiler\n"
        "try:\n    require_compiler(torch.device('cpu'))\nexcept X2KitError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "CXX": "no-such-compiler", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("training.compile: cannot compile for cpu: ")
    assert "a C++ compiler (g++ or clang, or the one that CXX names)" in done.stdout
    assert "--training.compile false" in done.stdout


def test_recipe_key_turns_it_on(written: Written) -> None:
    assert not written().recipe.training.compile
    assert written(compile=True).recipe.training.compile


class Block(nn.Module):
    """A layer with dropout, small enough to compile in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.output, self.dropout = nn.Linear(16, 32), nn.Linear(32, 16), nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = x + self.output(self.dropout(torch.tanh(self.inner(x))))
        return hidden


def run(layers: nn.ModuleList, precision: str) -> list[Tensor]:
    """Return the output and all gradients of a seeded step."""
    torch.manual_seed(1)
    layers.zero_grad()
    x = torch.linspace(-1, 1, 5 * 16).view(5, 16)
    with autocast(CPU, precision):
        for layer in layers:
            x = layer(x)
    x.float().square().sum().backward()
    return [x.detach(), *(p.grad for p in layers.parameters() if p.grad is not None)]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_layers_are_recomputed_with_equal_dropout(precision: str) -> None:
    torch._dynamo.reset()
    model = nn.ModuleDict({"stack": nn.ModuleList(Block() for _ in range(2))})
    compile_layers(model, CPU)
    expected = run(model["stack"], precision)
    graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert checkpoint_activations(model, lambda: autocast(CPU, precision)) == 2
    torch.testing.assert_close(run(model["stack"], precision), expected, rtol=0, atol=0)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == graphs  # the same code both times
    assert not torch.equal(expected[0], run(model.eval()["stack"], precision)[0])  # dropout is on
    torch._dynamo.reset()
