"""One replica: a queue, a batch and an engine that runs one iteration after the other.

At the start of an iteration waiting requests are admitted in order while a slot and blocks of the cache are free; then

    prefill-first    the prompts admitted are computed whole in one pass of at most `max_prefill_tokens`, others wait;
                     with none admitted, one decode step of all running sequences
    chunked          one pass over one token of each decoding sequence and chunks of prompts, in order, `chunk_tokens`
                     in all (Sarathi, 2308.16369)

A prompt's pass emits the first token. A sequence that needs a block when none is free evicts the youngest, which goes
back to the head of the queue and is computed again, prompt and tokens so far (vLLM's recomputation).

Between an arrival that can be admitted, a finish and a full cache every step is like the one before at a context one
longer, so the steps up to the first of these are one leap: a single event, and still at the boundary of an iteration.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from dse.simulate.cache import Cache
from dse.simulate.deployment import Fitted
from dse.simulate.request import Request, Usage

if TYPE_CHECKING:
    from simpy import Environment, Event


@dataclass(eq=False)
class Replica:
    """One engine; `run` is its simpy process."""

    env: Environment
    fitted: Fitted
    on_first: Callable[[Request], None]
    """Told of a request whose first token is out: of a prompt computed elsewhere, when it is admitted to decode."""
    on_done: Callable[[Request], None]
    """Told of a request whose last token is out, or whose prompt is computed where only prompts are."""
    prompts_only: bool = False
    """It computes prompts for other replicas to decode."""
    usage: Usage = field(default_factory=Usage)
    assigned: int = 0
    """Requests sent here that are not done."""

    def __post_init__(self) -> None:
        from simpy import Interrupt

        self._interrupt = Interrupt
        self.queue: deque[Request] = deque()
        self.prompting: list[Request] = []
        """Admitted, their prompts not computed yet, in order of admission."""
        self.decoding = 0
        self.steps = 0
        """Decode steps so far."""
        self._offsets = 0
        """Sum over decoding sequences."""
        self._finishes: list[tuple[int, int, Request]] = []
        self._admitted: list[tuple[int, Request]] = []
        """In order of admission, with some that have left since."""
        self._orders = 0
        self._since = 0.0
        self._wake: Event | None = None
        self._leaping = False
        self.pass_seconds = 0.0
        """Of the last pass with prompts in it."""
        chunk, deployment = self.fitted.deployment.chunk_tokens, self.fitted.deployment
        self._chunk = chunk
        self._ranks, self._budget = deployment.ranks, deployment.budget
        self._shares_prefixes = deployment.shares_prefixes
        self._cache = Cache(self.fitted)
        self._process = self.env.process(self.run())

    # -- from outside -------------------------------------------------------------------------------

    def submit(self, request: Request) -> None:
        """A request enters the queue."""
        self._count()
        if self._shares_prefixes:
            request.known = self.fitted.deployment.cached(request.tokens)
            request.apart = self.fitted.apart(request.tokens)
        self.queue.append(request)
        self.usage.most_waiting = max(self.usage.most_waiting, len(self.queue))
        if self._wake is not None:
            wake, self._wake = self._wake, None
            wake.succeed()
        elif self._leaping and len(self.queue) == 1 and self._admissible(request):
            self._leaping = False
            self._process.interrupt()

    def contexts(self) -> tuple[list[int], list[int]]:
        """Tokens in the cache of each sequence that decodes, and of each whose prompt is being computed."""
        decoding = [entry[2].offset + entry[2].apart + self.steps for entry in self._finishes if _stands(entry)]
        return decoding, [request.tokens + request.apart for request in self.prompting]

    def close(self) -> None:
        """Bring the usage up to now."""
        self._count()

    # -- the process --------------------------------------------------------------------------------

    def run(self) -> Generator[Event, Any, None]:
        """One iteration after the other, for ever."""
        while True:
            if not (self.queue or self.decoding or self.prompting):
                self._wake = self.env.event()
                yield self._wake
            if self._chunk is not None:
                yield from self._chunked()
            elif bins := self._admit_prompts():
                yield from self._prompt_pass(bins)
            elif self.decoding:
                yield from self._leap(evicted=self._make_room())

    def _admit_prompts(self) -> list[list[int]]:
        """Admit what one prompt pass takes: on each rank that has any, tokens to compute, and squares of prompts.

        Of prompts part of which is cached, not the squares but twice the pairs of a new token and one it sees.
        """
        bins: list[list[int]] = []
        while self.queue and self._admissible(self.queue[0]):
            request = self.queue[0]
            if not request.ready:
                tokens, known = request.tokens, request.known
                squares = tokens * tokens
                if self._shares_prefixes:
                    squares += tokens - known * (known + 1)
                if not _put(bins, tokens - known, squares, self._budget, self._ranks):
                    break
            self._admit()
        return bins

    def _prompt_pass(self, bins: list[list[int]]) -> Generator[Event, Any, None]:
        times = self.fitted.times
        if self._shares_prefixes:
            seconds = max([times.mixed(0, 0.0, tokens, pairs / 2) for tokens, pairs in bins])
        else:
            seconds = max([times.prompts(tokens, squares) for tokens, squares in bins])
        self.pass_seconds = seconds
        yield self.env.timeout(seconds)
        self._count()
        usage, done = self.usage, self.prompting
        usage.prompt += seconds
        usage.prompt_passes += 1
        usage.prompt_tokens += sum([tokens for tokens, _ in bins])
        self.prompting = []
        for request in done:
            self._emit(request)

    def _leap(self, *, evicted: bool) -> Generator[Event, Any, None]:
        """Decode steps up to the first at which anything changes: one, if who was evicted may come back after it."""
        finishes = self._finishes
        while not _stands(finishes[0]):
            heappop(finishes)
        most = 1 if evicted else finishes[0][0] - self.steps
        steps = self._cache.steps(self.steps, self.decoding, most, self.contexts)
        line = self.fitted.times.line(-(-self.decoding // self._ranks))
        context = self._offsets / self.decoding + self.steps + 1
        seconds, start = line.total(context, steps), self.env.now
        self._leaping = True
        try:
            yield self.env.timeout(seconds)
        except self._interrupt:
            steps = line.steps_until(self.env.now - start, context, steps)
            seconds = line.total(context, steps)
            yield self.env.timeout(max(start + seconds - self.env.now, 0.0))
        self._leaping = False
        self._count()
        self.usage.decode += seconds
        self._advance(steps)

    def _chunked(self) -> Generator[Event, Any, None]:
        """A mixed pass, or a leap while there is no prompt to compute."""
        evicted = self._make_room()
        chunks, bins = self._chunks(admit=not evicted)
        if not chunks:
            if self.decoding:
                yield from self._leap(evicted=evicted)
            return
        running = -(-self.decoding // self._ranks)
        context = self._offsets / self.decoding + self.steps + 1 if self.decoding else 0.0
        mixed = self.fitted.times.mixed
        seconds = self.pass_seconds = max([mixed(running, context, tokens, pairs) for tokens, pairs in bins])
        yield self.env.timeout(seconds)
        self._count()
        self.usage.mixed += seconds
        self.usage.prompt_passes += 1
        self.usage.prompt_tokens += sum([tokens for _, tokens in chunks])
        if self.decoding:
            self._advance(1)
        for request, tokens in chunks:
            request.computed += tokens
        done = [request for request in self.prompting if request.computed == request.tokens]
        if done:
            self.prompting = [request for request in self.prompting if request.computed < request.tokens]
            for request in done:
                self._emit(request)

    def _chunks(self, *, admit: bool) -> tuple[list[tuple[Request, int]], list[tuple[int, float]]]:
        """What the next pass computes of each prompt, and tokens and pairs on each rank that has any."""
        budget = int(self._budget) - -(-self.decoding // self._ranks)
        left = [max(budget, 0)] * self._ranks
        pairs = [0.0] * self._ranks
        chunks: list[tuple[Request, int]] = []
        place = 0
        while (most := max(left)) > 0:
            if place == len(self.prompting):
                if not (admit and self.queue and self._admissible(self.queue[0])):
                    break
                self._admit()
                continue
            request = self.prompting[place]
            tokens = min(most, request.tokens - request.computed)
            rank = left.index(most)
            left[rank] -= tokens
            pairs[rank] += tokens * (request.computed + (tokens + 1) / 2)
            chunks.append((request, tokens))
            place += 1
        return chunks, [(budget - free, p) for free, p in zip(left, pairs, strict=True) if free < budget]

    # -- requests come and go -----------------------------------------------------------------------

    def _admissible(self, request: Request) -> bool:
        """A slot is free, and blocks for what is computed of it."""
        if self.decoding + len(self.prompting) >= self.fitted.slots:
            return False
        if self._chunk is None:
            return self._cache.admits(request.tokens + request.apart, self.contexts)
        return self._cache.admits_beside_step(request.tokens + request.apart, self.steps, self.contexts)

    def _admit(self) -> None:
        """The head of the queue takes a slot and its blocks."""
        self._count()
        request = self.queue.popleft()
        request.order = self._orders
        self._orders += 1
        self._admitted.append((request.order, request))
        if len(self._admitted) > 2 * self.fitted.slots + 100:
            self._admitted = [entry for entry in self._admitted if entry[0] == entry[1].order]
        self._cache.take(request.tokens + request.apart)
        if request.ready:
            self._begin(request)
            self._decode(request)
        else:
            request.computed = request.known
            self.usage.cached_tokens += request.known
            self.prompting.append(request)
        running = self.decoding + len(self.prompting)
        self.usage.most_running = max(self.usage.most_running, running)

    def _emit(self, request: Request) -> None:
        """A prompt is computed: its first token is out."""
        request.left -= 1
        self.usage.emitted += 1
        elsewhere = self.prompts_only and request.left > 0
        if not elsewhere:
            self._begin(request)
        if request.left and not elsewhere:
            self._decode(request)
            return
        self._cache.free(request.tokens + request.apart)
        self._leave(request)

    def _begin(self, request: Request) -> None:
        """Its first token goes to who asked, unless it did before an eviction."""
        if not request.started:
            request.started = True
            self.on_first(request)

    def _decode(self, request: Request) -> None:
        request.decoding = True
        request.offset = request.tokens - self.steps
        request.finish = self.steps + request.left
        self.decoding += 1
        self._offsets += request.offset
        self._cache.start(request.offset)
        heappush(self._finishes, (request.finish, request.order, request))

    def _stop(self, request: Request) -> None:
        """It decodes no more, and its blocks are free."""
        request.decoding = False
        self.decoding -= 1
        self._offsets -= request.offset
        self._cache.stop(request.offset, request.offset + request.apart + self.steps)

    def _advance(self, steps: int) -> None:
        """Decode steps are over."""
        self._cache.grow(self.steps, self.decoding, steps)
        self.usage.emitted += steps * self.decoding
        self.steps += steps
        self.usage.decode_steps += steps
        finishes = self._finishes
        while finishes and finishes[0][0] <= self.steps:
            entry = heappop(finishes)
            if _stands(entry):
                self._stop(entry[2])
                self._leave(entry[2])

    def _leave(self, request: Request) -> None:
        request.order = -1
        self.assigned -= 1
        self.on_done(request)

    def _make_room(self) -> bool:
        """Evict until one decode step fits; True where anyone had to go.

        The youngest sequence gives its blocks back and starts anew at the head of the queue.
        """
        evicted = False
        while self.decoding and not self._cache.steps(self.steps, self.decoding, 1, self.contexts):
            self._count()
            order, request = self._admitted.pop()
            while order != request.order:
                order, request = self._admitted.pop()
            self._evict(request)
            evicted = True
        return evicted

    def _evict(self, request: Request) -> None:
        self.usage.preemptions += 1
        if request.decoding:
            self._stop(request)
            left = request.finish - self.steps
            request.tokens += request.left - left + 1  # the newest token was not in the cache yet
            request.left = left
        else:
            self._cache.free(request.tokens + request.apart)
            self.prompting.remove(request)
        request.order, request.ready = -1, False
        self.queue.appendleft(request)

    def _count(self) -> None:
        """Add up who runs and waits since the last change."""
        now = self.env.now
        seconds = now - self._since
        if seconds:
            if not (self.queue or self.decoding or self.prompting):
                self.usage.idle += seconds
            self.usage.running += (self.decoding + len(self.prompting)) * seconds
            self.usage.waiting += len(self.queue) * seconds
            self._since = now


def _stands(entry: tuple[int, int, Request]) -> bool:
    """True unless its request was evicted since."""
    return entry[1] == entry[2].order


def _put(bins: list[list[int]], tokens: int, squares: int, budget: float, ranks: int) -> bool:
    """Put a prompt on the rank with the fewest tokens, if the pass has room for it; a rank takes one in any case."""
    if len(bins) < ranks:
        bins.append([tokens, squares])
        return True
    least = min(bins) if ranks > 1 else bins[0]
    if least[0] + tokens > budget:
        return False
    least[0] += tokens
    least[1] += squares
    return True
