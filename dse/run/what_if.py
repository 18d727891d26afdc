"""What would change a plan's answer: other hardware, other latencies, more traffic, other prices, wrong throughputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dse.run.alternatives import alternatives, fastest
from dse.run.answered import Answered
from dse.run.binding import binding
from dse.run.frontiers import frontier_latency, frontier_served
from dse.run.parallel import mapped
from dse.run.wrong import sensitivity

FORKED = 300
"""Deployments to choose from, some ten seconds of programs, from which the questions are shared among the cores."""


def what_if(asked: Answered, error_pct: float | None) -> dict[str, Any]:
    """Every change that is tried, by name.

    Args:
        asked: the plan and its answer.
        error_pct: what the throughputs of the recommended deployments may be off by, where that was measured.
    """
    changes: dict[str, Callable[[], Any]] = {
        "alternatives": lambda: list(alternatives(asked)),
        "latency": lambda: {"frontier": frontier_latency(asked), "fastest": list(fastest(asked))},
        "binding": lambda: binding(asked),
        "sensitivity": lambda: sensitivity(asked, error_pct),
        "frontier_served": lambda: frontier_served(asked),
    }
    _ = asked.near, asked.margins  # what several ask for is asked once
    worth_it = len(asked.fleet.options) > FORKED
    answers = mapped(lambda name: changes[name](), list(changes), worth_it=worth_it)
    return dict(zip(changes, answers, strict=True))
