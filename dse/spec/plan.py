"""A plan file: demand, latencies, budget and what may be bought or rented. Names are resolved in `dse.run.planning`."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from dse.spec.price import PriceKind
from dse.spec.shape import Strict
from dse.spec.sweep import NATIVE, Bound, Disaggregation, Parallel

Positive = Annotated[float, Field(gt=0)]
Dollars = Annotated[float, Field(gt=0, le=1e9)]
"""Of one device: more is a slip, and beyond 1e15 for a fleet a solver refuses the numbers."""
AtLeastZero = Annotated[float, Field(ge=0)]
Count = Annotated[int, Field(ge=1)]
Text = Annotated[str, Field(min_length=1)]

HOURS_PER_YEAR = 8766.0
"""365.25 days."""
HOURS_PER_MONTH = HOURS_PER_YEAR / 12


class BucketEntry(Strict):
    """Requests of one size."""

    input: Count
    """Prompt tokens."""
    output: Count
    """Generated tokens."""
    requests_per_s: AtLeastZero


class Demand(Strict):
    """What arrives: sizes from exactly one of `buckets`, `lengths` and `trace`."""

    buckets: tuple[BucketEntry, ...] | None = None
    """Sizes with the rate of each."""
    lengths: Text | None = None
    """CSV of a length histogram (`dse.spec.lengths`): `input, output, weight`, or bins with a `count`."""
    trace: Text | None = None
    """A trace of the library by name (`configs/traces.yaml`)."""
    requests_per_s: AtLeastZero | None = None
    """Mean rate over all sizes, for `lengths` and `trace`."""
    requests: Positive | None = None
    """Instead of a rate, a job: so many requests ..."""
    deadline_hours: Positive | None = None
    """... done in so many hours."""
    peak_factor: Annotated[float, Field(ge=1)] = 1.0
    """Rate the fleet must carry over the mean rate; dollars per token count the mean."""
    burstiness: Annotated[float, Field(ge=0, le=20)] = 1.0
    """Coefficient of variation of the times between arrivals; 1 is a Poisson process."""
    growth_per_year: Annotated[float, Field(gt=-1, le=100)] = 0.0
    """0.5: half as much again in a year."""

    @model_validator(mode="after")
    def _one_source(self) -> Demand:
        given = [name for name in ("buckets", "lengths", "trace") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected exactly one of buckets, lengths and trace, got {' and '.join(given) or 'none'}")
        job = (self.requests is not None, self.deadline_hours is not None)
        if any(job) and not all(job):
            raise ValueError("a job needs both 'requests' and 'deadline_hours'")
        rated = self.requests_per_s is not None
        if given == ["buckets"]:
            if rated or any(job):
                raise ValueError("buckets bring their own rates; leave out requests_per_s, requests and deadline_hours")
        elif rated == all(job):
            raise ValueError(f"a {given[0]} needs a rate: either 'requests_per_s', or 'requests' and 'deadline_hours'")
        return self


class ModelDemand(Strict):
    """One model and its demand."""

    model: Any = None
    """A name or path, as in a sweep; with `throughput` any text."""
    demand: Demand
    slo: Any = None
    """As the plan's `slo`, for this model alone."""
    weight: Positive = 1.0
    """Worth of one of its requests, where as much as possible is to be served."""


class Region(Strict):
    """A place where devices stand, with limits and prices of its own."""

    price_factor: Annotated[float, Field(gt=0, le=1000)] = 1.0
    """On the price of every accelerator there: on rent, energy included, or on what is paid for a bought one. The power
    and cooling of bought ones cost what `economics` says, everywhere."""
    power_kw: Positive | None = None
    """Of boards and their hosts there, without cooling."""
    stock: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Accelerator -> the most there are; those not named are there in any number."""
    only: bool = False
    """Whether there are only the accelerators in its stock."""


class Budget(Strict):
    """What the fleet may cost, draw and hold."""

    usd_per_hour: Positive | None = None
    usd_per_month: Positive | None = None
    """Of 730.5 hours."""
    capital_usd: Positive | None = None
    """For devices that are bought (`price.kind: purchase`)."""
    power_kw: Positive | None = None
    """Of boards and their hosts, without cooling: what a rack is fed with."""
    stock: dict[str, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Accelerator -> the most there are, in each region; those in a box of another name (`box_of`) among them."""
    regions: dict[Text, Region] = Field(default_factory=dict)
    """Places to choose from; an accelerator in one of them is called `h100-sxm@NAME`."""

    @model_validator(mode="after")
    def _one_rate(self) -> Budget:
        if self.usd_per_hour is not None and self.usd_per_month is not None:
            raise ValueError("give either usd_per_hour or usd_per_month, not both")
        return self

    @property
    def hourly(self) -> float | None:
        """Dollars per hour, or None."""
        return self.usd_per_month / HOURS_PER_MONTH if self.usd_per_month is not None else self.usd_per_hour


