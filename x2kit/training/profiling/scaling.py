"""Predict the time of a step on many devices from measured or published pieces. Imports no torch.

Every piece is a formula of bytes, operations and records; nothing is fitted. With R ranks in nodes of g:

compute     operations of the step / (R * reached FLOP/s)
gradients   ring or tree all-reduce, in the node and then between nodes (Thakur, Rabenseifner and Gropp, 2005), or for
            fsdp two all-gathers of the parameters and one reduce-scatter of their gradients; the share `overlap` of
            the backward pass hides them
features    all-gather of the features of all texts and images, and the reduce-scatter of their gradients
negatives   all-to-all of R tables of fixed capacity, and the same for their gradients
exchanges   messages between the hosts whose length is latency alone
loader      images of a rank / (cores * images a second); it prepares the next step beside this one
checkpoint  bytes / write rate, spread over the steps between two; 0 if written in the background in that time
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from math import ceil, log2
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from x2kit.errors import X2KitError

SHIPPED = Path(__file__).with_name("hardware.yaml")
BACKWARD_SHARE = 2 / 3
"""Share of a step's operations in the backward pass."""
HEADROOM, SPARE = 4, 8
"""Capacity of the exchange of negatives: `HEADROOM` times the mean between two ranks, and `SPARE` rows more."""
MIN_EFFICIENCY = 0.8
"""Share of the linear throughput below which a number of ranks is marked."""


class Link(BaseModel):
    """A connection of one device, in one direction."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    bytes_per_second: float = Field(gt=0, description="bandwidth that messages of many MB reach")
    seconds: float = Field(ge=0, description="latency of a message without content")


class Hardware(BaseModel):
    """Figures of a cluster; `sources` says where each is from."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    sources: str = Field(
        min_length=1, description="which figures are from a data sheet, assumed, or measured"
    )
    flops: float = Field(
        gt=0, description="FLOP/s that a device reaches in the step, as `x2kit bench` measures"
    )
    devices_per_node: int = Field(gt=0)
    inside: Link = Field(description="between the devices of a node")
    between: Link = Field(description="between nodes, for each device")
    overlap: float = Field(0.8, ge=0, le=1, description="share of the backward pass that hides the gradients")
    cores: float = Field(gt=0, description="processor cores of each device for data workers")
    images_per_core: float = Field(gt=0, description="images a second that one core decodes and transforms")
    disk: float = Field(gt=0, description="bytes a second that a checkpoint is written with")
    devices: int | None = Field(None, gt=0, description="devices that compute at once; null for every rank")


@dataclass(frozen=True)
class Workload:
    """A step of the global batch.

    Attributes:
        flops: operations, forward and backward.
        parameters: of the model.
        features: rows of features of texts and images, gathered for the contrastive loss.
        feature_bytes: of a row.
        fused: rows with hard negatives.
        negative_bytes: of the states that one such row fetches: an image's and a text's.
        records: images that are decoded.
        exchanges: messages between the hosts a step that cost their latency alone.
        checkpoint_bytes: of a checkpoint.
        checkpoint_every: steps between two.
        background: whether checkpoints are written beside the steps.
        distribution: of the parameters.
        negatives: whose rows hard negatives are drawn from.
    """

    flops: float
    parameters: int
    features: int
    feature_bytes: int
    fused: int
    negative_bytes: int
    records: int
    exchanges: int = 2
    checkpoint_bytes: int = 0
    checkpoint_every: int = 1000
    background: bool = True
    distribution: Literal["ddp", "fsdp"] = "ddp"
    negatives: Literal["global", "local"] = "global"

    def grown(self, factor: float) -> Workload:
        """Return the step with `factor` times the rows."""
        counts = {name: round(getattr(self, name) * factor) for name in ("features", "fused", "records")}
        return replace(self, flops=self.flops * factor, **counts)


class Prediction(NamedTuple):
    """Seconds of a step by piece.

    Attributes:
        ranks: number of ranks.
        compute: forward, backward and optimiser of a rank's share.
        gradients: part of their reduction that the backward pass does not hide.
        features: gather of features, and its gradients.
        negatives: exchange of negatives, and its gradients.
        exchanges: between hosts.
        data: wait for the loader.
        checkpoint: wait for checkpoints, per step.
    """

    ranks: int
    compute: float
    gradients: float
    features: float
    negatives: float
    exchanges: float
    data: float
    checkpoint: float

    @property
    def seconds(self) -> float:
        """Seconds of the step."""
        return sum(self[1:])

    @property
    def efficiency(self) -> float:
        """Share of the step that computes: throughput by that of as many devices that wait for nothing."""
        return self.compute / self.seconds

    @property
    def bottleneck(self) -> str:
        """Name of the piece that costs most beside the computation."""
        return max(self._fields[2:], key=lambda name: float(getattr(self, name)))


