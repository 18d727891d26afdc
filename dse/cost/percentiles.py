"""Percentiles and attained SLOs of requests whose times are known as mixtures over the lengths of a workload."""

from __future__ import annotations

from abc import abstractmethod
from functools import cached_property
from typing import Any

import numpy as np

from dse.cost.phases import Point
from dse.cost.queueing import Cases, Spread, at_most, quantile
from dse.cost.work import Array


class Percentiles:
    """Requests at a rate; NaN where they are more than can be served. Times in seconds."""

    point: Point
    stable: Any
    """Where arrivals are fewer than what finishes."""

    @property
    @abstractmethod
    def first_tokens(self) -> Cases:
        """Seconds to the first token: each length twice, with a place in the batch at once and without."""

    @property
    @abstractmethod
    def decoding(self) -> list[Spread]:
        """Seconds from the first token to the last, of each length."""

    @property
    @abstractmethod
    def gaps(self) -> Cases:
        """Seconds per token after the first, over the requests that have such."""

    @cached_property
    def latencies(self) -> Cases:
        """Seconds from arrival to the last token: cases as of the first tokens."""
        cases: list[tuple[Array, Spread]] = []
        for index, decode in enumerate(self.decoding):
            for weight, first in self.first_tokens[2 * index : 2 * index + 2]:
                whole = (getattr(first, name) + getattr(decode, name) for name in ("least", "mean", "variance"))
                cases.append((weight, Spread(*whole)))
        return cases

    def quantile(self, cases: str, share: float) -> Array:
        """A quantile of `first_tokens`, `gaps` or `latencies`."""
        return self.shown(quantile(getattr(self, cases), share))

    @cached_property
    def attainment(self) -> Array:
        """Share of requests that meet every SLO; time to the first token and time per token as independent."""
        slo = self.point.choices.slo
        total: Array = 0.0
        for index, (_, output, weight) in enumerate(self.point.lengths):
            pair, some = slice(2 * index, 2 * index + 2), np.where(weight > 0, weight, 1.0)
            met: Any = np.ones(1)
            if "ttft_ms" in slo:
                met = at_most(self.first_tokens[pair], slo["ttft_ms"] * 1e-3) / some
            if "tpot_ms" in slo:
                met = met * np.where(output > 1, self.gaps[index][1].below(slo["tpot_ms"] * 1e-3), 1.0)
            if "latency_s" in slo:
                met = np.minimum(met, at_most(self.latencies[pair], slo["latency_s"]) / some)
            total = total + weight * met
        return self.shown(total)

    def shown(self, values: Array) -> Array:
        """The values where requests can be served, NaN elsewhere."""
        return np.where(self.stable, values, np.nan)
