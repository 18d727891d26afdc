"""Speculative decoding as the user says it: what drafts, how many tokens are verified, how many are gained.

Published measurements stand in `configs/speculation.yaml`. Verification keeps the model's own distribution, whatever
drafts (Leviathan 2211.17192, Chen 2302.01318), so only the cost differs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from itertools import accumulate
from operator import mul
from typing import Annotated, Any

from pydantic import Field, model_validator

from dse.errors import InputError
from dse.spec.catalog import load_model
from dse.spec.model import MLP, Attention, LatentAttention, Layer, Mixer, ModelSpec, MoE
from dse.spec.reading import Document, build, from_value, library_file, read, show, suggest
from dse.spec.runtime import Kind
from dse.spec.shape import Strict
from dse.spec.shelf import plain_name

FILE = "configs/speculation.yaml"

Passes = Annotated[int, Field(ge=1, le=1024)]
Chance = Annotated[float, Field(ge=0, le=1)]
Tokens = Annotated[float, Field(ge=1)]


class SpeculationWords(Strict):
    """The fields of a mapping; one of `draft`, `mtp` and `tree` says what kind it is."""

    draft: Any = None
    """A model that drafts `gamma` tokens one by one."""
    gamma: Passes | None = None
    mtp: Passes | None = None
    """Tokens that the model's own next-token module drafts one by one (`nextn`): a layer like its last."""
    trained: bool = False
    """With `mtp`: you have trained such a module, for a model that was published without one."""
    tree: Passes | None = None
    """Tokens verified at once, whatever drafts them."""
    eagle: Passes | None = None
    """Of a tree: levels, each a pass of a head of one layer (EAGLE)."""
    medusa: Passes | None = None
    """Of a tree: heads, each a token further ahead (Medusa)."""
    acceptance: Chance | tuple[Chance, ...] | None = None
    """Probability that a drafted token is accepted, if those before it were; of each position, or the same of all."""
    accepted: Annotated[float, Field(ge=0)] | None = None
    """Drafted tokens that are accepted per iteration, on average."""
    tau: Tokens | dict[str, Tokens] | None = None
    """Tokens gained per iteration, the model's own included; by model, where that was measured."""
    source: str = ""
    notes: str = ""

    @model_validator(mode="after")
    def _of_one_kind(self) -> SpeculationWords:
        kinds = [name for name in ("draft", "mtp", "tree") if getattr(self, name) is not None]
        if len(kinds) != 1:
            raise ValueError("expected one of 'draft' (a model), 'mtp' (its tokens) and 'tree' (tokens verified)")
        if self.tree is None and (self.eagle or self.medusa):
            raise ValueError("'eagle' and 'medusa' say what drafts a 'tree'")
        if self.eagle and self.medusa:
            raise ValueError("expected either 'eagle' or 'medusa'")
        given = [name for name in ("acceptance", "accepted", "tau") if getattr(self, name) is not None]
        allowed = ("tau",) if self.tree is not None else ("acceptance", "accepted", "tau")
        if len(given) != 1 or given[0] not in allowed:
            wanted = "'tau' (tokens gained per iteration)" if self.tree else "one of 'acceptance', 'accepted' and 'tau'"
            raise ValueError(f"{kinds[0]!r} needs {wanted}")
        if self.trained and self.mtp is None:
            raise ValueError("'trained' says that you have trained the next-token module of 'mtp'")
        if self.draft is not None and self.gamma is None and not isinstance(self.acceptance, tuple):
            raise ValueError("'draft' needs 'gamma' (tokens it drafts), or the acceptance of each position")
        if self.draft is None and self.gamma is not None:
            raise ValueError("'gamma' is how many tokens a 'draft' model drafts")
        return self

    @model_validator(mode="after")
    def _gains_what_is_drafted(self) -> SpeculationWords:
        drafted = self.drafted
        if isinstance(self.acceptance, tuple) and len(self.acceptance) != drafted:
            raise ValueError(f"acceptance lists {len(self.acceptance)} positions, but {drafted} tokens are drafted")
        if self.accepted is not None and self.accepted > drafted:
            raise ValueError(f"accepted is at most {drafted}, the tokens drafted, got {self.accepted:g}")
        taus = self.tau.values() if isinstance(self.tau, dict) else [self.tau or 1.0]
        if (most := max(taus, default=1.0)) > self.width:
            raise ValueError(f"tau is at most {self.width}, the tokens verified, got {most:g}")
        return self

    @property
    def drafted(self) -> int:
        """Tokens ahead of the model's own that may be accepted."""
        if self.tree is not None:
            return self.tree - 1
        listed = len(self.acceptance) if isinstance(self.acceptance, tuple) else 0
        return self.mtp or self.gamma or listed

    @property
    def width(self) -> int:
        """Tokens of a sequence in a pass of the model: those drafted, and one of its own."""
        return self.drafted + 1

    @property
    def gained(self) -> float | Mapping[str, float]:
        """Tokens per iteration: 1 + a + a^2 + ... of one acceptance, 1 + a1 + a1 a2 + ... of a list (2211.17192)."""
        if self.tau is not None:
            return self.tau
        if self.accepted is not None:
            return 1.0 + self.accepted
        chance = self.acceptance
        chances = chance if isinstance(chance, tuple) else (chance or 0.0,) * self.drafted
        return 1.0 + math.fsum(accumulate(chances, mul))


