"""Static blocks event by event: servers that take a block of waiting requests at a time and answer all of it together.

A request goes to the server with the fewest requests not yet answered. A server that is free starts a block at once: of
the size whose first request has waited longest, as many as there are, at most what its block takes. A block that is not
full lasts as long as a full one, as the cost model has it (`dse.cost.blocks`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush

import numpy as np
from numpy.typing import NDArray

from dse.simulate.trace import Trace

Floats = NDArray[np.float64]
Size = tuple[int, int]
"""Tokens in and out."""


@dataclass(frozen=True)
class Block:
    """What a server does with requests of one size."""

    most: int
    """Requests."""
    first: float
    """Seconds to the first token of all of them."""
    seconds: float
    """Until all are answered."""


@dataclass(frozen=True, eq=False)
class BlocksRecord:
    """What happened: one entry per request, in the order of the trace."""

    trace: Trace
    first: Floats
    """Second at which the first token was out."""
    last: Floats
    """The same of the last token."""
    blocks: int
    """That ran."""

    @property
    def ttft(self) -> Floats:
        """Seconds to the first token."""
        return self.first - self.trace.arrival

    @property
    def tpot(self) -> Floats:
        """Seconds per token after the first; NaN where there is none."""
        steps = self.trace.output - 1
        return np.where(steps > 0, (self.last - self.first) / np.maximum(steps, 1), np.nan)

    @property
    def latency(self) -> Floats:
        """Seconds from arrival to the last token."""
        return self.last - self.trace.arrival


@dataclass
class _Server:
    waiting: dict[Size, deque[int]] = field(default_factory=dict)
    busy: bool = False
    assigned: int = 0


def run_blocks(trace: Trace, servers: int, blocks: Mapping[Size, Block]) -> BlocksRecord:
    """A trace through servers alike.

    Args:
        trace: its requests have the sizes that `blocks` knows.
        servers: how many.
        blocks: of each size.
    """
    first, last = np.zeros(len(trace)), np.zeros(len(trace))
    all_of_them = [_Server() for _ in range(servers)]
    ends: list[tuple[float, int, int]] = []
    """Second, server, requests of the block."""
    ran = 0

    def start(number: int, now: float) -> None:
        nonlocal ran
        server = all_of_them[number]
        queues = [(queue[0], size) for size, queue in server.waiting.items() if queue]
        server.busy = bool(queues)
        if not queues:
            return
        size = min(queues)[1]
        queue, block = server.waiting[size], blocks[size]
        taken = [queue.popleft() for _ in range(min(block.most, len(queue)))]
        first[taken], last[taken] = now + block.first, now + block.seconds
        heappush(ends, (now + block.seconds, number, len(taken)))
        ran += 1

    def end_until(now: float) -> None:
        while ends and ends[0][0] <= now:
            second, number, answered = heappop(ends)
            all_of_them[number].assigned -= answered
            start(number, second)

    rows = zip(trace.arrival.tolist(), trace.input.tolist(), trace.output.tolist(), strict=True)
    for index, (arrival, tokens, output) in enumerate(rows):
        end_until(arrival)
        number = min(range(servers), key=lambda at: all_of_them[at].assigned)
        server = all_of_them[number]
        server.assigned += 1
        server.waiting.setdefault((tokens, output), deque()).append(index)
        if not server.busy:
            start(number, arrival)
    end_until(np.inf)
    return BlocksRecord(trace, first, last, ran)
