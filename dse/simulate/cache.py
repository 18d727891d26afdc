"""Blocks of the KV cache of one replica: who holds how much, and how many decode steps until it is full.

Every decoding sequence grows by a token per step and takes a block when its last one is full. Sequences are counted by
the step, modulo a block's tokens, at which they do: so the blocks taken in any number of steps are known at once.
"""

from __future__ import annotations

from collections.abc import Callable

from dse.simulate.deployment import Fitted

Contexts = Callable[[], tuple[list[int], list[int]]]
"""Tokens in the cache of each sequence that decodes, and of each whose prompt is being computed."""


class Cache:
    """Bytes in use. Where windows make later blocks cheaper, an upper bound, counted anew when it is reached."""

    def __init__(self, fitted: Fitted) -> None:
        self._room, self._held, self._block = fitted.room, fitted.held, fitted.block
        growths = [after - before for before, after in zip(self._held[1:], self._held[2:], strict=False)]
        self._growth = max(growths, default=0)
        self._exact = min(growths, default=0) == self._growth
        self._counts = [0] * self._block
        self.used = 0
        """Bytes."""

    def admits(self, tokens: int, contexts: Contexts) -> bool:
        """True where so many tokens fit beside what is there."""
        most = self._room - self._of(tokens)
        if self.used > most and not self._exact:
            self._recount(contexts)
        return self.used <= most

    def admits_beside_step(self, tokens: int, step: int, contexts: Contexts) -> bool:
        """The same when all decoding sequences grow by a token in the same iteration."""
        most = self._room - self._of(tokens)
        if self.used + self._counts[step % self._block] * self._growth <= most:
            return True
        return not self._exact and self._after_step(contexts) <= most

    def take(self, tokens: int) -> None:
        """A sequence of so many tokens comes."""
        self.used += self._of(tokens)

    def free(self, tokens: int) -> None:
        """A sequence of so many tokens goes."""
        self.used -= self._of(tokens)

    def start(self, offset: int) -> None:
        """A sequence decodes from now on, its context `offset` more than the replica's steps."""
        self._counts[-offset % self._block] += 1

    def stop(self, offset: int, tokens: int) -> None:
        """A decoding sequence goes."""
        self._counts[-offset % self._block] -= 1
        self.used -= self._of(tokens)

    def grow(self, step: int, sequences: int, steps: int) -> None:
        """All decoding sequences grow by so many tokens, from this step of the replica on."""
        rounds, rest = divmod(steps, self._block)
        taken = rounds * sequences
        for later in range(step, step + rest):
            taken += self._counts[later % self._block]
        self.used += taken * self._growth

    def steps(self, step: int, sequences: int, most: int, contexts: Contexts) -> int:
        """How many steps, at most `most`, all decoding sequences can grow by a token before the cache is full."""
        found = self._steps(step, sequences, most)
        if found == most or self._exact:
            return found
        self._recount(contexts)
        found = self._steps(step, sequences, most)
        return found or int(self._after_step(contexts) <= self._room)

    def _steps(self, step: int, sequences: int, most: int) -> int:
        if self._growth == 0:
            return most
        free = (self._room - self.used) // self._growth
        if sequences * (most // self._block + 1) <= free:
            return most
        rounds, free = divmod(max(free, 0), sequences)
        steps = rounds * self._block
        while steps < most and (taken := self._counts[(step + steps) % self._block]) <= free:
            free -= taken
            steps += 1
        return min(steps, most)

    def _recount(self, contexts: Contexts) -> None:
        decoding, prompts = contexts()
        self.used = sum(map(self._of, decoding)) + sum(map(self._of, prompts))

    def _after_step(self, contexts: Contexts) -> int:
        """Bytes when all decoding sequences have grown by a token, counted."""
        decoding, prompts = contexts()
        return sum(self._of(tokens + 1) for tokens in decoding) + sum(map(self._of, prompts))

    def _of(self, tokens: int) -> int:
        return self._held[-(-tokens // self._block)]