@dataclass(frozen=True)
class Speculation:
    """What drafts, how much is verified at once, and what that gains."""

    kind: Kind
    passes: int
    """Passes of what drafts, one after the other."""
    width: int
    """Tokens of a sequence in a pass of the model."""
    tau: tuple[tuple[str, float], ...]
    """Tokens gained per iteration by model name; of every model under the name `*`."""
    draft: ModelSpec | None = None
    name: str = ""
    """In the library."""
    trained: bool = False
    """The next-token module was trained by the user: the model need not have come with one."""

    def __str__(self) -> str:
        """The column: `eagle-2`, `llama-3.2-1b 4 tau 3.36`, `mtp 1 tau 1.85`, `eagle 5 tree 26 tau 3.6`."""
        if self.name:
            return self.name
        own = " trained" if self.trained else ""
        what = self.draft.name if self.draft is not None else self.kind
        passes = f" {self.passes}" if self.passes else ""
        tree = f" tree {self.width}" if self.kind in ("eagle", "medusa", "lookup") else ""
        tau = f" tau {self.tau[0][1]:.4g}" if len(self.tau) == 1 else ""
        return f"{what}{passes}{own}{tree}{tau}"

    def gained(self, model: ModelSpec) -> float:
        """Tokens per iteration with this model; NaN where nobody measured it."""
        taus = dict(self.tau)
        return taus.get(model.name, taus.get("*", math.nan))


@dataclass(frozen=True)
class Drafter:
    """What proposes tokens beside a model, as a model of its own."""

    model: ModelSpec
    passes: int
    queries: float
    """Tokens of a sequence in each pass."""
    shares: tuple[str, ...] = ()
    """Operators whose matrices are the target's: read in every pass, held once."""


@lru_cache(maxsize=256)
def drafter_of(speculation: Speculation, target: ModelSpec) -> Drafter | None:
    """What drafts for a model; None where that costs nothing on the accelerator, or the model has no such layer."""
    passes = speculation.passes
    if speculation.draft is not None:
        return Drafter(speculation.draft, passes, 1.0)
    if speculation.kind == "medusa":
        return Drafter(_heads(target, passes), 1, 1.0, ("embedding",))
    attention = next((at.mixer for at in reversed(target.layers) if _attends(at.mixer)), None)
    if speculation.kind == "lookup" or attention is None:
        return None
    if speculation.kind == "mtp":
        return Drafter(_module(target, attention), passes, 1.0, ("embedding", "lm_head"))
    level = max((speculation.width - 1) / passes, 1.0)
    return Drafter(_head_layer(target, attention), passes, level, ("embedding", "lm_head"))


def _attends(mixer: Mixer | None) -> bool:
    """Softmax attention that can stand alone: a layer that reuses an earlier indexer's choice (GLM-5.2) cannot."""
    if isinstance(mixer, LatentAttention):
        return mixer.indexer is None or not mixer.indexer.shared
    return isinstance(mixer, Attention)


def _module(target: ModelSpec, mixer: Mixer) -> ModelSpec:
    """A module for the token after next (DeepSeek-V3, 2412.19437 section 2.2): a layer as published, or the last one.

    Two norms, of the hidden state and the embedding, a projection that joins them, a layer, a norm before the head.
    """
    ffn = next((layer.ffn for layer in reversed(target.layers) if layer.ffn is not None), None)
    layer = target.nextn_layer or Layer(mixer, ffn)
    name = f"{target.name}-mtp"
    return replace(target, name=name, layers=(layer,), joined=2, extra_norms=3, tied=False, positions=0)


