"""What a plan chooses from, as the axes of a sweep; faults stand where the plan says the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from dse.cost.techniques import TECHNIQUES
from dse.errors import Fault
from dse.run.axes import OPEN, POOLED, Axes, read_axes
from dse.run.demand import Bucket
from dse.run.faults import Faults
from dse.run.prices import PricedDevice
from dse.run.resolve import Sweep, sweep_of
from dse.search.space import Layout, layouts_of
from dse.spec.catalog import chip_names
from dse.spec.composer import Steps
from dse.spec.model import ModelSpec, MoE
from dse.spec.plan import Candidates, PlanFile
from dse.spec.reading import Document, suggest
from dse.spec.sweep import Disaggregation, PriceChoice, SweepFile
from dse.spec.workload import Workload

BATCHES = [1, *sorted({step << doubling for doubling in range(9) for step in (2, 3)} - {768})]
"""Limits on the sequences in flight that are tried in a closed loop: 1, 2, 3, 4, 6, 8, 12 ... 512."""

OPEN_BATCHES = [512]
"""The same where requests arrive. There the rate decides how many run, and one limit will do: under it the highest rate
is that of the best of 18 limits less 1 %, mean over 450 cases, and at worst less 16 %."""


PAIR, ROOMY = 2, 8
"""Accelerators of the smallest deployment of two pools, and of one in which small workers can be counted out well."""


class _View(Document):
    """The plan's document as that of a sweep: faults stand where the plan says the same."""

    plan: Document
    places: Mapping[str, Steps]

    @classmethod
    def of(cls, plan: Document, value: Any, places: Mapping[str, Steps]) -> _View:
        """A view of the plan.

        Args:
            plan: the whole document.
            value: the fields of the sweep.
            places: field -> where it stands in the plan; a list gets its own index after the first star.
        """
        view = cls(plan.file, value, plan.text)
        view.__dict__ |= {"plan": plan, "places": places}
        return view

    def fault(self, path: Steps, message: str, *, key: bool = False) -> Fault:
        """A fault, at its place in the plan."""
        steps = list(path)
        known = self.places.get(str(steps[0]) if steps else "", ())
        place = [steps.pop(1) if step == "*" and len(steps) > 1 else step for step in known]
        return self.plan.fault((*place, *steps[1:]), message, key=key)


def candidate_axes(file: PlanFile, document: Document, limited: bool, faults: Faults) -> Axes | None:
    """The axes of all candidates; models without a name are faults."""
    unnamed = [index for index, entry in enumerate(file.models) if entry.model is None]
    faults.found += [document.fault(("models", index), "missing field 'model'") for index in unnamed]
    if unnamed:
        return None
    fields = ("hardware", "precision", "parallel", "batch", "serving", "offload", "runtime", "fidelity")
    places: dict[str, Steps] = {name: ("candidates", name) for name in (*fields, "disaggregated")}
    places |= {name: ("candidates", "techniques", name) for name in TECHNIQUES}
    if wrong := list(_not_candidates(file, document)):
        faults.found += wrong
        return None
    own = _sweep_file(file, limited)
    view = _View.of(document, own.model_dump(), {**places, "models": ("models", "*", "model")})
    return read_axes(own, view, faults)


def _not_candidates(file: PlanFile, document: Document) -> Iterator[Fault]:
    """Techniques there are none of; pools whose tensors were to be offloaded."""
    for name in file.candidates.techniques:
        if name not in TECHNIQUES:
            hint = suggest(name, TECHNIQUES) or f"; expected one of {', '.join(TECHNIQUES)}"
            yield document.fault(("candidates", "techniques", name), f"unknown technique{hint}", key=True)
    stated = _listed(file.candidates.serving)
    if POOLED not in stated:
        return
    if "none" not in _listed(file.candidates.offload):
        message = f"workers of {POOLED} serving hold all of their weights; add 'none' to 'offload', or leave it out"
        yield document.fault(("candidates", "offload"), message)
    pools = file.candidates.disaggregated
    if pools is not None and pools.fill:
        message = "a plan counts accelerators of whole fleets, not of one deployment; leave 'fill' out"
        yield document.fault(("candidates", "disaggregated", "fill"), message)
    if pools is not None and pools.devices is not None and pools.devices < PAIR:
        message = f"a prefill and a decode worker are {PAIR} accelerators at least, got {pools.devices}"
        yield document.fault(("candidates", "disaggregated", "devices"), message)


