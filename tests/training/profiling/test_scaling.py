"""The predicted step follows from bytes, operations and records, and says what limits it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from x2kit.errors import X2KitError
from x2kit.training.profiling.scaling import (
    Hardware,
    Link,
    Workload,
    all_reduce,
    capacity,
    predict,
    read_hardware,
    shipped_hardware,
)
from x2kit.training.step import rank_exchange

INSIDE, BETWEEN = Link(bytes_per_second=100e9, seconds=0), Link(bytes_per_second=10e9, seconds=0)
HARDWARE = Hardware(
    sources="invented",
    flops=1e14,
    devices_per_node=8,
    inside=INSIDE,
    between=BETWEEN,
    overlap=0.0,
    cores=10,
    images_per_core=100,
    disk=1e9,
)
WORK = Workload(
    flops=8e14,
    parameters=25_000_000,
    features=0,
    feature_bytes=1024,
    fused=0,
    negative_bytes=0,
    records=0,
    exchanges=0,
)


def with_latency(seconds: float) -> Hardware:
    links = {
        "inside": INSIDE.model_copy(update={"seconds": seconds}),
        "between": BETWEEN.model_copy(update={"seconds": seconds}),
    }
    return HARDWARE.model_copy(update=links)


def test_one_rank_computes_and_waits_for_nobody() -> None:
    found = predict(
        replace(WORK, features=100, fused=10, negative_bytes=1000, exchanges=3), with_latency(1.0), 1
    )
    assert found.seconds == found.compute == 8.0
    assert found.efficiency == 1.0


def test_a_rank_computes_its_share() -> None:
    assert [predict(WORK, HARDWARE, ranks).compute for ranks in (1, 2, 8, 64)] == [8.0, 4.0, 1.0, 0.125]


def test_ranks_that_share_processors_compute_no_more_than_those() -> None:
    crowded = HARDWARE.model_copy(update={"devices": 2})
    assert [predict(WORK, crowded, ranks).compute for ranks in (1, 2, 4)] == [8.0, 4.0, 4.0]


def test_gradients_cross_a_node_once_and_the_network_in_shares() -> None:
    """100 MB over 8 devices: 2 * 7/8 of them; over 4 nodes each device sums an eighth, 2 * 3/4 of 12.5 MB."""
    assert all_reduce(100e6, HARDWARE, 8) == pytest.approx(2 * 7 / 8 * 100e6 / 100e9)
    between = 2 * 3 / 4 * 12.5e6 / 10e9
    assert all_reduce(100e6, HARDWARE, 32) == pytest.approx(2 * 7 / 8 * 100e6 / 100e9 + between)


def test_many_ranks_reduce_short_messages_by_a_tree() -> None:
    """64 nodes wait 2 * 6 times between nodes and 2 * 3 times inside, not 2 * 63 times."""
    assert all_reduce(0, with_latency(1.0), 512) == 2 * 6 + 2 * 3


def test_the_backward_pass_hides_its_share_of_the_gradients() -> None:
    slow = HARDWARE.model_copy(update={"inside": Link(bytes_per_second=1e8, seconds=0)})
    exposed = all_reduce(100e6, slow, 8)
    assert predict(WORK, slow, 8).gradients == pytest.approx(exposed)
    half = predict(WORK, slow.model_copy(update={"overlap": 0.5}), 8)
    assert half.gradients == pytest.approx(exposed - 0.5 * 2 / 3 * half.compute)
    assert predict(WORK, HARDWARE.model_copy(update={"overlap": 1.0}), 8).gradients == 0


def test_sharded_parameters_travel_three_times() -> None:
    """Two all-gathers and a reduce-scatter, each half of an all-reduce."""
    sharded = predict(replace(WORK, distribution="fsdp"), HARDWARE, 8).gradients
    assert sharded == pytest.approx(1.5 * predict(WORK, HARDWARE, 8).gradients)


def test_the_exchange_of_negatives_grows_with_the_ranks_unless_they_are_local() -> None:
    """Each pair of ranks exchanges a table of at least a dozen rows, however few rows a rank has."""
    assert [capacity(fused, ranks) for fused, ranks in ((1024, 1), (1024, 8), (8192, 64), (2**20, 4096))] == [
        *(1024, 72, 16, 12)
    ]
    work = replace(WORK, fused=128 * 8, negative_bytes=200_000)
    times = [predict(work.grown(ranks / 8), HARDWARE, ranks).negatives for ranks in (8, 512, 4096)]
    assert times[2] == pytest.approx(8 * times[1], rel=0.05)
    assert predict(replace(work, negatives="local"), HARDWARE, 512).negatives == 0
    assert predict(work.grown(512), HARDWARE, 4096).bottleneck == "negatives"


@pytest.mark.parametrize(("images", "wait"), [(1000, 0.0), (8000, 0.0), (16_000, 1.0)])
def test_a_step_waits_for_images_that_take_longer_than_its_computation(images: int, wait: float) -> None:
    """8 ranks of 10 cores at 100 images a second have 8,000 ready after a step of one second."""
    free = HARDWARE.model_copy(update={"overlap": 1.0})
    assert predict(replace(WORK, records=images), free, 8).data == pytest.approx(wait)


def test_a_checkpoint_in_the_background_costs_nothing_until_it_outlasts_the_steps_between() -> None:
    work = replace(WORK, checkpoint_bytes=int(5e9), checkpoint_every=10, background=False)
    assert predict(work, HARDWARE, 1).checkpoint == pytest.approx(0.5)
    assert predict(replace(work, background=True), HARDWARE, 1).checkpoint == 0
    often = replace(work, background=True, checkpoint_bytes=int(90e9))
    assert predict(often, HARDWARE, 1).checkpoint == pytest.approx(1.0)


def test_shipped_clusters_say_which_figures_are_assumed() -> None:
    assert set(shipped_hardware()) == {"a100", "h100"}
    for hardware in shipped_hardware().values():
        assert "data sheets" in hardware.sources
        assert "assumed, not measured" in hardware.sources


def test_a_file_replaces_the_shipped_figures(tmp_path: Path) -> None:
    file = tmp_path / "cluster.json"
    file.write_text(HARDWARE.model_dump_json())
    assert read_hardware(str(file)) == HARDWARE


def test_faults_of_a_file_are_named_by_key(tmp_path: Path) -> None:
    file = tmp_path / "cluster.yaml"
    file.write_text(
        "sources: mine\nflops: 0\ndevices_per_node: 8\ninside: {bytes_per_second: 1e9}\nspeed: 3\n"
    )
    with pytest.raises(X2KitError) as error:
        read_hardware(str(file))
    lines = str(error.value).splitlines()
    assert lines[0] == f"{file}: not the figures of a cluster:"
    assert "  flops: Input should be greater than 0" in lines
    assert "  inside.seconds: Field required" in lines
    assert "  speed: Extra inputs are not permitted" in lines
    with pytest.raises(X2KitError, match=r"--hardware h300: neither a shipped cluster \(h100, a100\)"):
        read_hardware("h300")


@pytest.mark.parametrize(("own", "ranks"), [(128, 2), (128, 8), (128, 64), (7, 512), (1, 4)])
def test_rows_of_negatives_are_those_that_the_step_sends(own: int, ranks: int) -> None:
    assert capacity(own * ranks, ranks) == rank_exchange.capacity([own] * ranks, [2 * own] * ranks)