def predict(work: Workload, hardware: Hardware, ranks: int) -> Prediction:
    """Predict a step.

    Args:
        work: step of the global batch.
        hardware: of the cluster.
        ranks: one a device; full nodes where there is more than one.
    """
    crowd = 1.0 if hardware.devices is None else max(1.0, ranks / hardware.devices)
    compute = work.flops / ranks / hardware.flops * crowd
    features = _gathered(work.features * work.feature_bytes, hardware, ranks)
    found = Prediction(
        ranks,
        compute,
        _gradients(work, hardware, ranks, compute),
        2 * features,
        0.0 if work.negatives == "local" else 2 * _negatives(work, hardware, ranks),
        work.exchanges * _latency(hardware, ranks),
        0.0,
        0.0,
    )
    loading = work.records / ranks / (hardware.cores * hardware.images_per_core)
    written = work.checkpoint_bytes / hardware.disk
    if work.background:  # a checkpoint waits for the one before
        written = max(0.0, written - found.seconds * work.checkpoint_every)
    return found._replace(data=max(0.0, loading - found.seconds), checkpoint=written / work.checkpoint_every)


def _gradients(work: Workload, hardware: Hardware, ranks: int, compute: float) -> float:
    size = 4 * work.parameters
    if work.distribution == "fsdp":
        hidden = hardware.overlap * compute
        return max(0.0, 3 * _gathered(size, hardware, ranks) - hidden)
    return max(0.0, all_reduce(size, hardware, ranks) - hardware.overlap * BACKWARD_SHARE * compute)


def all_reduce(size: float, hardware: Hardware, ranks: int) -> float:
    """Return seconds to sum `size` bytes over all ranks: in each node, then between nodes, then in each node again."""
    inner = min(ranks, hardware.devices_per_node)
    outer = ceil(ranks / inner)
    return _ring(size, hardware.inside, inner) + _ring(size / inner, hardware.between, outer)


def _ring(size: float, link: Link, ranks: int) -> float:
    """Ring of 2 (R - 1) messages, or a tree of 2 log2 R where latency would exceed the content."""
    if ranks == 1:
        return 0.0
    content = 2 * (ranks - 1) / ranks * size / link.bytes_per_second
    return content + 2 * min(ranks - 1, ceil(log2(ranks))) * link.seconds


def _gathered(size: float, hardware: Hardware, ranks: int) -> float:
    """Return seconds until every rank has `size` bytes, of which each has a share; a reduce-scatter takes as long."""
    inner = min(ranks, hardware.devices_per_node)
    outer = ceil(ranks / inner)
    seconds = 0.0
    if outer > 1:
        per_device = size * (outer - 1) / outer / inner
        seconds += (
            per_device / hardware.between.bytes_per_second + ceil(log2(outer)) * hardware.between.seconds
        )
    if inner > 1:
        content = size * (inner - 1) / inner / hardware.inside.bytes_per_second
        seconds += content + ceil(log2(inner)) * hardware.inside.seconds
    return seconds


def capacity(fused: int, ranks: int) -> int:
    """Return the rows that a rank sends to each other rank for hard negatives, as `rank_exchange` chooses it."""
    own = ceil(fused / ranks)
    return min(own, HEADROOM * ceil(own / ranks) + SPARE)


def _negatives(work: Workload, hardware: Hardware, ranks: int) -> float:
    if ranks == 1:
        return 0.0
    table = capacity(work.fused, ranks) * work.negative_bytes
    inner = min(ranks, hardware.devices_per_node)
    inside = (inner - 1) * table / hardware.inside.bytes_per_second
    between = (ranks - inner) * table / hardware.between.bytes_per_second
    return max(inside, between) + _latency(hardware, ranks)


def _latency(hardware: Hardware, ranks: int) -> float:
    """Return seconds of a message without content between all ranks."""
    if ranks == 1:
        return 0.0
    inner = min(ranks, hardware.devices_per_node)
    return (
        ceil(log2(inner)) * hardware.inside.seconds
        + ceil(log2(ceil(ranks / inner))) * hardware.between.seconds
    )


@lru_cache
def shipped_hardware() -> dict[str, Hardware]:
    """Return the shipped clusters by name."""
    read = yaml.safe_load(SHIPPED.read_text(encoding="utf-8"))
    return {name: _checked(f"{SHIPPED}: {name}", values) for name, values in read.items()}


def read_hardware(name: str) -> Hardware:
    """Return a shipped cluster, or that of a YAML or JSON file.

    Raises: X2KitError for an unknown name or an invalid file; it lists the keys at fault.
    """
    known = shipped_hardware()
    if name in known:
        return known[name]
    try:
        text = Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise X2KitError(
            f"--hardware {name}: neither a shipped cluster ({', '.join(known)}) nor a readable file: {error}"
        ) from error
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise X2KitError(f"{name}: neither YAML nor JSON: {error}") from error
    return _checked(name, values)


def _checked(where: str, values: Any) -> Hardware:
    try:
        return Hardware.model_validate(values)
    except ValidationError as error:
        faults = (
            f"  {'.'.join(map(str, fault['loc'])) or 'file'}: {fault['msg']}" for fault in error.errors()
        )
        raise X2KitError("\n".join([f"{where}: not the figures of a cluster:", *faults])) from error
