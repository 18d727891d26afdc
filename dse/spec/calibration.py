"""Efficiencies fitted on kernel timings of one accelerator, as the `calibration:` block of its file says.

All parameters are shares and multiples without a unit, or microseconds, so that they mean the same on another chip:
what they are shares of is that chip's datasheet. `dse.cost.forms` says how each class uses them; hardware/README.md
describes the block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, get_args

from pydantic import Field, field_validator

from dse.spec.formats import PLAIN, Format
from dse.spec.shape import Strict, suggest

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Amount = Annotated[float, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]

Form = Literal["gemm", "prefill", "decode", "latent_prefill", "latent_decode", "moe", "collective"]
FORMS: tuple[Form, ...] = get_args(Form)
"""Classes of kernels that have a form of their own."""

MOST = 120
"""Parameters stored per accelerator."""


class Fitted(Strict):
    """One set of parameters and how well it did."""

    framework: Text = ""
    """Whose kernels were timed, with the version."""
    rows: Annotated[int, Field(ge=1)] = 1
    """Timings fitted."""
    mape_pct: Amount = 0.0
    """Mean error on sites that were held out, percent."""
    median_pct: Amount = 0.0
    """Median error there."""
    inherited: tuple[Text, ...] = ()
    """Accelerators the set was taken over from; empty where it was fitted on this one."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """Names of the parameters."""
        return tuple(name for name in cls.model_fields if name not in Fitted.model_fields)

    def values(self) -> dict[str, float]:
        """The parameters."""
        return {name: getattr(self, name) for name in self.names()}


class Gemm(Fitted):
    """A matrix product."""

    t0_us: Positive
    """Launch, prologue, epilogue."""
    compute: Share
    """Share of the peak FLOP/s."""
    memory: Share
    """Share of the bandwidth."""
    tile: Amount
    """One output tile's march along the inner dimension on one core, x its time at the peak."""
    inputs: Amount
    """Passes over the activations apart from the product, bytes per element (dynamic quantisation)."""
    outputs: Amount
    """Passes over the outputs apart from the product, x 2 bytes per element."""


class Prefill(Fitted):
    """Attention of a prompt."""

    t0_us: Positive
    compute: Share
    memory: Share
    tile: Amount
    """The longest query tile on one core, x its time at the peak."""
    tau_us: Amount
    """Start and end of a query tile on a core."""
    softmax: Amount
    """Exponentials outside the matrix units, x 512 FLOPs per score."""


class Decode(Fitted):
    """Attention of one new token over the cache."""

    t0_us: Positive
    compute: Share
    memory: Share
    tau_us: Amount
    """Per work item (a sequence and KV head) and core."""
    item: Amount
    """One item alone, x its bytes through one core's share of the bandwidth: splits do not fill the chip."""


class Experts(Fitted):
    """Routed experts of one rank: routing, permutation, grouped products."""

    t0_us: Positive
    compute: Share
    memory: Share
    activations: Amount
    """Further passes over the routed activations, x their bytes."""
    padding: Amount
    """Share of a tile of 64 rows that each expert hit wastes."""
    routing: Amount
    """Bytes moved per token and hidden element of all ranks before and after."""


class Collective(Fitted):
    """A collective inside the scale-up domain."""

    alpha0_us: Positive
    alpha1_us: Amount
    """Per rank."""
    ramp: Amount
    """x sqrt(seconds on the link at its full rate x 1 us)."""
    inverse2: Positive
    """Time over that at the link's full rate, of 2 ranks."""
    inverse4: Positive
    """Of 4."""
    inverse8: Positive
    """Of 8 and more."""


SET_OF: Mapping[Form, type[Fitted]] = {
    "gemm": Gemm, "prefill": Prefill, "decode": Decode, "latent_prefill": Prefill, "latent_decode": Decode,
    "moe": Experts, "collective": Collective,
}  # fmt: skip

