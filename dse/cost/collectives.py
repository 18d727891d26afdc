"""Collectives by the alpha-beta model, over links that change at the edge of the scale-up domain.

K bytes per device, N ranks, alpha seconds to start a message, gamma bytes/s one way per device:

    ring all-reduce      2 (N-1) alpha + 2 (N-1)/N K/gamma
    tree all-reduce      2 ceil(log2 N) alpha + 2 K/gamma
    one-shot all-reduce  alpha + (N-1) K/gamma
    all-gather           alpha + (N-1)/N K/gamma,  direct; K the gathered size
    all-to-all           alpha + (N-1)/N K/gamma,  direct
    point to point       alpha + K/gamma

(Thakur et al. 2005; NCCL's tree, 1906.02243.) A group larger than the domain of D devices works in two
levels: inside each domain, then over the G = ceil(N/D) domains. Ring and tree send the share of one rank, K/D,
between domains; one-shot and direct collectives send there all that a rank needs from elsewhere.

Where a chip's collectives were timed, a group inside one domain takes the fitted time (`dse.cost.fitted_links`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dse.cost.choices import Choices
from dse.cost.fitted_links import FittedLinks
from dse.cost.mesh import Mesh
from dse.cost.work import Array, Routes


@dataclass(frozen=True)
class Links:
    """The network of each accelerator on the mesh: shapes over the axes hardware and fidelity."""

    domain: Array
    """Devices that reach each other over the fast link."""
    alpha: Array
    """Seconds to start a message inside the domain."""
    beta: Array
    """Seconds per byte inside the domain."""
    alpha_out: Array
    beta_out: Array
    fitted: FittedLinks
    """Collectives that were timed on the chip or a relative."""

    @classmethod
    def on(cls, mesh: Mesh, choices: Choices) -> Links:
        """Links of the mesh's accelerators at the mesh's fidelities."""
        share = mesh.take(np.array([f.link for f in choices.fidelities]), "fidelity")
        alpha = np.array([f.latency_us * 1e-6 for f in choices.fidelities])
        alpha_out = np.array([f.latency_out_us * 1e-6 for f in choices.fidelities])
        out = choices.of_hardware("scale_out_bandwidth")
        return cls(
            domain=mesh.take(choices.of_hardware("domain"), "hardware"),
            alpha=mesh.take(alpha, "fidelity"),
            beta=1.0 / (mesh.take(choices.of_hardware("domain_bandwidth"), "hardware") * share),
            alpha_out=mesh.take(alpha_out, "fidelity"),
            # Without a scale-out link a group cannot leave its domain: `evaluate` gives those points a status.
            beta_out=1.0 / (mesh.take(np.where(np.isnan(out), np.inf, out), "hardware") * share),
            fitted=FittedLinks.on(mesh, choices),
        )

    def _levels(self, ranks: Array, stride: Array) -> tuple[Array, Array]:
        """Ranks inside a domain and number of domains, for ranks that lie `stride` devices apart."""
        inside = np.clip(np.floor(self.domain / stride), 1.0, ranks)
        return inside, np.ceil(ranks / inside)

    def all_reduce(self, ranks: Array, stride: Array = 1.0) -> Routes:
        """Ring, tree and one-shot; `ranks` (layout,) may be 1, which costs nothing."""
        inside, domains = self._levels(ranks, stride)
        ring = (
            2 * (inside - 1) * self.alpha + 2 * (domains - 1) * self.alpha_out,
            2 * (inside - 1) / inside * self.beta + 2 * (domains - 1) / domains / inside * self.beta_out,
            0.0,
        )
        tree = (
            2 * _log2(inside) * self.alpha + 2 * _log2(domains) * self.alpha_out,
            2 * (inside > 1) * self.beta + 2 * (domains > 1) / inside * self.beta_out,
            0.0,
        )
        one_shot = (
            (inside > 1) * self.alpha + (domains > 1) * self.alpha_out,
            (inside - 1) * self.beta + (domains - 1) * self.beta_out,
            0.0,
        )
        return self.fitted.all_reduce(Routes((ring, tree, one_shot)), ranks, domains)

    def all_gather(self, ranks: Array, stride: Array = 1.0) -> Routes:
        """Direct; the size is what each device ends up with. Reduce-scatter costs the same.

        What comes from other domains is shared out among the ranks inside and passed on over the fast link.
        """
        inside, domains = self._levels(ranks, stride)
        per_byte = (inside - 1) / inside * self.beta + (domains - 1) / domains / inside * self.beta_out
        direct = ((inside > 1) * self.alpha + (domains > 1) * self.alpha_out, per_byte, 0.0)
        return self.fitted.direct("all_gather", Routes((direct,)), ranks, domains)

    def all_to_all(self, ranks: Array, stride: Array = 1.0) -> Routes:
        """Direct exchange; the size is what one device sends altogether, its own part included."""
        inside, domains = self._levels(ranks, stride)
        per_byte = (inside - 1) / ranks * self.beta + (ranks - inside) / ranks * self.beta_out
        direct = ((inside > 1) * self.alpha + (domains > 1) * self.alpha_out, per_byte, 0.0)
        return self.fitted.direct("all_to_all", Routes((direct,)), ranks, domains)

    def point_to_point(self, reach: Array) -> Routes:
        """One message to the neighbour stage; `reach` is how many devices the replica spans."""
        inside = reach <= self.domain
        way = (np.where(inside, self.alpha, self.alpha_out), np.where(inside, self.beta, self.beta_out), 0.0)
        return Routes((way,))


def _log2(ranks: Array) -> Array:
    """ceil(log2 N), exact: frexp, because rounding of a logarithm may differ between machines."""
    mantissa, exponent = np.frexp(ranks)
    result: Array = np.where(mantissa == 0.5, exponent - 1.0, exponent)
    return result


def seconds(routes: Routes, size: Array) -> Array:
    """Time to send `size` bytes by the fastest route."""
    times = [start + per_byte * size for start, per_byte, _ in routes.ways]
    ramps = [ramp for _, _, ramp in routes.ways]
    if any(isinstance(ramp, np.ndarray) for ramp in ramps):
        root = np.sqrt(size)
        times = [time + ramp * root for time, ramp in zip(times, ramps, strict=True)]
    best: Array = times[0]
    for time in times[1:]:
        best = np.minimum(best, time)
    return best
