"""One accelerator with its memory, links, default box, power and prices, as `hardware/*.yaml` says.

Fields hold what the file says, in the unit their name ends in; properties give SI (bytes, bytes/s,
FLOP/s) for `dse.cost`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, Field, field_validator

from dse.spec.calibration import Calibration
from dse.spec.price import Price, quote
from dse.spec.shape import Strict, suggest

Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]
Dtype = Literal["fp32", "tf32", "fp16", "bf16", "fp8", "fp6", "fp4", "int8", "int4"]
DTYPES: tuple[str, ...] = get_args(Dtype)


class Memory(Strict):
    """The accelerator's own memory."""

    type: str = ""
    """Technology, e.g. HBM3."""
    capacity_gb: Positive
    """What the device really has, decimal GB (1e9 bytes)."""
    bandwidth_gb_per_s: Positive
    """Datasheet bandwidth, GB/s."""
    label_gb: Positive | None = None
    """What the vendor prints on the box."""


class Cache(Strict):
    """Memory on the chip."""

    l2_mb: Positive | None = None
    """Level-2 cache over all cores, MB."""
    llc_mb: Positive | None = None
    """Cache between L2 and memory (Infinity Cache, L3, system-level cache), MB."""
    sram_mb: Positive | None = None
    """Shared memory or scratchpad over all cores, MB."""


class ScaleUp(Strict):
    """The fast link among the devices of one domain."""

    technology: str = ""
    """E.g. NVLink 4."""
    gb_per_s: Positive
    """One direction, per device, GB/s."""
    domain: Count
    """Devices that reach each other at this speed."""


class ScaleOut(Strict):
    """The network between boxes."""

    technology: str = ""
    """E.g. InfiniBand NDR."""
    gb_per_s: Positive
    """One direction, per device, GB/s."""


class HostLink(Strict):
    """The link between the accelerator and its host."""

    technology: str = ""
    """E.g. PCIe 5.0 x16."""
    gb_per_s: Positive
    """One direction, per device, GB/s; where measured, host to device from page-locked memory."""
    to_host_gb_per_s: Positive | None = None
    """Device to host, page-locked, GB/s; absent: as `gb_per_s`."""
    pageable_gb_per_s: Positive | None = None
    """Host to device from ordinary memory, which the driver copies once more, GB/s; absent: not known."""
    pageable_to_host_gb_per_s: Positive | None = None
    """Device to host into ordinary memory, GB/s; absent: not known."""


class Box(Strict):
    """The server the accelerator usually comes in."""

    devices: Count = 1
    """Accelerators in the box."""
    host_memory_gb: Positive | None = None
    """Memory of the host, decimal GB."""
    host_memory_bandwidth_gb_per_s: Positive | None = None
    """Bandwidth of the host's memory, GB/s."""
    cpu: str = ""
    """Processors of the host."""
    cpu_cores: Count | None = None
    """Physical cores of the host."""
    cpu_tflops: Positive | None = None
    """Peak of the host's processors, fp32 TFLOP/s."""
    disk_gb: Positive | None = None
    """Local disk, decimal GB."""
    disk_read_gb_per_s: Positive | None = None
    """Sequential read of the local disks together, GB/s."""
    disk_write_gb_per_s: Positive | None = None
    """Sequential write of the local disks together, GB/s."""


class Power(Strict):
    """Electrical power of one accelerator."""

    tdp_w: Positive
    """Thermal design power, W."""
    idle_w: Positive | None = None
    """Power when idle, W."""


