"""Whose fitted efficiencies an accelerator uses: its own, else those of its nearest relative, else none.

For each class of kernels and number type, the first step that finds anything:

1. Its own, while the datasheet numbers they are shares of are those they were fitted with. Where some differ (a
   variant with `base:`, a corrected file) they hold as transferred.
2. Chips of one generation (`architecture` up to its first hyphen) with one kind of memory: HBM, GDDR and LPDDR parts
   of a generation have other caches, clocks under load and ratios of compute to bandwidth, and other kernels are
   written for them.
3. Chips of one vendor with one kind of memory: one compiler and one library of kernels.

Beyond the vendor nothing is taken over: what a share stands for there is another software stack, and defaults do
better (README.md has the errors, each measured chip left out in turn). Collectives follow the link instead of the
memory, and only a link made for them (`scale_up`): what a PCIe box reaches depends on its switches and sockets, not on
its chips. Of several relatives the median of each parameter is taken.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

from dse.spec.calibration import FORMS, KEYS, SET_OF, Basis, Calibration, Fitted, Form
from dse.spec.hardware import HardwareSpec

TOLERANCE = 0.005
"""Numbers that differ by less are the same: files round."""


def with_calibration(chip: HardwareSpec, measured: Sequence[HardwareSpec]) -> HardwareSpec:
    """The accelerator with every set it uses, those of others marked `inherited`.

    Args:
        chip: as its file says.
        measured: accelerators that were fitted, as their files say.
    """
    own = {(form, key): fitted for form, key, fitted in _own(chip)}
    sets: dict[str, dict[str, Fitted]] = {}
    for form in FORMS:
        for key in KEYS[form]:
            found = own.get((form, key)) or inherited(chip, measured, form, key)
            if found is not None:
                sets.setdefault(form, {})[key] = found
    if not sets:
        return chip.model_copy(update={"calibration": None})
    kept = chip.calibration or Calibration()
    update: dict[str, Any] = {form: sets.get(form, {}) for form in FORMS}
    return chip.model_copy(update={"calibration": kept.model_copy(update=update)})


def _own(chip: HardwareSpec) -> Iterator[tuple[Form, str, Fitted]]:
    """Sets of its own file, marked where a number they rest on has changed since."""
    block = chip.calibration
    if block is None or block.basis is None:
        return
    for form, key, fitted in block.sets():
        if fitted.inherited:
            continue
        if _rests(chip, block.basis, form):
            yield form, key, fitted
        elif form != "collective" or chip.scale_up is not None:
            yield form, key, fitted.model_copy(update={"inherited": (block.basis.chip,)})


def _rests(chip: HardwareSpec, basis: Basis, form: Form) -> bool:
    """Whether the chip's numbers are those a set was fitted with."""
    if form == "collective":
        return basis.link_gb_per_s is not None and _same(chip.domain_bandwidth, basis.link_gb_per_s * 1e9)
    peaks = all(_same(chip.peaks.get(dtype, 0.0), peak * 1e12) for dtype, peak in basis.peak_tflops.items())
    return peaks and _same(chip.bandwidth, basis.bandwidth_gb_per_s * 1e9) and chip.cores == basis.cores


def _same(a: float, b: float) -> bool:
    return abs(a - b) <= TOLERANCE * max(a, b)


def inherited(chip: HardwareSpec, measured: Sequence[HardwareSpec], form: Form, key: str) -> Fitted | None:
    """The set of the nearest relatives, the median of each parameter; None where there are none."""
    if chip.cores is None and form != "collective":
        return None  # tiles and items are counted per core
    for related in (_one_generation, _one_vendor):
        sets = [
            (other.name, found)
            for other in measured
            if other.name != chip.name and related(chip, other) and _alike(chip, other, form)
            and (found := _fitted(other, form, key)) is not None
        ]  # fmt: skip
        if sets:
            return _median(SET_OF[form], sets)
    return None


def _fitted(chip: HardwareSpec, form: Form, key: str) -> Fitted | None:
    found = chip.calibration.find(form, key) if chip.calibration is not None else None
    return found if found is not None and not found.inherited else None


def _one_generation(chip: HardwareSpec, other: HardwareSpec) -> bool:
    generation = chip.architecture.split("-")[0]
    return generation != "" and generation == other.architecture.split("-")[0] and _one_vendor(chip, other)


def _one_vendor(chip: HardwareSpec, other: HardwareSpec) -> bool:
    return chip.vendor == other.vendor


def _alike(chip: HardwareSpec, other: HardwareSpec, form: Form) -> bool:
    """One kind of memory, or of link."""
    if form == "collective":
        return chip.scale_up is not None and other.scale_up is not None
    return memory_kind(chip) == memory_kind(other) != ""


def memory_kind(chip: HardwareSpec) -> str:
    """HBM, GDDR, LPDDR or DDR: what a memory's name begins with."""
    text = chip.memory.type.upper()
    return next((kind for kind in ("HBM", "GDDR", "LPDDR", "DDR") if text.startswith(kind)), text)


def _median(cls: type[Fitted], sets: list[tuple[str, Fitted]]) -> Fitted:
    values = {
        name: float(f"{statistics.median(fitted.values()[name] for _, fitted in sets):.4g}") for name in cls.names()
    }
    rows = sum(fitted.rows for _, fitted in sets)
    frameworks = " + ".join(dict.fromkeys(fitted.framework for _, fitted in sets if fitted.framework))
    errors = {name: max(getattr(fitted, name) for _, fitted in sets) for name in ("mape_pct", "median_pct")}
    return cls(framework=frameworks, rows=rows, inherited=tuple(name for name, _ in sets), **errors, **values)
