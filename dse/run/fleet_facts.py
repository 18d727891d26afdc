"""What a fleet is and costs: its deployments, buckets, dollars per token, power, as plain values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.techniques import active
from dse.run.axes import ARRIVING, schemes_of
from dse.run.deployment import Deployment
from dse.run.launch import NO_PLACEMENT, Launch, launch
from dse.run.launch_pools import pool_commands
from dse.run.operating import LATENCIES, operating_points
from dse.run.prices import idle_watts
from dse.run.problem import Problem
from dse.search.fleet import Answer
from dse.search.fleet_program import Multipliers
from dse.spec.hardware import HardwareSpec
from dse.spec.plan import HOURS_PER_MONTH, HOURS_PER_YEAR

Floats = NDArray[np.float64]
Plain = dict[str, Any]

CONFIGURATION = ("precision", "tp", "pp", "dp", "ep", "serving", "offload", "runtime", "techniques")
TRUST = ("evidence", "ttft_error_pct", "tpot_error_pct", "throughput_error_pct")


@dataclass(frozen=True)
class Facts:
    """An answer with the complete rows of its deployments at each bucket they serve."""

    problem: Problem
    answer: Answer

    @cached_property
    def mean(self) -> Floats:
        """Mean requests/s of each bucket, what is served of it. Shape (options, buckets)."""
        rates = np.array([bucket.rate for bucket in self.problem.plan.buckets])
        return np.asarray(self.answer.shares * rates)

    @cached_property
    def rows(self) -> list[dict[int, Plain]]:
        """Per option and bucket it serves, the complete row of the point; empty where a table is planned with."""
        return [self._rows_of(place) for place in range(len(self.answer.options))]

    def _rows_of(self, place: int) -> dict[int, Plain]:
        deployment = self.deployment(place)
        if deployment is None:
            return {}
        mine = [index for index, bucket in enumerate(self.problem.plan.buckets) if bucket.model == deployment.model]
        served = [at for at, index in enumerate(mine) if self.answer.shares[place, index] > 0]
        # A replica that is busy for a share of its time is as slow as one that serves each size alone at that share.
        peak = self.answer.utilisation(self.problem.fleet)[place]
        points = operating_points(deployment, served, [float(deployment.rates[at] * peak) for at in served])
        return {mine[at]: point for at, point in zip(served, points, strict=True)}

    def deployment(self, place: int) -> Deployment | None:
        """The deployment of an option, where the engine found it."""
        return self.problem.deployments.get(self.answer.options[place].name)

    @cached_property
    def usd(self) -> Floats:
        """Dollars per hour of each option's replicas. Shape (options,)."""
        return np.array(
            [count * self.problem.fleet.usd_of(o)
             for o, count in zip(self.answer.options, self.answer.counts, strict=True)]
        )  # fmt: skip

    @cached_property
    def busy(self) -> Floats:
        """Share of each option's replicas that the mean demand keeps busy. Shape (options,)."""
        rates = np.array([option.rates for option in self.answer.options]).reshape(self.mean.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(np.where(self.mean > 0, self.mean / rates, 0.0).sum(axis=1) / self.answer.counts)

    # -- tables -------------------------------------------------------------------------------------

    def deployments(self) -> list[Plain]:
        """One row per deployment in use."""
        answer, peak = self.answer, self.answer.utilisation(self.problem.fleet)
        found = []
        for place, option in enumerate(answer.options):
            deployment = self.deployment(place)
            model = self.problem.plan.models[self._model(place)]
            entry: Plain = {
                "name": option.name,
                "model": model.name,
                "hardware": option.device,
                "replicas": int(answer.counts[place]),
                "devices_per_replica": option.size,
                "devices": int(answer.counts[place]) * option.size,
                "usd_per_hour": float(self.usd[place]),
                "requests_per_s": float(self.mean[place].sum()),
                "utilisation": float(self.busy[place]),
                "utilisation_at_peak": float(peak[place]),
            }
            if deployment is not None:
                entry |= self._engine(place, deployment)
            found.append(entry)
        return found

    def _model(self, place: int) -> int:
        served = np.flatnonzero(self.answer.shares[place])
        if len(served):
            return self.problem.plan.buckets[int(served[0])].model
        deployment = self.deployment(place)
        return deployment.model if deployment is not None else 0

    def _engine(self, place: int, deployment: Deployment) -> Plain:
        """What the cost model says of a deployment: its configuration, what it rests on, how to start it."""
        rows = list(self.rows[place].values())
        if not rows:
            return {}
        weakest = max(rows, key=lambda each: each["throughput_error_pct"])
        batch = int(max(each["slots"] for each in rows))
        pools, commands, notes = self._launched(place, deployment, batch)
        return {
            **({"pools": pools} if pools else {}),
            **{name: rows[0][name] for name in CONFIGURATION},
            "batch": batch,
            **{name: weakest[name] for name in TRUST},
            "memory_gb_per_device": max(each["memory_gb_per_device"] for each in rows),
            "accuracy_drop_pct": rows[0]["accuracy_drop_pct"],
            "launch": commands,
            "launch_notes": notes,
        }

    def _launched(
        self, place: int, deployment: Deployment, batch: int
    ) -> tuple[list[Plain], dict[str, str], list[str]]:
        """The pools of a deployment, commands that start it by engine, and what has to be known of them."""
        rows = self.rows[place]
        site = self.answer.options[place].device.removeprefix(deployment.chip.name)
        pools = [{**facts, "hardware": f"{facts['hardware']}{site}"} for facts in deployment.pool_facts]
        if deployment.offloaded:
            return pools, {}, [NO_PLACEMENT]
        axes, settings = deployment.sweep.axes, deployment.sweep.settings
        model, buckets = axes.models[0], self.problem.plan.buckets
        longest = max(buckets[index].longest for index in rows)
        if model.max_context is not None:
            longest = min(longest, model.max_context)
        schemes = [*axes.precision_of(model)]
        if axes.pools is not None:
            schemes += schemes_of(axes.pools.precision, model)
        chunk = deployment.chunk_tokens
        told = {
            "max_prefill_tokens": settings.max_prefill_tokens if chunk is None else chunk,
            "memory_utilization": settings.memory_utilization, "chunked": chunk is not None,
        }  # fmt: skip
        techniques = {technique.name: value for technique, value in active(deployment.sweep.variants[deployment.box])}

        def launched(facts: Plain, chip: HardwareSpec) -> Launch:
            scheme = next(scheme for scheme in schemes if scheme.name == facts["precision"])
            return launch(facts, chip, model, scheme, longest, batch, told, techniques)

        if not pools:
            alone = launched(next(iter(rows.values())), deployment.chip)
            return pools, alone.whole(), alone.notes
        workers = [launched(facts, chip) for facts, chip in zip(pools, deployment.chips, strict=True)]
        notes = list(dict.fromkeys(note for worker in workers for note in worker.notes))
        return pools, pool_commands(list(zip(pools, workers, strict=True)), longest), notes

    def buckets(self, margins: Multipliers | None) -> list[Plain]:
        """One row per bucket of demand: what serves it, how fast, what a request more would cost."""
        plan, answer = self.problem.plan, self.answer
        found = []
        for index, bucket in enumerate(plan.buckets):
            shares = answer.shares[:, index] if len(answer.options) else np.zeros(0)
            served_by = {
                option.name: self._served_by(place, index, float(share))
                for place, (option, share) in enumerate(zip(answer.options, shares, strict=True)) if share > 0
            }  # fmt: skip
            entry: Plain = {
                "model": plan.models[bucket.model].name,
                "input": bucket.input,
                "output": bucket.output,
                "requests_per_s": bucket.rate,
                "peak_requests_per_s": bucket.peak,
                "served": float(shares.sum()),
                "served_by": served_by,
            }
            if margins is not None:
                entry["usd_per_hour_per_request_per_s"] = float(margins.demand[index])
            found.append(entry)
        return found

    def _served_by(self, place: int, index: int, share: float) -> Plain:
        option = self.answer.options[place]
        entry: Plain = {"share": share, "requests_per_s_per_replica": float(option.rates[index])}
        if point := self.rows[place].get(index) if self.rows[place] else None:
            entry |= {name: point[name] for name in (*LATENCIES, "batch")}
        elif option.name in self.problem.sources:
            entry["row"] = self.problem.sources[option.name][index]
        return entry

    # -- dollars and joules -------------------------------------------------------------------------

    def economics(self) -> Plain:
        """Dollars by period and token, power, tokens per joule, at the mean demand."""
        plan, answer = self.problem.plan, self.answer
        inputs = np.array([bucket.input for bucket in plan.buckets])
        outputs = np.array([bucket.output for bucket in plan.buckets])
        served = self.mean.sum(axis=0)
        tokens_in, tokens_out = float(served @ inputs), float(served @ outputs)
        usd = answer.usd_per_hour
        found: Plain = {
            "usd_per_hour": usd,
            "usd_per_month": usd * HOURS_PER_MONTH,
            "usd_per_year": usd * HOURS_PER_YEAR,
            "capital_usd": answer.capital_usd,
            "requests_per_s": float(served.sum()),
            "input_tokens_per_s": tokens_in,
            "output_tokens_per_s": tokens_out,
            "usd_per_million_tokens": _per_million(usd, tokens_in + tokens_out),
            "utilisation": self._utilisation(),
            "power_kw_limit": self.problem.power_kw(answer),
        }
        if (prompt := self._prompt_dollars()) is not None:
            found["usd_per_million_input_tokens"] = _per_million(prompt, tokens_in)
            found["usd_per_million_output_tokens"] = _per_million(usd - prompt, tokens_out)
        else:
            found["usd_per_million_output_tokens_if_prompts_were_free"] = _per_million(usd, tokens_out)
        return found | self._power(tokens_out)

    def _utilisation(self) -> float:
        """Share of the accelerators' time in use, at the mean demand."""
        devices = sum(self.answer.devices.values())
        held = np.array([o.size * n for o, n in zip(self.answer.options, self.answer.counts, strict=True)])
        return float((self.busy * held).sum() / devices) if devices else math.nan

    def _prompt_dollars(self) -> float | None:
        """Dollars per hour of the time spent on prompts; idle time is shared in the same proportion."""
        total = 0.0
        for place in range(len(self.answer.options)):
            rows = self.rows[place]
            if not rows:
                return None
            load = {index: self.mean[place, index] / self.answer.options[place].rates[index] for index in rows}
            busy = sum(load.values())
            total += float(self.usd[place]) * self._prompt_share(place, load) / busy if busy else 0.0
        return total

    def _prompt_share(self, place: int, load: Mapping[int, float]) -> float:
        """Of the load of an option's replicas, that of prompts; of two pools, the dollars of those for prompts."""
        deployment, option = self.deployment(place), self.answer.options[place]
        rows = self.rows[place]
        if deployment is None or deployment.prompt_devices is None:
            return float(sum(load[index] * rows[index]["prompt_share"] for index in rows))
        fleet, site = self.problem.fleet, option.device.removeprefix(deployment.chip.name)
        usd = sum(fleet.devices[f"{chip}{site}"].usd_per_hour * n for chip, n in deployment.prompt_devices.items())
        return sum(load.values()) * usd / fleet.usd_of(option)

    def _covered(self, place: int) -> float:
        """Share of the time that the joules of an option's rows are of.

        Those where requests arrive hold the pauses between them, at the rate of the peak; the others are of full load.
        """
        arrive = all(row["serving"] in ARRIVING for row in self.rows[place].values())
        peak = float(self.answer.utilisation(self.problem.fleet)[place]) if arrive else 1.0
        return min(float(self.busy[place]) / peak, 1.0)

    def _power(self, tokens_out: float) -> Plain:
        """Mean power of the servers and of the site; nothing where a board's power is not known."""
        economics, watts = self.problem.plan.file.economics, 0.0
        for place, option in enumerate(self.answer.options):
            rows, hosts, idle = self.rows[place], 0.0, 0.0
            for name, count in option.held.items():
                device, held = self.problem.plan.devices[name], float(self.answer.counts[place]) * count
                waiting = idle_watts(device, economics.host_share)
                if not waiting or not rows:
                    return {}
                of_host = economics.host_share * device.device.watts / (1 + economics.host_share)
                hosts, idle = hosts + held * of_host, idle + held * (waiting - of_host)
            active = sum(
                self.mean[place, index] * rows[index]["joules_per_output_token"] * rows[index]["output"]
                for index in rows
            )
            watts += active + (1 - self._covered(place)) * idle + hosts
        if math.isnan(watts):
            return {}
        site = watts * economics.pue
        return {
            "power_kw": watts / 1e3,
            "site_power_kw": site / 1e3,
            "output_tokens_per_joule": tokens_out / watts if watts else math.nan,
            "energy_usd_per_year": site / 1e3 * HOURS_PER_YEAR * economics.usd_per_kwh,
        }


def _per_million(usd_per_hour: float, tokens_per_s: float) -> float:
    return usd_per_hour / 3600 / tokens_per_s * 1e6 if tokens_per_s else math.nan


def mean_latency(facts: Facts) -> Mapping[str, float]:
    """Mean of each latency over the requests served."""
    totals = dict.fromkeys(LATENCIES, 0.0)
    weight = dict.fromkeys(LATENCIES, 0.0)
    for place, rows in enumerate(facts.rows):
        for index, point in rows.items():
            for name in LATENCIES:
                if point[name] is not None and not math.isnan(point[name]):
                    totals[name] += facts.mean[place, index] * point[name]
                    weight[name] += facts.mean[place, index]
    return {name: totals[name] / weight[name] for name in LATENCIES if weight[name]}