_PRODUCTS = ("bf16", "fp8", "fp8-block", "fp4", "int8", "w8a16", "w4a16", "w8a8", "w4a8")
_CACHES = ("kv16", "kv8")
KEYS: Mapping[Form, tuple[str, ...]] = {
    "gemm": _PRODUCTS,
    "moe": _PRODUCTS,
    "prefill": ("bf16-kv16", "bf16-kv8", "fp8-kv8"),
    "decode": _CACHES,
    "latent_prefill": ("bf16",),
    "latent_decode": _CACHES,
    "collective": ("all_reduce", "all_reduce_custom", "all_gather", "all_to_all"),
}
"""What a class tells apart: number types, or kinds of collectives."""


class Basis(Strict):
    """Numbers of the chip that the parameters are shares of, as they were when they were fitted."""

    chip: Text
    """Its name."""
    peak_tflops: dict[str, Positive]
    """Of the types that were timed."""
    bandwidth_gb_per_s: Positive
    cores: Annotated[int, Field(ge=1)]
    link_gb_per_s: Positive | None = None
    """Of the scale-up domain; absent: no collectives."""


class Calibration(Strict):
    """The parameters of one accelerator by class and number type."""

    source: str = ""
    """Whose timings; empty where all are of relatives, as the manifest of a run then says."""
    date: str = ""
    """When they were fitted."""
    basis: Basis | None = None
    """Absent: nothing was fitted on this chip."""
    gemm: dict[str, Gemm] = Field(default_factory=dict)
    prefill: dict[str, Prefill] = Field(default_factory=dict)
    decode: dict[str, Decode] = Field(default_factory=dict)
    latent_prefill: dict[str, Prefill] = Field(default_factory=dict)
    latent_decode: dict[str, Decode] = Field(default_factory=dict)
    moe: dict[str, Experts] = Field(default_factory=dict)
    collective: dict[str, Collective] = Field(default_factory=dict)

    @field_validator(*FORMS)
    @classmethod
    def _known(cls, value: dict[str, Fitted], info: object) -> dict[str, Fitted]:
        form: Form = info.field_name  # type: ignore[attr-defined]
        for key in value:
            if key not in KEYS[form]:
                known = ", ".join(KEYS[form])
                raise ValueError(f"'{key}' is not a type of {form} ({known}){suggest(key, KEYS[form])}")
        return value

    def sets(self) -> Iterator[tuple[Form, str, Fitted]]:
        """Every set with its class and type."""
        for form in FORMS:
            for key, fitted in getattr(self, form).items():
                yield form, key, fitted

    def find(self, form: Form, key: str) -> Fitted | None:
        """The set of a class and type, where there is one."""
        found: Fitted | None = getattr(self, form).get(key)
        return found

    @property
    def stored(self) -> int:
        """Parameters of its own."""
        return sum(len(fitted.names()) for _, _, fitted in self.sets() if not fitted.inherited)


def product_key(weights: Format, used: str) -> str:
    """What tells the matrix products of a chip apart.

    Args:
        weights: how the matrix is stored.
        used: the type that is multiplied in (`dse.spec.compute.supported_type`).

    Returns:
        `w4a16` and the like where the matrix is unpacked on the way, else the type, fp8 with a scale per block apart.
    """
    wide, stored = PLAIN[used].element_bits, PLAIN[weights.dtype].element_bits
    if stored < wide:
        return f"w{4 if stored <= 4 else 8}a{wide:.0f}"
    if used == "fp8" and weights.group_size:
        return "fp8-block"
    return "bf16" if used == "fp16" else used


def cache_key(kv_cache: Format) -> str:
    """What tells decode attention apart: a cache in 16 bit or narrower."""
    return "kv16" if PLAIN[kv_cache.dtype].element_bits > 8 else "kv8"


def scores_key(used: str, kv_cache: Format) -> str:
    """What tells prompt attention apart: the type scores are computed in, and the cache's."""
    return f"{'fp8' if used == 'fp8' else 'bf16'}-{'kv8' if used == 'fp8' else cache_key(kv_cache)}"
