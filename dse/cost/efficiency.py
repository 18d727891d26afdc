"""How far real kernels stay below the roofs, and what each launch costs: one row per fidelity.

`ideal` is the pure roofline. `datasheet` holds for any accelerator: medians of published measurements, so
that it is right on average and not for one chip. `calibrated` takes what was fitted on an accelerator's own kernels, or
on a relative's, in the forms of `dse.cost.forms`, and is `datasheet` elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dse.cost.work import GROUPS, Group


@dataclass(frozen=True, slots=True)
class Efficiency:
    """Shares of the peaks that kernels of a class reach, and their fixed cost."""

    compute: float = 1.0
    """Share of the peak FLOP/s."""
    memory: float = 1.0
    """Share of the peak bandwidth."""
    fixed_us: float = 0.0
    """Launch and synchronisation per kernel, microseconds."""


@dataclass(frozen=True, slots=True)
class Fidelity:
    """One way to turn work into seconds."""

    name: str
    groups: Mapping[Group, Efficiency]
    link: float = 1.0
    """Share of the link bandwidth a collective reaches."""
    latency_us: float = 0.0
    """Start of a message inside the scale-up domain (one hop), microseconds."""
    latency_out_us: float = 0.0
    """Start of a message between domains, microseconds."""
    compute_of: Mapping[str, float] = field(default_factory=dict)
    """Further share of compute by the type it runs in; 1 where a type is not named."""
    weight_only_compute: float = 1.0
    """Further share of compute where weights are dequantised on the way to the multiplier."""
    weight_only_memory: float = 1.0
    """Further share of bandwidth for such weights: unpacking is not free (2404.14294 Table 4)."""
    host_link: float = 1.0
    """Share of the nominal rate that pinned copies between host and device reach."""
    host_memory: float = 1.0
    """Share of the host's memory bandwidth that operators on its cores reach."""
    host_compute: float = 1.0
    """Share of the host's fp32 peak that they reach."""
    disk: float = 1.0
    """Share of the sequential rates of the disks."""
    fitted: bool = False
    """Take each chip's fitted efficiencies where it has any (`dse.spec.calibration`); the rest is as stated here."""

    @property
    def most(self) -> float:
        """Largest share of a peak, a bandwidth or a link that anything reaches; fitted efficiencies may reach all."""
        kernels = [
            share for name, of in self.groups.items() if name != "collective" for share in (of.compute, of.memory)
        ]
        shares = [*kernels, self.link, self.host_link, self.host_memory, self.host_compute, self.disk]
        return 1.0 if self.fitted else max(shares)


IDEAL = Fidelity("ideal", {group: Efficiency() for group in GROUPS})

DATASHEET = Fidelity(
    "datasheet",
    {
        # GEMM: median MFU 0.74-0.76 and weight-stream efficiency 0.76-0.82 on A100, A40 and H100 (microsoft/vidur
        # kernels above 50 MB); fixed 2.7-5.6 us on Hopper and A100 (aiconfigurator kernels).
        "gemm": Efficiency(0.75, 0.80, 4.0),
        # Grouped GEMM: far from both roofs, plus routing and permutation (aiconfigurator kernels: 25-65 us).
        "moe": Efficiency(0.50, 0.65, 12.0),
        # Flash attention: prefill 0.50-0.66 of the 16-bit peak, decode 0.81-0.97 of the bandwidth, 10-19 us to start.
        "attention": Efficiency(0.55, 0.80, 8.0),
        "state": Efficiency(0.35, 0.65, 8.0),
        # Norms, activations: 0.8 of the bandwidth and 3 us (aiconfigurator's constant for memory-bound operators).
        "vector": Efficiency(0.80, 0.80, 3.0),
        "embedding": Efficiency(0.75, 0.80, 4.0),
        "collective": Efficiency(1.0, 1.0, 0.0),
    },
    # NCCL all-reduce over 8 GPUs: 0.80-0.82 of the link on Hopper, 0.61-0.67 on A100 and B200;
    # one-shot kernels start in 7-12 us.
    link=0.75,
    latency_us=8.0,
    latency_out_us=15.0,
    # GEMM fits of aiconfigurator kernels: 0.85-0.88 of the 16-bit peak on A100 and Hopper, 0.50-0.60 of the FP8
    # peak, 0.42 of the NVFP4 peak; integers of one width are taken alike.
    compute_of={"fp8": 0.8, "int8": 0.8, "fp6": 0.8, "fp4": 0.56, "int4": 0.56},
    # 2404.14294 Table 4 (W4A16, A100): prefill 0.75-0.95 of FP16; the weight
    # stream costs 1.5-1.8x its bytes at small batch.
    weight_only_compute=0.85,
    weight_only_memory=0.65,
    # Pinned copies: 12.0 of 15.75 GB/s on PCIe 3 (FlexGen, 2303.06865), 25-26 of 32 on PCIe 4, 52-55 of 64 on PCIe 5.
    host_link=0.8,
    # STREAM reaches 0.75-0.85 of the DIMMs' peak; skinny products and attention a little less.
    host_memory=0.7,
    host_compute=0.5,
    disk=0.9,
)

FIDELITIES: Mapping[str, Fidelity] = {
    "ideal": IDEAL,
    "datasheet": DATASHEET,
    "calibrated": replace(DATASHEET, name="calibrated", fitted=True),
}
