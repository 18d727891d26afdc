"""What a replica knows of a request, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass


class Request:
    """A request on its way through a replica."""

    __slots__ = (
        "apart", "computed", "decoding", "finish", "index", "known", "left", "offset", "order", "ready", "started",
        "tokens",
    )  # fmt: skip

    def __init__(self, index: int, tokens: int, left: int, *, ready: bool = False) -> None:
        self.index = index
        self.tokens = tokens
        """Tokens its next prompt pass computes: the prompt, and what was generated before an eviction."""
        self.left = left
        """Tokens still to be generated."""
        self.ready = ready
        """Its tokens are in the cache when it is admitted: another replica computed them."""
        self.started = False
        """Its first token is out."""
        self.known = 0
        """Tokens of its prompt that the cache holds from before."""
        self.apart = 0
        """Tokens by which it shares less of a prefix than a longest prompt does: its own cache holds so many more."""
        self.computed = 0
        """Those, and prompt tokens of earlier chunks."""
        self.decoding = False
        self.order = -1
        """Number of its admission."""
        self.finish = 0
        """Decode step of the replica that emits its last token."""
        self.offset = 0
        """Its context less the replica's decode steps: constant while it decodes."""


@dataclass
class Usage:
    """What a replica did with its time, seconds; and how much of it."""

    prompt: float = 0.0
    decode: float = 0.0
    mixed: float = 0.0
    running: float = 0.0
    """Sequences that run x seconds."""
    waiting: float = 0.0
    """Requests in the queue x seconds."""
    most_running: int = 0
    most_waiting: int = 0
    preemptions: int = 0
    prompt_passes: int = 0
    decode_steps: int = 0
    prompt_tokens: int = 0
    """Computed, recomputations included."""
    cached_tokens: int = 0
    """Of prompts, that the cache held from before."""
    emitted: int = 0
    """Tokens generated."""
    idle: float = 0.0
    """Seconds without a request."""

    @property
    def busy(self) -> float:
        """Seconds that an iteration runs."""
        return self.prompt + self.decode + self.mixed
