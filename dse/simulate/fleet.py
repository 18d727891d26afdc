"""Replicas behind a dispatcher, and a trace that runs through them."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dse.errors import CannotRun
from dse.simulate.deployment import Deployment, Fitted, fitted
from dse.simulate.engine import Replica
from dse.simulate.request import Request, Usage
from dse.simulate.trace import Trace
from dse.spec.workload import Workload

if TYPE_CHECKING:
    from simpy import Event

Dispatch = Literal["round-robin", "least-loaded"]
"""To each replica in turn, or to the one with the fewest requests per slot."""

Chooser = Callable[[int, Sequence[Replica]], int]
"""A dispatcher of one's own: number of the request and replicas -> number of a replica."""

STEP = 1000
"""Finished requests between two calls of `on_progress`."""


def _at_once(tokens: int) -> float:
    return 0.0


@dataclass(frozen=True)
class Transfer:
    """How the cache of a prompt gets from who computes it to who decodes it."""

    start: float = 0.0
    """Seconds before its first byte."""
    sending: Callable[[int], float] = _at_once
    """Seconds that the sender's link is busy with a prompt of so many tokens."""
    arriving: Callable[[int], float] = _at_once
    """The same of the receiver's link."""
    layers: int = 1
    """All but the last of them may travel while the pass computes the next; 1: none leaves before the pass ends."""


@dataclass(frozen=True, eq=False)
class Record:
    """What happened: one entry per request, in the order of the trace."""

    trace: Trace
    first: NDArray[np.float64]
    """Second at which the first token was out."""
    last: NDArray[np.float64]
    """The same of the last token."""
    replica: NDArray[np.int64]
    """Who decoded it: number in the fleet."""
    answers: NDArray[np.int64]
    """Answers given out of each: several under parallel sampling."""
    fleet: Sequence[Fitted]
    usage: Sequence[Usage]
    end: float
    """Second at which the last request was done."""
    sent: NDArray[np.float64]
    """Seconds that its cache was on its way between pools; 0 where there are none."""

    @property
    def ttft(self) -> NDArray[np.float64]:
        """Seconds to the first token, queue and server included."""
        return self.first - self.trace.arrival

    @property
    def tpot(self) -> NDArray[np.float64]:
        """Mean seconds per token after the first; NaN where there is none."""
        steps = self.trace.output - 1
        return np.where(steps > 0, (self.last - self.first) / np.maximum(steps, 1), math.nan)

    @property
    def latency(self) -> NDArray[np.float64]:
        """Seconds from arrival to the last token."""
        return self.last - self.trace.arrival


