"""Efficiencies from kernel timings: robust least squares on the logarithm of the ratio, whole sites held out."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.calibrate.kernels import Batch, Column
from dse.calibrate.timings import Timed, Timings, l2_bytes
from dse.cost.efficiency import DATASHEET
from dse.cost.forms import LAWS, US, Law
from dse.cost.work import Group
from dse.spec.calibration import FORMS, KEYS, MOST, SET_OF, Fitted, Form
from dse.spec.hardware import HardwareSpec

FOLDS = 4
LEAST = 24
"""Timings of a class and type that are fitted; fewer do not settle six parameters."""
DESCRIBED = 1.5
"""A framework whose held-out median error is more than so many times the least is not taken, however fast."""
SOFT = 0.1
"""Log residual at which the loss turns from quadratic to linear (soft L1): 10 %."""
PRIOR = 0.02
"""Weight of the distance from where the search starts, in logarithms: nothing beside 24 timings, but what they do not
settle (compute, where all are bound by memory) stays near what chips usually reach."""

Bounds = tuple[float, float, float]
"""Start, least and most."""

_SHARES: Mapping[str, Bounds] = {"compute": (0.6, 0.02, 1.0), "memory": (0.8, 0.03, 1.0)}
BOUNDS: Mapping[Form, Mapping[str, Bounds]] = {
    "gemm": {
        "t0_us": (5.0, 0.5, 60.0), **_SHARES,
        "tile": (0.3, 1e-3, 20.0), "inputs": (1.0, 1e-3, 30.0), "outputs": (0.5, 1e-3, 10.0),
    },
    "prefill": {
        "t0_us": (12.0, 0.5, 100.0), **_SHARES,
        "tile": (0.3, 1e-3, 20.0), "tau_us": (1.0, 1e-3, 50.0), "softmax": (0.3, 1e-4, 20.0),
    },
    "decode": {
        "t0_us": (10.0, 0.5, 100.0), "compute": (0.3, 0.01, 1.0), "memory": (0.85, 0.05, 1.0),
        "tau_us": (2.0, 1e-2, 50.0), "item": (0.01, 1e-6, 1.0), "hot": (0.2, 1e-3, 0.9),
    },
    "moe": {
        "t0_us": (30.0, 1.0, 400.0), "compute": (0.4, 0.02, 1.0), "memory": (0.6, 0.05, 1.0),
        "activations": (0.3, 1e-3, 60.0), "padding": (0.3, 1e-3, 3.0), "routing": (1.0, 1e-3, 60.0),
    },
    "collective": {
        "alpha0_us": (5.0, 0.1, 300.0), "alpha1_us": (2.0, 1e-3, 100.0), "ramp": (0.5, 1e-4, 100.0),
        "inverse2": (1.5, 0.5, 100.0), "inverse4": (1.5, 0.5, 100.0), "inverse8": (1.5, 0.5, 100.0),
    },
}  # fmt: skip
"""Physical limits: shares of a roof are at most 1, so that no fit is faster than the roofline. `hot` is the share of
the L2 cache that calls repeated on one shape hit: fitted with decode, and left out of what is stored, because a layer
of a model finds the cache overwritten by the layers before it."""


def bounds_of(form: Form) -> Mapping[str, Bounds]:
    """Start and limits of each parameter of a class."""
    same: Mapping[Form, Form] = {"latent_prefill": "prefill", "latent_decode": "decode"}
    return BOUNDS[same.get(form, form)]


@dataclass(frozen=True)
class Result:
    """One class and number type, fitted."""

    form: Form
    key: str
    fitted: Fitted
    before: Column
    """Ratios predicted / measured with default efficiencies."""
    after: Column
    """Of predictions from fits that had not seen the row's site."""

    @property
    def slowness(self) -> float:
        """Measured time over that of the default efficiencies, geometric mean."""
        return float(np.exp(-np.mean(np.log(self.before))))


def fit_all(
    timings: Timings, chip: HardwareSpec, prefer: Mapping[str, Sequence[str]] | None = None, without: Sequence[str] = ()
) -> list[Result]:
    """A set for each class and number type with enough rows, at most `MOST` parameters together.

    Args:
        timings: of the accelerator.
        chip: the accelerator.
        prefer: class (or `all`) -> frameworks, best first; otherwise `_best` decides.
        without: classes that are not fitted.
    """
    found = []
    for form in FORMS:
        for key in KEYS[form] if form not in without else ():
            rows = [timed for timed in timings.batches if (timed.batch.form, timed.batch.key) == (form, key)]
            joined = _by_framework(rows)
            wanted = (prefer or {}).get(form, (prefer or {}).get("all", ()))
            named = [timed for name in wanted for timed in joined if timed.framework.split(" ")[0] == name]
            candidates = [_fitted(form, key, timed, chip) for timed in named[:1] or joined]
            if candidates:
                found.append(_best(candidates))
    return within_budget(found)