def _sweep_file(file: PlanFile, limited: bool) -> SweepFile:
    """The sweep over all candidates; its workloads are those of each model."""
    own, serving = file.candidates, _serving(file, limited)
    stated = {
        "name": file.name,
        "models": [entry.model for entry in file.models],
        "hardware": chip_names() if own.hardware == "all" else own.hardware,
        "precision": own.precision,
        "workload": "1024x256",
        "parallel": own.parallel,
        "batch": own.batch if own.batch is not None else OPEN_BATCHES if set(serving) <= {OPEN, POOLED} else BATCHES,
        "serving": serving,
        "disaggregated": _disaggregation(own),
        "rate": 1.0 if {OPEN, POOLED} & set(serving) else None,
        "offload": own.offload,
        "runtime": own.runtime,
        "fidelity": own.fidelity,
        **own.techniques,
        "max_prefill_tokens": own.max_prefill_tokens,
        "memory_utilization": own.memory_utilization,
        "price": PriceChoice(kind=file.price.kinds[0]),
        "objectives": ("requests_per_s",),
        "group_by": ("model",),
    }
    return SweepFile.model_construct(**{**_DEFAULTS, **stated})


_DEFAULTS = {
    name: entry.get_default(call_default_factory=True)
    for name, entry in SweepFile.model_fields.items()
    if not entry.is_required()
}


def _serving(file: PlanFile, limited: bool) -> list[Any]:
    """The states deployments are judged in: what the user says, else what the latencies ask for."""
    stated = file.candidates.serving
    found = _listed((OPEN if limited else "offline") if stated is None else stated)
    if "lp" in _listed(file.candidates.offload) and "static" not in found:
        found.append("static")  # placements run static blocks
    return found


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _disaggregation(stated: Candidates) -> Disaggregation | None:
    """The pools of a plan: passes of as many prompts as an engine takes, and decode workers likewise."""
    if POOLED not in _listed(stated.serving):
        return stated.disaggregated
    own = stated.disaggregated or Disaggregation()
    prefill, decode = own.prefill, own.decode
    if "batch" not in prefill.model_fields_set:
        prefill = prefill.model_copy(update={"batch": OPEN_BATCHES})
    if decode.batch is None:
        decode = decode.model_copy(update={"batch": OPEN_BATCHES if stated.batch is None else stated.batch})
    devices = max(2 * stated.max_devices, ROOMY) if own.devices is None else own.devices
    return own.model_copy(update={"prefill": prefill, "decode": decode, "devices": devices})


def candidate_sweep(
    file: PlanFile, axes: Axes, index: int, buckets: Sequence[Bucket], devices: Mapping[str, PricedDevice]
) -> Sweep:
    """The deployments of one model on its buckets, on accelerators with a price."""
    model = axes.models[index]
    stated = file.candidates
    layouts = axes.layout if stated.parallel is not None else _layouts(model, stated.max_devices)
    pools = axes.pools
    if pools is not None and pools.layout == axes.layout:
        pools = replace(pools, layout=layouts)
    own = replace(
        axes,
        models=(model,),
        workload=tuple(Workload(bucket.input, bucket.output) for bucket in buckets),
        layout=layouts,
        pools=pools,
    )
    sweep = sweep_of(_sweep_file(file, limited=True), own)
    burstiness = file.models[index].demand.burstiness
    chips = {device.chip for device in devices.values()}
    return on_hardware(replace(sweep, settings=replace(sweep.settings, burstiness=burstiness)), chips)


def on_hardware(sweep: Sweep, names: Collection[str]) -> Sweep:
    """A sweep on some of its accelerators."""
    axes = sweep.axes
    kept = [place for place, chip in enumerate(axes.hardware) if chip.name in names]
    chips, changes = tuple(axes.hardware[place] for place in kept), tuple(axes.changes[place] for place in kept)
    left = replace(axes, hardware=chips, changes=changes)
    if axes.pools is not None:
        prompts = tuple(chip for chip in axes.pools.hardware if chip.name in names)
        others = tuple(serving for serving in axes.serving if serving != POOLED)
        pools = replace(axes.pools, hardware=prompts)
        left = replace(left, pools=pools) if prompts else replace(left, pools=None, serving=others)
    return replace(sweep, axes=left)


def _layouts(model: ModelSpec, most: int) -> tuple[Layout, ...]:
    """Every layout of powers of two up to so many devices; attention-dp and ep where there are experts to spread."""
    degrees = [1 << doubling for doubling in range(most.bit_length()) if 1 << doubling <= most]
    experts = any(isinstance(layer.ffn, MoE) for layer in model.layers)
    found = layouts_of(degrees, degrees, degrees if experts else [1], "auto")
    return tuple(layout for layout in found if layout.devices <= most)
