from __future__ import annotations

import os

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.testing import assert_close

from x2kit.errors import X2KitError
from x2kit.model import device as device_module
from x2kit.model.device import (
    autocast,
    bf16_gain,
    choose_device,
    choose_precision,
    use_deterministic_algorithms,
    use_matmul_precision,
)

CPU = torch.device("cpu")


@pytest.fixture
def attention() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Query, key, value and mask."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 8, generator=generator) for _ in range(3))
    return query, key, value, torch.rand(2, 1, 5, 5, generator=generator) > 0.3


def test_auto_picks_an_available_device() -> None:
    there = torch.cuda.is_available() or torch.backends.mps.is_available()
    assert (choose_device("auto").type == "cpu") == (not there)
    assert choose_device("cpu") == CPU


@pytest.mark.parametrize("name", ["cuda:99", "abacus"])
def test_an_unavailable_device_is_refused(name: str) -> None:
    with pytest.raises(X2KitError, match=f'training.device: "{name}" is not available: .*use "auto"'):
        choose_device(name)


@pytest.mark.parametrize(("before", "after"), [(None, ":4096:8"), (":16:8", ":16:8")])
def test_deterministic_algorithms_set_torch_and_cublas(
    monkeypatch: pytest.MonkeyPatch, before: str | None, after: str
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(torch, "use_deterministic_algorithms", asked.append)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", before or "")
    if before is None:
        monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    use_deterministic_algorithms()
    assert asked == [True]
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == after


def test_auto_avoids_emulated_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda = torch.device("cuda")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation)
    assert choose_precision("auto", cuda) == "fp32"  # as on V100 and T4
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    assert choose_precision("auto", cuda) == "bf16"


@pytest.mark.parametrize(
    ("instructions", "gain", "precision"), [(True, 1.5, "bf16"), (True, 0.9, "fp32"), (False, 1.5, "fp32")]
)
def test_auto_is_bf16_on_a_cpu_with_instructions_that_make_it_faster(
    monkeypatch: pytest.MonkeyPatch, instructions: bool, gain: float, precision: str
) -> None:
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: instructions)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    monkeypatch.setattr(device_module, "bf16_gain", lambda: gain)
    assert choose_precision("auto", CPU) == precision
    assert choose_precision("bf16", CPU) == "bf16"
    assert choose_precision("fp32", CPU) == "fp32"


def test_the_gain_of_bf16_is_measured_once_and_draws_no_number_of_the_run() -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    gain = bf16_gain()
    assert gain > 0
    assert bf16_gain() == gain
    assert torch.equal(torch.random.get_rng_state(), before)


def test_tf32_is_of_cuda_devices_and_of_the_whole_process(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_precision("tf32", torch.device("cuda")) == "tf32"
    assert choose_precision("tf32", CPU) == "fp32"
    asked: list[str] = []
    monkeypatch.setattr(torch, "set_float32_matmul_precision", asked.append)
    for precision in ("tf32", "fp32", "bf16"):
        use_matmul_precision(precision)
    assert asked == ["high", "highest", "highest"]
    with autocast(torch.device("cuda"), "tf32"):
        assert not torch.is_autocast_enabled("cuda")


def test_fp16_is_refused_without_loss_scaling() -> None:
    assert choose_precision("fp16", CPU) == "fp16"
    with pytest.raises(X2KitError, match=r"training\.precision: fp16 .* not on mps; use bf16 or fp32"):
        choose_precision("fp16", torch.device("mps"))


@pytest.mark.parametrize("named", [False, True])
def test_attention_under_bf16_equals_float32(
    attention: tuple[Tensor, Tensor, Tensor, Tensor], named: bool
) -> None:
    query, key, value, mask = attention
    plain = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    with autocast(CPU, "bf16"):
        if named:
            found = F.scaled_dot_product_attention(query=query, key=key, value=value, attn_mask=mask)
        else:
            found = F.scaled_dot_product_attention(query, key, value, mask)
    assert found.dtype == torch.float32
    assert torch.equal(found, plain)


def test_attention_of_half_precision_inputs_runs_in_float32(
    attention: tuple[Tensor, Tensor, Tensor, Tensor],
) -> None:
    *states, mask = attention
    half = [value.bfloat16() for value in states]
    with autocast(CPU, "bf16"):
        found = F.scaled_dot_product_attention(*half, attn_mask=mask)
    assert_close(found, F.scaled_dot_product_attention(*(v.float() for v in half), attn_mask=mask))


def test_matrix_products_follow_the_precision() -> None:
    x, layer = torch.randn(2, 4), torch.nn.Linear(4, 4)
    with autocast(CPU, "bf16"):
        assert layer(x).dtype == torch.bfloat16
    with autocast(CPU, "fp16"):
        assert layer(x).dtype == torch.float16
    with autocast(CPU, "fp32"):
        assert layer(x).dtype == torch.float32
    assert layer(x).dtype == torch.float32