def within_budget(found: list[Result]) -> list[Result]:
    """The results without the sets of experts that rest on fewest rows, until at most `MOST` parameters are left."""
    kept = list(found)
    while sum(len(result.fitted.names()) for result in kept) > MOST:
        least = min((r for r in kept if r.form == "moe"), key=lambda r: r.fitted.rows, default=kept[-1])
        kept.remove(least)
    return kept


def _best(candidates: Sequence[Result]) -> Result:
    """The framework whose kernels are the fastest, of those whose times the form describes.

    Kernels of two frameworks differ by more than any form can: of FP8 experts on an H100, one takes 1.6 times the time
    of the defaults (geometric mean over the shapes), another 4.2 times. Engines choose the fast ones, and a model that
    is fitted to a mixture describes none.
    """
    least = min(result.fitted.median_pct for result in candidates)
    described = [result for result in candidates if result.fitted.median_pct <= DESCRIBED * least]
    return min(described, key=lambda result: result.slowness)


def _by_framework(rows: Sequence[Timed]) -> list[Timed]:
    """Rows of each framework that has enough."""
    by_name: dict[str, list[Timed]] = {}
    for timed in rows:
        by_name.setdefault(timed.framework, []).append(timed)
    return [join(by_name[name]) for name in sorted(by_name) if sum(map(len, by_name[name])) >= LEAST]


def join(parts: Sequence[Timed]) -> Timed:
    """Batches of one class, type and framework as one."""
    first = parts[0].batch
    quantities = {
        name: np.concatenate([np.broadcast_to(t.batch.quantities[name], (len(t),)) for t in parts])
        for name in first.quantities
    }
    sites = [site for timed in parts for site in timed.batch.sites]
    rows, scope = (np.concatenate([getattr(t.batch, name) for t in parts]) for name in ("rows", "scope"))
    batch = Batch(first.form, first.key, rows, quantities, first.roofs, sites, scope)
    return Timed(batch, np.concatenate([timed.seconds for timed in parts]), parts[0].framework)


def _fitted(form: Form, key: str, timed: Timed, chip: HardwareSpec) -> Result:
    held = held_out(timed, chip)
    values = search(timed, chip)
    if form == "collective" and not np.any(timed.batch.quantities["ranks"] > 4):
        values["inverse8"] = values["inverse4"]  # beyond what was timed, as there
    after = held / timed.seconds
    error = 100 * np.abs(after[np.isfinite(after)] - 1)
    stored = {name: _digits(value) for name, value in values.items() if name != "hot"}
    about = {"mape_pct": _digits(float(error.mean()), 3), "median_pct": _digits(float(np.median(error)), 3)}
    fitted = SET_OF[form].model_validate({"framework": timed.framework, "rows": len(timed), **about, **stored})
    return Result(form, key, fitted, defaults(timed, chip) / timed.seconds, after)


def _digits(value: float, count: int = 4) -> float:
    return float(f"{value:.{count}g}")


def predict(values: Mapping[str, float], batch: Batch, l2: float) -> Column:
    """Seconds of each row."""
    found, roofs = batch.quantities, batch.roofs
    if batch.form == "collective":
        return _collective(values, found)
    law = LAWS[batch.form](SimpleNamespace(**values), roofs)
    seconds = np.maximum(law.flops * found["flops"], law.bytes * found["bytes"]) + _sum(law, found)
    if "hot" in values:
        cached = np.minimum(found["bytes"], l2) / (roofs.bandwidth * values["memory"])
        seconds = seconds - values["hot"] * cached
    return seconds


def _sum(law: Law, found: Mapping[str, Column]) -> Column:
    total: Any = 0.0
    for name, per_unit in (*law.rest.items(), *law.launch.items()):
        if per_unit:
            total = total + per_unit * found[name]
    return np.asarray(total)


