"""Seconds per stream and bytes per tier of one way to run a block, affine in the shares.

Streams run beside each other as far as the overlap mode lets them (FlexGen, 2303.06865 appendix A.3, and its code):

    serial    one after the other
    pairwise  FlexGen's code: in prefill (to device, disk read), (to host, disk write) and (accelerator, host) beside
              each other; in decode the way to the device first, then the others beside each other
    full      all beside each other, the paper's formula; host and accelerator only where there is another GPU batch

Host memory is its own stream: all that crosses the host link or comes from disk passes through it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from dse.cost.placement.affine import BELOW, STREAMS, TENSORS, TIERS, Affine, Shares, Stream, Tensor, Tier
from dse.cost.placement.ledger import TENSOR_OF, Entry, Kind, Ledger
from dse.cost.placement.tiers import Tiers
from dse.cost.setting import PHASES, Phase
from dse.cost.work import Array

Overlap = Literal["serial", "pairwise", "full"]

PAIRWISE: dict[Phase, tuple[tuple[Stream, ...], ...]] = {
    "prefill": (("to_device", "disk_read"), ("to_host", "disk_write"), ("accelerator", "host")),
    "decode": (
        ("to_device", "to_host"), ("to_device", "disk_read"), ("to_device", "disk_write"),
        ("to_device", "accelerator", "host"),
    ),
}  # fmt: skip

Home = Literal["accelerator", "decode", "host"]
"""Who computes with what does not lie on the accelerator: the accelerator, after it crossed the link; the host in
decode; the host in both phases."""


@dataclass(frozen=True)
class Devices:
    """What the host computes. On the accelerator, tensors cross the link; on the host, activations do."""

    attention: Home = "accelerator"
    """Attention over the cache, in decode; prompts attend on the accelerator."""
    ffn: Home = "accelerator"
    experts: Home = "accelerator"

    def home(self, kind: Kind) -> Home:
        """Where this kind of work is done."""
        return {"cache": self.attention, "ffn": self.ffn, "experts": self.experts}.get(kind, "accelerator")

    def on_host(self, kind: Kind, phase: Phase) -> bool:
        """Whether the host computes what lies below the accelerator."""
        home = self.home(kind)
        return home == "host" or (home == "decode" and phase == "decode")

    @property
    def on_host_at_all(self) -> set[str]:
        """What the host computes in any phase."""
        return {name for name in ("attention", "ffn", "experts") if getattr(self, name) != "accelerator"}

    @property
    def text(self) -> str:
        """What the host computes, in words."""
        words = [name for name in ("attention", "ffn", "experts") if getattr(self, name) != "accelerator"]
        return "+".join(f"{name}{'' if getattr(self, name) == 'host' else ' (decode)'}" for name in words) or "nothing"


def device_choices(dense: bool, experts: bool) -> list[Devices]:
    """All that the host could be given to compute, the least first.

    Args:
        dense: the model has dense feed-forwards.
        experts: the model has routed experts.
    """
    homes: tuple[Home, ...] = ("accelerator", "decode", "host")
    attention: tuple[Home, ...] = ("accelerator", "host")
    return [
        Devices(*chosen)
        for chosen in product(attention, homes if dense else homes[:1], homes if experts else homes[:1])
    ]


@dataclass(frozen=True)
class Plan:
    """One way to run a block: everything the placement decides on, affine in the shares; arrays over the mesh."""

    tensors: tuple[Tensor, ...]
    seconds: dict[Phase, dict[Stream, Affine]]
    """Seconds of one pass over the block, by stream."""
    groups: dict[Phase, tuple[tuple[Stream, ...], ...]]
    """Streams that run one after the other; the groups run beside each other."""
    bytes: dict[tuple[Tier, Phase], Affine]
    """Memory in use at the peak of a phase."""
    capacity: dict[Tier, Array]
    rhythm: dict[Phase, Array]
    """How much longer a pass takes than its slowest stream: the bubbles of a pipeline."""
    steps: Array
    """Decode passes in the life of a block; there is one prompt pass."""

    @property
    def repeats(self) -> dict[Phase, Array]:
        """How often the slowest stream of a phase runs in the life of a block."""
        return {"prefill": self.rhythm["prefill"], "decode": self.steps * self.rhythm["decode"]}

    def take(self, where: tuple[NDArray[np.intp], ...], shape: tuple[int, ...]) -> Plan:
        """The plan of some points of a mesh of this shape, as a list."""

        def at(value: Array) -> Array:
            return value if np.ndim(value) == 0 else np.broadcast_to(value, shape)[where]

        return replace(
            self,
            seconds={phase: {s: affine.take(at) for s, affine in of.items()} for phase, of in self.seconds.items()},
            bytes={key: affine.take(at) for key, affine in self.bytes.items()},
            capacity={tier: at(value) for tier, value in self.capacity.items()},
            rhythm={phase: at(value) for phase, value in self.rhythm.items()},
            steps=at(self.steps),
        )

    def together(self, phase: Phase, group: Sequence[Stream]) -> Affine:
        """Seconds of streams one after the other."""
        total = Affine()
        for stream in group:
            total.plus(self.seconds[phase][stream])
        return total

    def phase_seconds(self, phase: Phase, shares: Shares) -> Array:
        """One pass over the block at given shares: the slowest group of streams."""
        slowest: Array = 0.0
        for group in self.groups[phase]:
            slowest = np.maximum(slowest, self.together(phase, group).at(shares))
        return slowest

    def bound(self, phase: Phase, shares: Shares) -> Array:
        """What sets the time of a pass: the longest stream of the slowest group, by its place in `STREAMS`."""
        slowest: Array = -1.0
        found: Array = 0.0
        for group in self.groups[phase]:
            total: Array = 0.0
            longest: Array = -1.0
            of_group: Array = 0.0
            for stream in group:
                seconds = self.seconds[phase][stream].at(shares)
                of_group = np.where(seconds > longest, float(STREAMS.index(stream)), of_group)
                longest, total = np.maximum(longest, seconds), total + seconds
            found = np.where(total > slowest, of_group, found)
            slowest = np.maximum(slowest, total)
        return found

    def least(self, phase: Phase) -> Array:
        """What one pass over the block takes at least, wherever the tensors lie."""
        slowest: Array = 0.0
        for group in self.groups[phase]:
            slowest = np.maximum(slowest, self.together(phase, group).least())
        return slowest

    def peak(self, tier: Tier, shares: Shares) -> Array:
        """Bytes of a tier at given shares, in the phase that needs most."""
        first, second = (self.bytes[tier, phase].at(shares) for phase in PHASES)
        return cast(Array, np.maximum(first, second))

    def seconds_of(self, shares: Shares) -> Array:
        """The whole block, prompt to last token."""
        return sum_of(self.repeats[phase] * self.phase_seconds(phase, shares) for phase in PHASES)


def sum_of(values: Iterator[Array]) -> Array:
    """Sum in a fixed order."""
    total: Array = 0.0
    for value in values:
        total = total + value
    return total


def make_plan(ledger: Ledger, tiers: Tiers, devices: Devices, overlap: Overlap) -> Plan:
    """The plan of a block whose work stands in `ledger`."""
    tensors = tuple(t for t in TENSORS if t != "experts" or ledger.has_experts)
    point = ledger.point
    batches, stages = ledger.num_batches, point.degrees.pp
    return Plan(
        tensors=tensors,
        seconds={phase: _seconds(ledger, tiers, devices, phase) for phase in PHASES},
        groups={phase: _groups(overlap, phase, batches) for phase in PHASES},
        bytes=_bytes(ledger, devices),
        capacity={"accelerator": ledger.memory.limit, "host": tiers.host_bytes, "disk": tiers.disk_bytes},
        # GPU batches fill the pipeline: p - 1 more pass through while it fills in prefill; a decode step of fewer
        # batches than stages leaves stages idle.
        rhythm={"prefill": (batches + stages - 1) / batches, "decode": np.maximum(batches, stages) / batches},
        steps=point.steps,
    )


def _groups(overlap: Overlap, phase: Phase, batches: int) -> tuple[tuple[Stream, ...], ...]:
    if overlap == "serial":
        return (STREAMS[:-1], STREAMS[-1:])
    if overlap == "pairwise":
        return (*PAIRWISE[phase], STREAMS[-1:])
    if batches == 1:  # nothing for the accelerator to do while the host computes
        return (("accelerator", "host"), *((stream,) for stream in STREAMS[2:]))
    return tuple((stream,) for stream in STREAMS)


def _seconds(ledger: Ledger, tiers: Tiers, devices: Devices, phase: Phase) -> dict[Stream, Affine]:
    """Seconds of a pass over the block by stream."""
    streams: dict[Stream, Affine] = {stream: Affine() for stream in STREAMS}
    down, up, read, written = Affine(), Affine(), Affine(), Affine()  # bytes
    _compute(streams, up, down, ledger, tiers, devices, phase)
    for kind, size in ledger.touched(phase).items():
        tensor: Tensor = "experts" if kind == "experts" else "weights"  # attention has weights too
        if not devices.on_host(kind, phase):
            up.grow(tensor, size, *BELOW)
        read.grow(tensor, size, "disk")
    if phase == "decode":
        if not devices.on_host("cache", phase):
            up.grow("cache", ledger.cache_read(), *BELOW)
        read.grow("cache", ledger.cache_read(), "disk")
    down.grow("cache", ledger.cache_written(phase), *BELOW)
    written.grow("cache", ledger.cache_written(phase), "disk")
    moved = ledger.hidden_bytes(phase) * ledger.stage_layers  # loaded before a layer, stored after it
    for way, stored in ((up, read), (down, written)):
        way.grow("hidden", moved, *BELOW)
        stored.grow("hidden", moved, "disk")
    for stream, moved_bytes, rate in (
        ("to_device", up, tiers.to_device), ("to_host", down, tiers.to_host),
        ("disk_read", read, tiers.disk_read), ("disk_write", written, tiers.disk_write),
    ):  # fmt: skip
        streams[stream].plus(moved_bytes, rate)  # type: ignore[index]
        streams["host_memory"].plus(moved_bytes, tiers.host_byte)
    return streams


def _compute(
    streams: dict[Stream, Affine],
    up: Affine,
    down: Affine,
    ledger: Ledger,
    tiers: Tiers,
    devices: Devices,
    phase: Phase,
) -> None:
    """Add who computes: the host what lies below the accelerator where it is given that, the accelerator the rest."""
    for kind, entry in ledger.entries(phase).items():
        if not devices.on_host(kind, phase):
            streams["accelerator"].add(entry.seconds)
            continue
        tensor = TENSOR_OF[kind]
        streams["accelerator"].grow(tensor, entry.seconds, "accelerator")
        streams["host"].grow(tensor, _host_seconds(entry, tiers), *BELOW)
        streams["host_memory"].grow(tensor, entry.host_bytes * tiers.host_byte, *BELOW)
        down.grow(tensor, entry.down, *BELOW)
        up.grow(tensor, entry.up, *BELOW)


def _host_seconds(entry: Entry, tiers: Tiers) -> Array:
    return np.maximum(entry.host_flops * tiers.host_flop, entry.host_bytes * tiers.host_byte)


def _bytes(ledger: Ledger, devices: Devices) -> dict[tuple[Tier, Phase], Affine]:
    """Memory by tier and phase: what is held, and two buffers of what passes through."""
    held, layer = ledger.held, ledger.layer
    found: dict[tuple[Tier, Phase], Affine] = {}
    peaks = ledger.memory.peaks
    for phase in PHASES:
        for tier in TIERS:
            memory = found[tier, phase] = Affine()
            for tensor, size in held.items():
                memory.grow(tensor, size, tier)
            memory.grow("cache", ledger.cache_bytes, tier)
            memory.grow("hidden", ledger.hidden_bytes(phase), tier)
        found["accelerator", phase].add(peaks[phase] + ledger.memory.workspace)
        staged: dict[Tensor, Array] = {
            "hidden": ledger.hidden_of_gpu_batch(phase),
            "cache": ledger.layer_cache_bytes,
            **{tensor: layer[tensor] for tensor in held},
        }
        for tensor, size in staged.items():
            if not _stays(tensor, devices, phase):
                found["accelerator", phase].grow(tensor, 2.0 * size, *BELOW)
            found["host", phase].grow(tensor, 2.0 * size, "disk")
    return found


def _stays(tensor: Tensor, devices: Devices, phase: Phase) -> bool:
    """Whether nothing of a tensor that lies below the accelerator ever comes up in a phase.

    Prompts write the cache on the accelerator; dense layers have projections whatever computes their feed-forward.
    """
    if tensor == "cache":
        return devices.on_host("cache", phase) and phase == "decode"
    return tensor == "experts" and devices.on_host("experts", phase)
