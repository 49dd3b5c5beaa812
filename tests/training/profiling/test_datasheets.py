"""Cards by the names that their drivers report."""

from __future__ import annotations

import pytest

from x2kit.training.profiling.datasheets import ACCELERATORS, accelerator_named


@pytest.mark.parametrize(
    ("device", "name"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100"),
        ("NVIDIA A100 80GB PCIe", "a100"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
    ],
)
def test_cards_are_found_by_the_words_of_their_names(device: str, name: str) -> None:
    assert accelerator_named(device) == ACCELERATORS[name]


def test_other_cards_have_no_datasheet() -> None:
    assert accelerator_named("NVIDIA H100 NVL") is None
    assert accelerator_named("Tesla T4") is None


def test_the_precisions_of_a_recipe_have_a_peak() -> None:
    card = ACCELERATORS["h100"]
    assert [card.peak(precision) for precision in ("bf16", "fp16", "auto", "tf32", "fp32")] == [
        989e12,
        989e12,
        989e12,
        494e12,
        67e12,
    ]