def _collective(values: Mapping[str, float], found: Mapping[str, Column]) -> Column:
    from dse.cost.fitted_links import shares

    inverse = sum(
        share * values[name]
        for share, name in zip(shares(found["ranks"]), ("inverse2", "inverse4", "inverse8"), strict=True)
    )
    start = (values["alpha0_us"] + values["alpha1_us"] * found["ranks"]) * US
    seconds: Column = start + inverse * found["wire"] + values["ramp"] * np.sqrt(found["wire"] * US)
    return seconds


def search(timed: Timed, chip: HardwareSpec) -> dict[str, float]:
    """Parameters by soft L1 on the log residual, in their logarithms, within bounds."""
    from scipy.optimize import least_squares

    bounds = bounds_of(timed.batch.form)
    names = list(bounds)
    start, low, high = (np.log(np.array([bounds[name][i] for name in names])) for i in range(3))
    l2, pull = l2_bytes(chip), np.sqrt(PRIOR) * SOFT

    def residuals(z: NDArray[np.float64]) -> NDArray[np.float64]:
        values = dict(zip(names, np.exp(z).tolist(), strict=True))
        ratio = predict(values, timed.batch, l2) / timed.seconds
        return np.append(np.log(np.maximum(ratio, 1e-9)), pull * (z - start))

    inset = 1e-6 * (high - low)
    best = None
    for begin in (start, np.clip(start + np.where(np.arange(len(names)) % 2, 0.7, -0.7), low + inset, high - inset)):
        found = least_squares(residuals, begin, bounds=(low, high), loss="soft_l1", f_scale=SOFT, max_nfev=200)
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None
    return dict(zip(names, np.exp(best.x).tolist(), strict=True))


def held_out(timed: Timed, chip: HardwareSpec) -> Column:
    """Each row as predicted by a fit that has not seen its site: four folds of sites by their digest."""
    place = np.array([_digest(site) for site in timed.batch.sites])
    few = sorted(set(place.tolist()))
    fold = np.array([few.index(v) for v in place.tolist()]) if len(few) <= FOLDS else place % FOLDS
    out = np.full(len(timed), np.nan)
    for part in sorted(set(fold.tolist())):
        train, test = np.flatnonzero(fold != part), np.flatnonzero(fold == part)
        if len(train) > len(bounds_of(timed.batch.form)) + 2:
            seen = subset(timed, train)
            out[test] = predict(search(seen, chip), subset(timed, test).batch, l2_bytes(chip))
    return out


def subset(timed: Timed, index: NDArray[np.intp]) -> Timed:
    """Some rows of a batch."""
    b = timed.batch
    quantities = {name: np.broadcast_to(values, (len(timed),))[index] for name, values in b.quantities.items()}
    sites = [b.sites[i] for i in index.tolist()]
    batch = Batch(b.form, b.key, b.rows[index], quantities, b.roofs, sites, b.scope[index])
    return Timed(batch, timed.seconds[index], timed.framework)


def _digest(site: str) -> int:
    return int(hashlib.sha256(site.encode()).hexdigest()[:8], 16)


_GROUP: Mapping[Form, Group] = {
    "gemm": "gemm", "prefill": "attention", "decode": "attention", "latent_prefill": "attention",
    "latent_decode": "attention", "moe": "moe",
}  # fmt: skip


def defaults(timed: Timed, chip: HardwareSpec) -> Column:
    """Seconds of each row with the default efficiencies of `datasheet`."""
    batch, found = timed.batch, timed.batch.quantities
    if batch.form == "collective":
        ranks = found["ranks"]
        start = DATASHEET.latency_us * US
        wire = found["wire"] / DATASHEET.link
        if not batch.key.startswith("all_reduce"):
            return np.asarray(start + wire)
        ring, tree = 2 * (ranks - 1) * start + wire, 2 * np.ceil(np.log2(ranks)) * start + wire * ranks / (ranks - 1)
        return np.minimum(np.minimum(ring, tree), start + wire * ranks / 2)
    share = DATASHEET.groups[_GROUP[batch.form]]
    used = next((dtype for dtype, peak in chip.peaks.items() if peak == batch.roofs.peak), "bf16")
    compute, memory = share.compute * DATASHEET.compute_of.get(used, 1.0), share.memory
    if batch.key.startswith("w"):
        compute, memory = compute * DATASHEET.weight_only_compute, memory * DATASHEET.weight_only_memory
    roof = np.maximum(found["flops"] / (batch.roofs.peak * compute), found["bytes"] / (batch.roofs.bandwidth * memory))
    return np.asarray(roof + share.fixed_us * US)
