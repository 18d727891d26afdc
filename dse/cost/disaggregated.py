"""Disaggregated serving: x prefill workers and y decode workers, each with chips, formats and a layout of its own.

    R_p = u B_p / pass(B_p)                   requests/s of a prefill worker that computes passes of B_p prompts
    R_d = u B_d / ((O - 1) step(B_d))         requests/s of a decode worker that keeps B_d sequences running
    throughput = min(x R_p, y R_d)            x and y by `dse.cost.matching`

    ttft = server + gathering + pass + exposed transfer,    tpot = step(B_d)

The prompt pass emits token 1, but Dynamo, vLLM and TensorRT-LLM answer from the decode worker, which has the request
once its cache has arrived: the transfer counts in TTFT, and TPOT is that of a decode step. (Splitwise and DistServe
answer from the prefill worker and count the transfer in the first gap between tokens; latency is the same.) A request
waits for those that share its pass: evenly spaced arrivals at a full worker come B_p to a pass, which is (B_p - 1)/2
of their spacings on average. Random arrivals wait longer: `dse.cost.pooled`.

u is the share of the time that the engine is busy at its maximum, as it was measured (`RuntimeSpec.busy`); a link that
is slower than the kernels sets the pace (`dse.cost.handover`). The batches are what full workers run: of the pool with
capacity to spare, fewer run, and sooner.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dse.cost.choices import PREFILL, Pools
from dse.cost.handover import Handover, Link
from dse.cost.matching import Matched, match
from dse.cost.memory import Memory
from dse.cost.phases import Point
from dse.cost.serving import Pool, Spell, Spells, Static, slowest_share
from dse.cost.setting import Phase
from dse.cost.work import Array


class PrefillMemory(Memory):
    """A prefill worker: the caches of the pass that runs, and those of the pass before on their way."""

    @cached_property
    def cache(self) -> Array:
        """KV cache and state of two passes."""
        return 2.0 * self.cache_at(self.point.input)

    @cached_property
    def peaks(self) -> dict[Phase, Array]:
        """Live activations of a prompt pass."""
        return {"prefill": self.prompt_activations}


@dataclass
class DecodeMemory(Memory):
    """A decode worker, whose sequences are of all ages."""

    occupancy: float

    def _with_prompt(self, tokens: Array) -> Memory:
        """Memory of the same batch with prompts of another length."""
        return DecodeMemory(self._longer(tokens), self.occupancy)

    @cached_property
    def cache(self) -> Array:
        """KV cache and state at the average age."""
        return self.cache_at(self.point.input + self.occupancy * self.point.output)

    @cached_property
    def peaks(self) -> dict[Phase, Array]:
        """Live activations of a decode step."""
        return {"decode": self.step_activations}


class Disaggregated(Static):
    """Two pools; the point's own axes are those of the decode workers."""

    @property
    def chosen(self) -> Pools:
        """What there is to choose from beside the decode workers."""
        chosen = self.point.choices.pools
        assert chosen is not None, "a box of disaggregated serving has them"
        return chosen

    @cached_property
    def entering(self) -> Point:
        """The requests of a prompt pass of a prefill worker."""
        return Point(self.point.model, self.chosen.prefill, self.point.mesh.renamed(PREFILL))

    @cached_property
    def memory(self) -> Memory:
        """Memory of one device of a decode worker."""
        return DecodeMemory(self.running, self.runtime.occupancy)

    # -- rates ----------------------------------------------------------------------------------------

    @cached_property
    def slowest_stage(self) -> Array:
        """Share of a prompt pass that its slowest stage is busy."""
        return slowest_share(self.entering)

    @cached_property
    def handover(self) -> Handover:
        """The caches between the pools."""
        return Handover(self.entering, self.running)

    def rates(self, link: Link) -> tuple[Array, Array]:
        """Requests/s of a full prefill worker and of a full decode worker; a link that is slower sets their pace."""
        sending, arriving = self.handover.seconds(link), self.handover.arriving(link)
        passes = np.maximum(self.prompt * self.slowest_stage / self.runtime.busy, sending)
        decoding = self.point.steps * self.step / (self.runtime.busy * self.running.batch)
        return self.entering.batch / passes, 1.0 / np.maximum(decoding, arriving)

    @cached_property
    def together(self) -> Array:
        """Most devices of both pools that may lie in one scale-up domain: none of unlike chips."""
        others, chips = (worker.choices.hardware for worker in self.kinds)
        table = [[float(chip.domain) if chip == other else 0.0 for chip in chips] for other in others]
        return self.point.mesh.take(np.array(table), "prefill_hardware", "hardware")

    @cached_property
    def matched(self) -> Matched:
        """The workers of both pools, within one domain or over several, whichever serves more per device."""
        return self._matched[0]

    @cached_property
    def link(self) -> Link:
        """What the caches travel over."""
        near, far, apart = self.handover.near, self.handover.far, self._matched[1]
        return Link(np.where(apart, far.alpha, near.alpha), np.where(apart, far.beta, near.beta))

    @cached_property
    def _matched(self) -> tuple[Matched, NDArray[np.bool_]]:
        """The workers, and where they lie in several domains."""
        most, workers = self.chosen.devices, self.chosen.max_workers
        prefill, decode = self.kinds
        sizes, fill = (prefill.degrees.devices, decode.degrees.devices), most if self.chosen.fill else None
        near = match(self.rates(self.handover.near), sizes, np.minimum(most, self.together), workers, fill)
        if np.all(self.together >= most):
            return near, np.zeros(1, dtype=bool)
        far = match(self.rates(self.handover.far), sizes, most, workers, fill)
        apart = far.beats(near)
        return far.where(apart, near), apart

    @property
    def full_rates(self) -> tuple[Array, Array]:
        """Requests/s of a full worker of each pool, over the link they have."""
        return self.rates(self.link)

    @cached_property
    def requests_per_s(self) -> Array:
        """Finished requests per second of both pools."""
        return self.matched.requests_per_s

    # -- latency --------------------------------------------------------------------------------------

    @cached_property
    def exposed(self) -> Array:
        """Seconds of the transfer that the prompt pass does not hide."""
        return self.handover.exposed(self.handover.seconds(self.link), self.prompt)

    @cached_property
    def gathering(self) -> Array:
        """Seconds that a request waits for those that share its pass, mean."""
        prefill, _ = self.full_rates
        return (self.entering.batch - 1) / 2 / prefill

    @property
    def server(self) -> Array:
        """Every request is sent by itself."""
        return self.host

    @cached_property
    def ttft(self) -> Array:
        """Seconds to the first token."""
        return self.host + self.gathering + self.prompt + self.exposed

    # -- workers --------------------------------------------------------------------------------------

    @property
    def kinds(self) -> tuple[Point, Point]:
        """A prefill worker and a decode worker."""
        return self.entering, self.running

    @cached_property
    def pools(self) -> tuple[Pool, ...]:
        """Prefill workers, then decode workers."""
        return (
            Pool(self.entering, self.matched.prefill, PrefillMemory(self.entering)),
            Pool(self.running, self.matched.decode, self.memory),
        )

    @property
    def spells(self) -> tuple[Spells, ...]:
        """What a worker of each pool does in a second."""
        of_prefill, of_decode = self.full_rates
        passing = self.prompt * self.slowest_stage * of_prefill / self.entering.batch
        stepping = self.point.steps * self.step * of_decode / self.running.batch
        prefill = passing * (self.requests_per_s / (self.matched.prefill * of_prefill))
        decode = stepping * (self.requests_per_s / (self.matched.decode * of_decode))
        return (
            ((Spell(self.entering, "prefill", self.prompt * self.slowest_stage, prefill),), 1.0 - prefill),
            ((Spell(self.running, "decode", self.step, decode),), 1.0 - decode),
        )

    @property
    def finished(self) -> Array:
        """Requests that a second finishes."""
        return self.requests_per_s
