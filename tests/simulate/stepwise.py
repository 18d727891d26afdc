"""The same engine one iteration at a time: slow, short, and written from the words of the semantics alone."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Sequence:
    index: int
    tokens: int
    left: int
    cached: int = 0
    started: bool = False


@dataclass
class Engine:
    """One replica of one rank."""

    fitted: object
    now: float = 0.0
    queue: list[Sequence] = field(default_factory=list)
    prompting: list[Sequence] = field(default_factory=list)
    running: list[Sequence] = field(default_factory=list)
    """Oldest admission first."""
    first: dict[int, float] = field(default_factory=dict)
    last: dict[int, float] = field(default_factory=dict)
    preemptions: int = 0

    def blocks(self, tokens: int) -> int:
        return self.fitted.held[-(-tokens // self.fitted.block)]

    def used(self, growing: int = 0) -> int:
        decoding = sum(self.blocks(s.cached + growing) for s in self.running if s not in self.prompting)
        return decoding + sum(self.blocks(s.tokens) for s in self.prompting)

    def admissible(self, growing: int = 0) -> bool:
        if not self.queue or len(self.running) == self.fitted.slots:
            return False
        return self.used(growing) + self.blocks(self.queue[0].tokens) <= self.fitted.room

    def admit(self) -> Sequence:
        sequence = self.queue.pop(0)
        sequence.cached = 0
        self.running.append(sequence)
        self.prompting.append(sequence)
        return sequence

    def decoding(self) -> list[Sequence]:
        return [s for s in self.running if s not in self.prompting]

    def make_room(self) -> bool:
        evicted = False
        while self.decoding() and self.used(growing=1) > self.fitted.room:
            youngest = self.running.pop()
            if youngest in self.prompting:
                self.prompting.remove(youngest)
            else:
                youngest.tokens = youngest.cached + 1
            self.queue.insert(0, youngest)
            self.preemptions += 1
            evicted = True
        return evicted

    def emit(self, sequence: Sequence) -> None:
        sequence.left -= 1
        if not sequence.started:
            sequence.started = True
            self.first[sequence.index] = self.now
        if sequence.left == 0:
            self.last[sequence.index] = self.now
            self.running.remove(sequence)

    def step(self, decoding: list[Sequence]) -> None:
        for sequence in decoding:
            sequence.cached += 1
            self.emit(sequence)

    def prompted(self, sequence: Sequence) -> None:
        self.prompting.remove(sequence)
        sequence.cached = sequence.tokens
        self.emit(sequence)

    def context(self, decoding: list[Sequence]) -> float:
        return sum(s.cached + 1 for s in decoding) / len(decoding) if decoding else 0.0

    def prefill_first(self) -> None:
        budget = self.fitted.deployment.budget
        entering: list[Sequence] = []
        while self.admissible():
            if entering and sum(s.tokens for s in entering) + self.queue[0].tokens > budget:
                break
            entering.append(self.admit())
        if entering:
            squares = sum(s.tokens**2 for s in entering)
            self.now += self.fitted.times.prompts(sum(s.tokens for s in entering), squares)
            for sequence in entering:
                self.prompted(sequence)
            return
        self.make_room()
        decoding = self.decoding()
        self.now += self.fitted.times.line(len(decoding)).at(self.context(decoding))
        self.step(decoding)

    def chunked(self) -> None:
        evicted = self.make_room()
        decoding = self.decoding()
        left = max(self.fitted.deployment.chunk_tokens - len(decoding), 0)
        chunks: list[tuple[Sequence, int]] = []
        waiting = list(self.prompting)
        while left > 0:
            if not waiting:
                if evicted or not self.admissible(growing=1):
                    break
                waiting.append(self.admit())
            sequence = waiting.pop(0)
            tokens = min(left, sequence.tokens - sequence.cached)
            chunks.append((sequence, tokens))
            left -= tokens
        if chunks:
            total = sum(tokens for _, tokens in chunks)
            pairs = sum(tokens * (s.cached + (tokens + 1) / 2) for s, tokens in chunks)
            self.now += self.fitted.times.mixed(len(decoding), self.context(decoding), total, pairs)
        else:
            self.now += self.fitted.times.line(len(decoding)).at(self.context(decoding))
        self.step(decoding)
        for sequence, tokens in chunks:
            sequence.cached += tokens
            if sequence.cached == sequence.tokens:
                self.prompted(sequence)

    def run(self, trace) -> Engine:
        rows = list(zip(trace.arrival.tolist(), trace.input.tolist(), trace.output.tolist(), strict=True))
        arrived = 0
        while len(self.last) < len(rows):
            if not self.queue and not self.running:
                self.now = max(self.now, rows[arrived][0])
            while arrived < len(rows) and rows[arrived][0] <= self.now:
                self.queue.append(Sequence(arrived, rows[arrived][1], rows[arrived][2]))
                arrived += 1
            if self.fitted.deployment.chunk_tokens is None:
                self.prefill_first()
            else:
                self.chunked()
        return self
