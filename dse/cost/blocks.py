"""Static blocks as requests meet them: a batch server, whose requests wait for the block that runs and for their own.

A block takes all who wait, at most b, and T seconds; the next begins when it ends. With a Poisson stream of rate r, and
blocks that follow each other without a pause (Bailey 1954, J. R. Stat. Soc. B 16: bulk service at fixed intervals):

    left     requests that find no place in the next block: L' = max(L + A - b, 0), A of mean r T; by Spitzer's identity
             (1956) E[L] = sum over k of E[max(A_k - k b, 0)] / k, A_k Poisson of mean k r T. It is also the queue of
             M/D/c with c = b servers (Crommelin 1932). Its tail falls as exp(-theta x), r T (exp(theta) - 1) = theta b.
    wait     till the running block ends, U uniform over T, and T for every b of those in front: the ones left, and who
             came since the block began, Poisson of mean r (T - U). Its mean is T / 2 + E[L] / r (Little's law).

A block that is not full is taken to last as long as a full one, and an arrival at an idle server to wait as if a block
ran: both on the safe side. Arrivals whose times between have another coefficient of variation c come in clumps of c^2.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from dse.cost.serving import Static
from dse.cost.work import Array

Floats = NDArray[np.float64]

SINGLY, FURTHER, STRIDE = 16, 40, 0.3
"""Terms of the sum over k: the first one by one, those beyond at so many logarithms of k, so far apart."""

HALVINGS = 24
"""Of the bracket of a quantile: to a millionth of a block."""

LEAST_CLUMP = 0.01
"""Clumps of arrivals that come like a clock."""

NODES = 12
"""Of the Gauss-Legendre rule over the time until the running block ends."""

ROUNDS = 40
"""Of Newton's method for theta; it converges from above."""


class Blocks:
    """Batch servers, a list of them."""

    def __init__(self, block: Floats, prompt: Floats, step: Floats, seconds: Floats, burstiness: float = 1.0) -> None:
        """Servers alike in shape.

        Args:
            block: most requests of a block.
            prompt: seconds of it to the first token of all its requests.
            step: seconds per token after that.
            seconds: of the whole block.
            burstiness: coefficient of variation of the times between arrivals.
        """
        self.block, self.prompt, self.step, self.seconds, self.burstiness = block, prompt, step, seconds, burstiness

    @classmethod
    def of(cls, served: Static, places: tuple[NDArray[np.intp], ...]) -> Blocks:
        """Those at some places of a static steady state's mesh."""
        shape = served.point.mesh.shape
        parts = (served.point.batch, served.ttft, served.tpot, served.latency)
        block, prompt, step, seconds = (np.broadcast_to(part, shape)[places] for part in parts)
        return cls(block, prompt, step, seconds, served.point.choices.burstiness)

    @cached_property
    def capacity(self) -> Floats:
        """Requests per second of blocks that are all full."""
        return self.block / self.seconds

    def at(self, rate: Array) -> BlocksUnderLoad:
        """Latencies at a rate."""
        return BlocksUnderLoad(self, np.asarray(rate, dtype=float))


class BlocksUnderLoad:
    """Batch servers with arrivals at a rate; NaN where that is at or above what full blocks finish."""

    def __init__(self, blocks: Blocks, rate: Floats) -> None:
        self.blocks = blocks
        self.stable = rate < blocks.capacity
        self.rate = np.where(self.stable, rate, 0.5 * blocks.capacity)
        clump = max(blocks.burstiness**2, LEAST_CLUMP)
        self.most = blocks.block / clump
        """Of a block, in clumps."""
        self.came = self.rate * blocks.seconds / clump
        """Mean arrivals during a block, in clumps."""
        self._clump = clump

    def _shown(self, values: Array) -> Floats:
        return np.asarray(np.where(self.stable, values, np.nan))

    @cached_property
    def left(self) -> Floats:
        """Mean clumps that find no place in the next block."""
        total = np.zeros_like(self.came)
        for k in range(1, SINGLY + 1):
            total += self._beyond(float(k)) / k
        for place in range(FURTHER):  # sum of f(k) / k = integral of f over log k
            total += self._beyond((SINGLY + 0.5) * np.exp((place + 0.5) * STRIDE)) * STRIDE
        return total

    def _beyond(self, k: float) -> Floats:
        """E[max(A_k - k b, 0)]."""
        from scipy.special import gammainc

        mean, most = k * self.came, k * self.most
        return np.asarray(np.maximum(mean * gammainc(most, mean) - most * gammainc(most + 1.0, mean), 0.0))

    @cached_property
    def decay(self) -> Floats:
        """The positive theta with came (exp(theta) - 1) = theta most."""
        ratio = self.most / self.came
        theta = 2.0 * np.log(ratio) + 1e-9  # beyond it: x - 1 / x > 2 log(x) for x > 1
        for _ in range(ROUNDS):
            theta = theta - (np.expm1(theta) - ratio * theta) / (np.exp(theta) - ratio)
        return np.maximum(theta, 1e-12)

    def _in_front(self, blocks: Floats, gone: Floats) -> Floats:
        """Chance that those in front fill so many blocks, a share `gone` of the running one being over."""
        from scipy.special import gammainc, gammaincc

        mean, least = self.came * gone, np.maximum(blocks * self.most, 1e-9)
        height = np.minimum(self.left * np.expm1(self.decay), 1.0)
        tail = height * np.exp(np.minimum(self.decay * (gone * self.most - least), 0.0))
        found = gammainc(least, mean) + tail * gammaincc(least, mean * np.exp(self.decay))
        return np.asarray(np.where(blocks > 0.0, np.minimum(found, 1.0), 1.0))

    def waits(self, limit: Array) -> Floats:
        """Chance of a wait of at most so many seconds."""
        nodes, weights = np.polynomial.legendre.leggauss(NODES)
        seconds = self.blocks.seconds
        safe = np.maximum(limit, 0.0)
        whole = np.floor(safe / seconds)
        rest = safe / seconds - whole
        late = np.zeros_like(self.came)
        for node, weight in zip((nodes + 1.0) / 2.0, weights / 2.0, strict=True):
            # Who comes near the end of the running block waits for a block more than who comes at its begin.
            late += weight * rest * self._in_front(whole + 1.0, 1.0 - rest * node)
            late += weight * (1.0 - rest) * self._in_front(whole, (1.0 - rest) * (1.0 - node))
        return np.asarray(np.where(np.asarray(limit) >= 0.0, 1.0 - late, 0.0))

    @cached_property
    def wait(self) -> Floats:
        """Mean seconds until a request's block begins."""
        return self.blocks.seconds / 2.0 + self.left * self._clump / self.rate

    @property
    def ttft(self) -> Floats:
        """Mean seconds from arrival to the first token."""
        return self._shown(self.wait + self.blocks.prompt)

    @property
    def tpot(self) -> Floats:
        """Seconds per token after the first, of every request."""
        return self._shown(self.blocks.step)

    @property
    def latency(self) -> Floats:
        """Mean seconds from arrival to the end of the block."""
        return self._shown(self.wait + self.blocks.seconds)

    def late(self, share: float) -> Floats:
        """Seconds that so large a share of the requests wait at most."""
        low, high = np.zeros_like(self.came), 2.0 * self.blocks.seconds
        for _ in range(HALVINGS):
            high = np.where(self.waits(high) < share, 2.0 * high, high)
        for _ in range(HALVINGS):
            middle = (low + high) / 2.0
            enough = self.waits(middle) >= share
            low, high = np.where(enough, low, middle), np.where(enough, middle, high)
        return self._shown(high)