def _head_layer(target: ModelSpec, mixer: Mixer) -> ModelSpec:
    """EAGLE's head (2401.15077): hidden state and embedding joined, then one dense layer, without norms around it.

    As wide as the model's own dense layers, or as one expert (its 0.28 B parameters for Mixtral-8x7B say so).
    """
    dense = next((layer.ffn for layer in target.layers if isinstance(layer.ffn, MLP)), None)
    expert = next((layer.ffn for layer in target.layers if isinstance(layer.ffn, MoE)), None)
    if dense is None and expert is not None:
        dense = MLP(expert.width, expert.gated)
    name = f"{target.name}-eagle"
    return replace(
        target, name=name, layers=(Layer(mixer, dense),), joined=2, extra_norms=0, tied=False, positions=0,
        embed_dim=None,
    )  # fmt: skip


def _heads(target: ModelSpec, heads: int) -> ModelSpec:
    """Medusa-1 (2401.10774): n residual blocks h x h and n heads h x V over the model's last hidden state."""
    return replace(
        target, name=f"{target.name}-medusa", layers=(), vocab=heads * target.vocab, joined=heads, extra_norms=0,
        tied=False, positions=0, embed_dim=None, head_bias=False,
    )  # fmt: skip


VALUES = (
    "none, a name in configs/speculation.yaml, {draft, gamma, acceptance}, {mtp, accepted}, or "
    "{tree, tau, eagle or medusa}"
)


def load_speculation(entry: Any) -> Speculation:
    """The speculation a user means by a name, or a mapping.

    Args:
        entry: `eagle-2`; `{base: eagle-2, tau: 4}`; `{draft: llama-3.2-1b, gamma: 4, acceptance: 0.8}`;
            `{mtp: 1, accepted: 0.85}`; `{tree: 26, eagle: 5, tau: 3.6}`; or a `Speculation`.

    Raises:
        InputError: unknown name, or all faults of the mapping.
    """
    if isinstance(entry, Speculation):
        return entry
    if isinstance(entry, str):
        return _resolved(_named(entry), _name(entry))
    if not isinstance(entry, Mapping):
        raise InputError(f"expected {VALUES}, got {show(entry)}")
    own = dict(entry)
    if isinstance(own.get("base"), str):
        base = _named(own.pop("base")).model_dump(exclude_none=True, exclude={"source", "notes"})
        replaced = ("acceptance", "accepted", "tau")
        if any(name in own for name in replaced):
            base = {name: value for name, value in base.items() if name not in replaced}
        own = base | own
    return _resolved(build(SpeculationWords, from_value(own)), "")


def speculation_names() -> list[str]:
    """Every speculation that has a name, in the order of the file."""
    return list(_library())


@cache
def _library() -> Mapping[str, SpeculationWords]:
    document = read(library_file(FILE))
    return {name: build(SpeculationWords, document, entry, (name,)) for name, entry in document.value.items()}


def _name(word: str) -> str:
    spelled = {plain_name(name): name for name in _library()}
    if plain_name(word) not in spelled:
        hint = suggest(word, spelled) or f"; expected none, a mapping, or one of {', '.join(spelled)}"
        raise InputError(f"unknown speculation {show(word)}{hint}")
    return spelled[plain_name(word)]


def _named(word: str) -> SpeculationWords:
    return _library()[_name(word)]


def _resolved(words: SpeculationWords, name: str) -> Speculation:
    """With names of models resolved."""
    gained = words.gained
    if isinstance(gained, Mapping):
        taus = tuple((load_model(model).name, tau) for model, tau in gained.items())
    else:
        taus = (("*", gained),)
    if words.draft is not None:
        draft = load_model(words.draft, Document("", None), ("draft",))
        return Speculation("draft", words.drafted, words.width, taus, draft, name)
    if words.mtp is not None:
        return Speculation("mtp", words.mtp, words.width, taus, None, name, words.trained)
    kind: Kind = "eagle" if words.eagle else "medusa" if words.medusa else "lookup"
    return Speculation(kind, words.eagle or words.medusa or 0, words.width, taus, None, name)