class Candidates(Strict):
    """What may be deployed; axes as in a sweep."""

    hardware: Any = "all"
    """`all` of the library, or names, paths and mappings with `base`. With `throughput`, names of its rows; the other
    candidates mean nothing there."""
    precision: Any = NATIVE
    parallel: Parallel | None = None
    """Degrees to combine; by default every tp and pp (and ep for experts) up to `max_devices`."""
    max_devices: Count = 8
    """Of one replica; of disaggregated serving, of one worker."""
    batch: Any = None
    """Limits on the sequences in flight to choose from; by default 1, 2, 3, 4, 6, 8, 12 ... 512."""
    serving: Any = None
    """By default as the latencies ask: `offline` without limits, else `open-loop`, the highest rate of arrivals that
    keeps them. `disaggregated` beside it lets pools of prefill and decode workers compete."""
    disaggregated: Disaggregation | None = None
    """Of the pools, as in a sweep; both choose from the same by default, on at most twice `max_devices`, or eight."""
    offload: Any = "none"
    """`lp` beside `none` lets deployments with weights and cache on host and disk compete (batch jobs)."""
    runtime: Any = "vllm"
    """Engines to choose from: plans rest on a real one, sweeps on `ideal` kernels."""
    fidelity: Literal["ideal", "datasheet", "calibrated"] = "calibrated"
    techniques: dict[str, Any] = Field(default_factory=dict)
    """Technique -> one value or several to choose from, as the axes of a sweep: `chunk_tokens: [none, 512]`,
    `prefix_hit: 0.4`, `speculation: ...`."""
    max_prefill_tokens: Count = 8192
    memory_utilization: Annotated[float, Field(gt=0, le=1)] = 0.9


class PlanPrice(Strict):
    """Which quotes to use: kinds differ by up to ten times for one accelerator."""

    kind: PriceKind | tuple[PriceKind, ...] = "on-demand"
    """One kind, or several: of an accelerator the first that there is a quote of."""
    override: dict[str, Dollars] = Field(default_factory=dict)
    """Accelerator -> dollars per device and hour."""
    purchase: dict[str, Dollars] = Field(default_factory=dict)
    """Accelerator -> dollars per device, where it is bought."""

    @field_validator("kind")
    @classmethod
    def _some_kind(cls, kind: PriceKind | tuple[PriceKind, ...]) -> PriceKind | tuple[PriceKind, ...]:
        if not kind:
            raise ValueError("needs at least one kind")
        return kind

    @property
    def kinds(self) -> tuple[PriceKind, ...]:
        """The kinds, first choice first."""
        return (self.kind,) if isinstance(self.kind, str) else self.kind


class Economics(Strict):
    """What owned devices cost beside their price, and what energy is counted with."""

    amortisation_years: Annotated[float, Field(ge=0.1, le=100)] = 4.0
    """Years over which a purchase is spread. Four: between the three of a warranty and the five or six that cloud
    companies write servers off over."""
    usd_per_kwh: Annotated[float, Field(ge=0, le=1000)] = 0.08
    """Recalled: the United States' average for industry in 2023 (EIA, 8.04 cents)."""
    pue: Annotated[float, Field(ge=1, le=10)] = 1.58
    """Power of the site over that of its servers; the survey mean of 2023 (Uptime Institute)."""
    host_share: Annotated[float, Field(ge=0, le=100)] = 0.82
    """Power of host, fans and network over that of the boards. Recalled: DGX H100, 10.2 kW with 8 boards of 700 W."""


class CurrentEntry(Strict):
    """A part of today's fleet; with `throughput` so many accelerators, each as its rows say."""

    hardware: Text
    replicas: Count = 1
    model: Text | None = None
    """Needed where the plan has several."""
    precision: Any = NATIVE
    tp: Count = 1
    pp: Count = 1
    dp: Count = 1
    ep: Count | Literal["auto"] = "auto"


class Verification(Strict):
    """The replay of answers in the simulator."""

    requests: Annotated[int, Field(ge=0)] = 2000
    """Of each deployment's share; 0: no replay."""
    seed: Annotated[int, Field(ge=0)] = 0
    draws: Count = 2
    """Arrivals drawn independently: an answer must hold in each."""
    answers: Count = 8
    """Answers tried, until one holds."""


class PlanFile(Strict):
    """The fields of a plan."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    models: tuple[ModelDemand, ...]
    """At least one."""
    slo: Any = None
    """A class by name (`configs/slos.yaml`), or limits such as `{ttft_ms: {p99: 2000}, tpot_ms: {mean: 50}}`."""
    budget: Budget = Budget()
    candidates: Candidates = Candidates()
    constraints: dict[str, Bound] = Field(default_factory=dict)
    """`accuracy_drop_pct: {max: 1}`: precisions that lose more, or nobody has measured, are left out."""
    redundancy: Annotated[int, Field(ge=0, le=10_000)] = 0
    """Replicas of each deployment that may fail without loss: 1 for N + 1."""
    headroom: Annotated[float, Field(ge=0, le=0.99)] = 0.2
    """Share of every replica's capacity left free at the peak. 0.99 is a hundred times the replicas."""
    whole_boxes: bool = False
    """Devices come in the boxes of their hardware file, eight at a time."""
    slices: Annotated[int, Field(ge=1)] | None = None
    """Shares of a bucket in whole slices, as Mélange has it; by default any share."""
    price: PlanPrice = PlanPrice()
    economics: Economics = Economics()
    throughput: Text | None = None
    """CSV of measured throughputs instead of the cost model: `input, output, hardware, requests_per_s`, and where there
    is more than one model `model`."""
    objective: Literal["cost", "served_rate"] = "cost"
    """The cheapest fleet for the demand, or the most of it under the budget."""
    current: tuple[CurrentEntry, ...] = ()
    """Today's fleet, to be compared with."""
    alternatives: Annotated[int, Field(ge=1, le=20)] = 3
    """Fleets of different hardware to look for."""
    time_limit_s: Positive = 30.0
    """Of one solve."""
    verify: Verification = Verification()
    notes: str = ""

    @model_validator(mode="after")
    def _served_rate_needs_a_budget(self) -> PlanFile:
        limits = (self.budget.hourly, self.budget.capital_usd, self.budget.power_kw, *self.budget.stock.values())
        if self.objective == "served_rate" and all(limit is None for limit in limits):
            raise ValueError(
                "objective served_rate needs a budget: usd_per_hour, usd_per_month, capital_usd, power_kw or stock"
            )
        return self