class HardwareSpec(Strict):
    """An accelerator and the box it comes in."""

    name: Text
    """Short and lower case, the vendor's own: h100-sxm."""
    vendor: Text
    """Who makes it."""
    kind: Literal["gpu", "asic", "soc", "cpu"]
    """What it is."""
    architecture: str = ""
    """Generation, e.g. hopper; calibration may be inherited within one."""
    aliases: tuple[Text, ...] = ()
    """Other spellings; case, space, `_` and `-` do not matter."""
    release_year: Annotated[int, Field(ge=1970, le=2100)] | None = None
    """Year of general availability."""
    peak_tflops: Annotated[dict[Dtype, Positive], Field(min_length=1)]
    """Dense matrix peak by dtype, TFLOP/s; absent: the chip lacks the dtype."""
    fp16_accumulate_tflops: Positive | None = None
    """fp16 peak where products are summed in fp16, if that is more than `peak_tflops.fp16`: GeForce halves the rate of
    sums in fp32."""
    vector_tflops: Positive | None = None
    """Non-matrix fp32 peak, TFLOP/s."""
    memory: Memory
    """The accelerator's memory."""
    cores: Count | None = None
    """Streaming multiprocessors, compute units or tensor cores."""
    cache: Cache = Cache()
    """Memory on the chip."""
    scale_up: ScaleUp | None = None
    """Absent: devices of a box talk over the host link."""
    scale_out: ScaleOut | None = None
    """Absent: a deployment cannot span boxes."""
    host_link: HostLink | None = None
    """Absent: the accelerator shares the host's memory, or stands alone."""
    box: Box = Box()
    """The default box."""
    box_of: Text | None = None
    """The chip whose one particular box this file describes, in the library under its own name. Plans leave it out of
    `all`, count it with that chip's stock, and take that chip's price where it has none of its own."""
    power: Power | None = None
    """Absent: energy is not known."""
    prices: tuple[Price, ...] = ()
    """Quotes, of any kind and date."""
    calibration: Calibration | None = None
    """Efficiencies fitted on kernel timings, or taken over from a relative (`dse.spec.transfer`)."""
    sources: dict[str, Text] = Field(default_factory=dict)
    """Dotted prefix -> where the numbers below it come from; `recalled...` flags them."""
    notes: str = ""
    """Anything a reader should know."""

    @field_validator("sources")
    @classmethod
    def _name_fields(cls, value: dict[str, str]) -> dict[str, str]:
        for path in value:
            if path not in FIELDS:
                raise ValueError(f"'{path}' is not a field{suggest(path, FIELDS)}")
        return value

    @property
    def memory_bytes(self) -> float:
        """Capacity, bytes."""
        return self.memory.capacity_gb * 1e9

    @property
    def bandwidth(self) -> float:
        """Memory bandwidth, bytes/s."""
        return self.memory.bandwidth_gb_per_s * 1e9

    @property
    def peaks(self) -> dict[str, float]:
        """Dense matrix peak by dtype, FLOP/s."""
        return {str(dtype): tflops * 1e12 for dtype, tflops in self.peak_tflops.items()}

    def peak(self, dtype: str) -> float | None:
        """Dense matrix peak of exactly this dtype, FLOP/s; None where the chip lacks it."""
        return self.peaks.get(dtype)

    @property
    def fp16_accumulate(self) -> float | None:
        """fp16 peak with sums in fp16, FLOP/s; None where that is no faster."""
        return None if self.fp16_accumulate_tflops is None else self.fp16_accumulate_tflops * 1e12

    @property
    def vector(self) -> float:
        """Peak outside the matrix units, FLOP/s.

        Where the file does not say: the fp32 peak, else a sixteenth of the 16-bit matrix peak (the
        ratio of the two on V100, A100 and H100 is 8 to 16; the smaller estimate is kept).
        """
        if self.vector_tflops is not None:
            return self.vector_tflops * 1e12
        if (fp32 := self.peak("fp32")) is not None:
            return fp32
        return (self.peak("fp16") or self.peak("bf16") or max(self.peaks.values())) / 16

    @property
    def domain(self) -> int:
        """Devices that reach each other at `domain_bandwidth`: the scale-up domain, else the box."""
        if self.scale_up is not None:
            return self.scale_up.domain
        return self.box.devices if self.host_link is not None else 1

    @property
    def domain_bandwidth(self) -> float:
        """Bytes/s, one direction per device, within the domain.

        The host link where there is no scale-up; a device alone talks to itself through memory.
        """
        link = self.scale_up or self.host_link
        return link.gb_per_s * 1e9 if link is not None else self.bandwidth

    @property
    def scale_out_bandwidth(self) -> float | None:
        """Bytes/s, one direction per device, between domains; None where a job cannot leave its own."""
        return self.scale_out.gb_per_s * 1e9 if self.scale_out is not None else None

    @property
    def host_bandwidth(self) -> float | None:
        """Bytes/s, one direction, between the device and its host; None where there is no such link."""
        return self.host_link.gb_per_s * 1e9 if self.host_link is not None else None

    @property
    def to_host_bandwidth(self) -> float | None:
        """Bytes/s from the device to its host; that of the other direction where the file does not say."""
        if self.host_link is None:
            return None
        return (self.host_link.to_host_gb_per_s or self.host_link.gb_per_s) * 1e9

    @property
    def tdp_w(self) -> float | None:
        """Thermal design power, W; None where it is not known."""
        return self.power.tdp_w if self.power is not None else None

    def price(self, kind: str, override: float | None = None) -> Price | None:
        """The latest hourly quote of a kind (of equal dates the cheapest), or the user's own, or None."""
        return quote(self.prices, kind, override)

    def numbers(self) -> dict[str, float]:
        """Every number that needs a source, by dotted path; prices and the calibration carry their own."""
        data = self.model_dump(exclude_none=True, exclude={"prices", "sources", "release_year", "calibration"})
        return dict(_numbers(data, ""))

    def source(self, path: str) -> str | None:
        """The source of the number at a dotted path: that of its longest prefix in `sources`."""
        steps = path.split(".")
        prefixes = (".".join(steps[:length]) for length in range(len(steps), 0, -1))
        return next((self.sources[prefix] for prefix in prefixes if prefix in self.sources), None)

    @property
    def recalled(self) -> tuple[str, ...]:
        """Dotted paths of the numbers that rest on memory instead of a document."""
        own = [path for path in self.numbers() if is_recalled(self.source(path))]
        quotes = [f"prices[{i}]" for i, q in enumerate(self.prices) if is_recalled(q.source)]
        return (*own, *quotes)

    @property
    def unsourced(self) -> tuple[str, ...]:
        """Dotted paths of the numbers without any source."""
        own = [path for path in self.numbers() if self.source(path) is None]
        return (*own, *(f"prices[{i}]" for i, q in enumerate(self.prices) if not q.source))


def is_recalled(source: str | None) -> bool:
    """Whether a source says that the number could only be recalled."""
    return source is not None and source.lower().startswith("recalled")


def _numbers(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _numbers(item, f"{path}.{key}" if path else key)
    elif isinstance(value, int | float):
        yield path, value


def _field_names(cls: type[BaseModel], path: str = "") -> Iterator[str]:
    """Every dotted field path a `sources` entry may name."""
    for name, field in cls.model_fields.items():
        full = f"{path}{name}"
        yield full
        for part in (field.annotation, *get_args(field.annotation)):
            if isinstance(part, type) and issubclass(part, BaseModel):
                yield from _field_names(part, f"{full}.")
        if full == "peak_tflops":
            yield from (f"{full}.{dtype}" for dtype in DTYPES)


FIELDS: tuple[str, ...] = tuple(_field_names(HardwareSpec))
"""Every dotted field of a hardware file."""