def simulate(
    fleet: Sequence[Deployment],
    trace: Trace,
    *,
    dispatch: Dispatch | Chooser = "round-robin",
    prefill: Sequence[Deployment] = (),
    transfer: Transfer | None = None,
    groups: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Record:
    """Run a trace through replicas.

    Args:
        fleet: the replicas; the same object several times shares its tables.
        trace: the requests.
        dispatch: who gets the next request.
        prefill: replicas that compute the prompts for the fleet, which then only decodes (disaggregated serving).
            Requests are answered from where they are decoded, once their cache is there and has a place.
        transfer: how the caches get there; at once by default.
        groups: `prefill` and `fleet` are so many groups alike, one after the other; caches stay within their group.
        on_progress: called with requests done and all.

    Raises:
        CannotRun: weights do not fit, or the cache has no room for the longest request.
    """
    return _Run(prefill, fleet, groups, trace, dispatch, transfer or Transfer(), on_progress).record()


class _Run:
    """One simulation."""

    def __init__(
        self,
        prefill: Sequence[Deployment],
        decode: Sequence[Deployment],
        groups: int,
        trace: Trace,
        dispatch: Dispatch | Chooser,
        transfer: Transfer,
        on_progress: Callable[[int, int], None] | None,
    ) -> None:
        from simpy import Environment

        self.trace = trace
        self.env = Environment()
        fleet, prompts = [*prefill, *decode], len(prefill)
        self.first, self.last = np.zeros(len(trace)), np.zeros(len(trace))
        self.replica = np.zeros(len(trace), dtype=np.int64)
        tables = {deployment: tabled(deployment, trace) for deployment in dict.fromkeys(fleet)}
        self.fitted = [tables[deployment] for deployment in fleet]
        self.replicas = [
            Replica(self.env, each, self._on_first, self._on_done, i < prompts) for i, each in enumerate(self.fitted)
        ]
        for replica in self.replicas[:prompts]:
            replica.on_done = partial(self._on_prompt, sender=replica)
        self.front, self.back = self.replicas[: prompts or None], self.replicas[prompts:]
        self.choose, self.hand_over = _chooser(dispatch), [_chooser(dispatch) for _ in range(groups)]
        size = len(self.back) // groups
        self.groups = [range(size * group, size * (group + 1)) for group in range(groups)]
        self.transfer, self.sent = transfer, np.zeros(len(trace))
        self.free = dict.fromkeys(self.replicas, 0.0)
        """Second from which each replica's link is free."""
        self.on_progress = on_progress
        self.done = 0
        self.over = self.env.event()
        self.env.process(self._arrivals())

    def record(self) -> Record:
        """Run to the end."""
        self.env.run(self.over)
        for replica in self.replicas:
            replica.close()
        usage = [replica.usage for replica in self.replicas]
        answers = np.array([replica.fitted.deployment.iteration.answers for replica in self.back])[self.replica]
        return Record(
            self.trace, self.first, self.last, self.replica, answers, self.fitted, usage, self.env.now, self.sent
        )

    def _arrivals(self) -> Generator[Event, Any, None]:
        """The simpy process that sends each request to a replica when it arrives."""
        env = self.env
        rows = zip(self.trace.arrival.tolist(), self.trace.input.tolist(), self.trace.output.tolist(), strict=True)
        for index, (arrival, tokens, output) in enumerate(rows):
            if arrival > env.now:
                yield env.timeout(arrival - env.now)
            number = self.choose(index, self.front)
            replica = self.front[number]
            replica.assigned += 1
            self.replica[index] = number
            runtime = replica.fitted.deployment.choices.runtime
            self._later(
                runtime.request_ms * 1e-3 + runtime.prompt_token_us * 1e-6 * tokens,
                replica,
                Request(index, tokens, output),
            )

    def _later(self, seconds: float, replica: Replica, request: Request) -> None:
        if seconds > 0:
            self.env.timeout(seconds).callbacks.append(lambda _: replica.submit(request))
        else:
            replica.submit(request)

    def _on_first(self, request: Request) -> None:
        self.first[request.index] = self.env.now

    def _on_prompt(self, request: Request, sender: Replica) -> None:
        """A prompt is computed: its cache goes to who decodes it."""
        if request.left == 0:
            self._on_done(request)
            return
        index = request.index
        group = int(self.replica[index]) * len(self.groups) // len(self.front)
        numbers = self.groups[group]
        number = self.hand_over[group](index, [self.back[number] for number in numbers])
        replica = self.back[numbers[number]]
        replica.assigned += 1
        self.replica[index] = numbers[number]
        self.sent[index] = self._sending(request.tokens, sender, replica)
        self._later(self.sent[index], replica, Request(index, request.tokens, request.left, ready=True))

    def _sending(self, tokens: int, sender: Replica, receiver: Replica) -> float:
        """Seconds until a cache is where it is decoded: layers leave as they are computed, links take one by one."""
        transfer, now, free = self.transfer, self.env.now, self.free
        sending, layers = transfer.sending(tokens), transfer.layers
        first = now - sender.pass_seconds * (layers - 1) / layers
        free[sender] = max(free[sender], first) + sending
        there = max(now + sending / layers, free[sender]) + transfer.start
        free[receiver] = max(there, free[receiver] + transfer.arriving(tokens))
        return free[receiver] - now

    def _on_done(self, request: Request) -> None:
        self.last[request.index] = self.env.now
        self.done += 1
        if self.done % STEP == 0 and self.on_progress is not None:
            self.on_progress(self.done, len(self.trace))
        if self.done == len(self.trace):
            self.over.succeed()


def tabled(deployment: Deployment, trace: Trace) -> Fitted:
    """A deployment with its tables for a trace.

    Raises:
        CannotRun: weights do not fit, or the cache has no room for the longest request.
    """
    shortest, longest = (Workload(int(of(trace.input)), int(of(trace.output))) for of in (np.min, np.max))
    found = fitted(deployment, shortest, longest)
    name = f"{deployment.model.name} on {deployment.devices} x {deployment.choices.hardware[0].name}"
    if math.isnan(deployment.iteration.tokens):
        raise CannotRun(f"undefined:tpot_ms: nobody measured how many tokens {name} gains by this speculation")
    if deployment.iteration.branches > 1 and shortest.input != longest.input:
        raise CannotRun("sequences that share their prompt are simulated with prompts of one length only")
    if found.room <= 0:
        raise CannotRun(f"exceeds_memory: {name} leaves no memory for a KV cache")
    tokens = trace.input + trace.output - 1
    worst = int(np.argmax(tokens + _apart(found, trace)))
    if not found.holds(int(tokens[worst]), int(trace.input[worst])):
        where = f" (line {int(trace.lines[worst])} of {trace.file})" if trace.lines is not None else ""
        raise CannotRun(
            f"exceeds_memory: {name} has no room in its KV cache for a request of "
            f"{trace.input[worst]} + {trace.output[worst]} tokens{where}"
        )
    return found


def _apart(found: Fitted, trace: Trace) -> NDArray[np.int64] | int:
    """Tokens by which each request shares less of a prefix than a longest prompt."""
    if not found.shared:
        return 0
    prompts, place = np.unique(trace.input, return_inverse=True)
    return np.array([found.apart(int(tokens)) for tokens in prompts])[place]


def _chooser(dispatch: Dispatch | Chooser) -> Chooser:
    if callable(dispatch):
        return dispatch
    return _least_loaded if dispatch == "least-loaded" else _round_robin()


def _round_robin() -> Chooser:
    turn = -1

    def choose(index: int, replicas: Sequence[Replica]) -> int:
        nonlocal turn
        turn = (turn + 1) % len(replicas)
        return turn

    return choose


def _least_loaded(index: int, replicas: Sequence[Replica]) -> int:
    return min(range(len(replicas)), key=lambda number: replicas[number].assigned / replicas[number].fitted.slots)
