"""Contrastive loss and gradients on two ranks equal those recorded on each."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from safetensors.torch import load_file
from torch import Tensor, distributed
from torch.testing import assert_close

from tests.objectives.processes import in_processes
from x2kit.objectives import GatherGradient, contrastive_logits, gather_over_processes, itc_loss

from .conftest import REFERENCE
from .evidence import check

FILE = "dist/itc_two_processes.safetensors"
LOSS = 1e-5
RELATIVE = 1e-4
NOISE = 1e-6

Found = dict[str, Tensor]
"""By name as recorded, without the process."""


def contrast(recorded: Found, kinds: Sequence[str], gradient: GatherGradient) -> Found:
    """In one of the processes: each kind of the loss on its own rows and those of the others."""
    rank, found = distributed.get_rank(), {}
    for kind in kinds:
        image, text = (
            recorded[f"in.{name}_feat"][rank].clone().requires_grad_() for name in ("image", "text")
        )
        temperature = recorded["in.temp"].clone().requires_grad_()
        images, texts, group = gather_over_processes(image, text, recorded["in.idx"][rank], gradient=gradient)
        logits = contrastive_logits(images, texts, temperature)
        loss = itc_loss(logits, {"plain": None, "idx": group}[kind])
        loss.backward()
        found |= {
            f"{kind}.loss": loss.detach(),
            f"{kind}.grad_image_feat": image.grad,
            f"{kind}.grad_text_feat": text.grad,
            f"{kind}.grad_temp": temperature.grad,
        }
    return found


RECORDED = load_file(REFERENCE / FILE)
COUNT = len(RECORDED["in.image_feat"])
OUTPUTS = sorted(name for name in RECORDED if not name.startswith("in."))
KINDS = sorted({name.split(".")[1] for name in OUTPUTS})


def both(recorded: Found, kinds: Sequence[str]) -> dict[GatherGradient, Found]:
    """In one of the processes."""
    return {
        "exact": contrast(recorded, kinds, "exact"),
        "official": contrast(recorded, kinds, "official"),
    }


@pytest.fixture(scope="module")
def processes(tmp_path_factory: pytest.TempPathFactory) -> dict[GatherGradient, Found]:
    """Results of all ranks, by gradient and recorded name."""
    ranks = in_processes(COUNT, tmp_path_factory.mktemp("processes"), both, RECORDED, KINDS)
    return {
        gradient: {
            f"rank{rank}.{name}": value
            for rank in range(COUNT)
            for name, value in ranks[rank][gradient].items()
        }
        for gradient in ranks[0]
    }


@pytest.mark.parametrize("name", OUTPUTS)
def test_losses_and_official_gradients(processes: dict[GatherGradient, Found], name: str) -> None:
    limits = {"atol": LOSS} if name.endswith("loss") else {"atol": NOISE, "rtol": RELATIVE}
    check(FILE, name, processes["official"][name], RECORDED[name], **limits)


def test_every_rank_and_kind_is_recorded(processes: dict[GatherGradient, Found]) -> None:
    assert sorted(processes["official"]) == OUTPUTS


def test_exact_feature_gradients_are_the_official_ones_times_the_number_of_ranks(
    processes: dict[GatherGradient, Found],
) -> None:
    """All ranks have the same loss, so the sum of their gradients is one rank's times their number."""
    for name, value in processes["exact"].items():
        times = COUNT if name.endswith("_feat") else 1
        assert_close(value, times * processes["official"][name])
