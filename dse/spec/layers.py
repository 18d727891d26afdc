"""The parts of a layer: token mixers and feed-forwards, with the weights and state each holds.

Formulas follow the reference modelling code of each family (transformers 5.23), the paper named in
the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Attention:
    """Softmax attention; `kv_heads` = `heads` is MHA, 1 is MQA, between is GQA (2305.13245)."""

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int
    """Head dimension of V (differs from `head_dim` in MiMo-V2)."""
    window: int | None = None
    """Sliding window: a token attends to at most this many latest tokens."""
    chunk: int | None = None
    """Chunked attention (Llama-4): a token attends inside its own chunk of this length."""
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: Literal["none", "head", "full"] = "none"
    """RMS norm of q and k: one weight per head dimension (Qwen3) or per channel (MiniMax-M2)."""
    gated: bool = False
    """An output gate doubles the query projection (Qwen3-Next)."""
    sinks: bool = False
    """One learned sink logit per head (gpt-oss)."""

    def parameters(self, hidden: int) -> int:
        """Weights of the projections, biases, qk-norms and sinks."""
        q, k = self.heads * self.head_dim, self.kv_heads * self.head_dim
        v, o = self.kv_heads * self.value_dim, self.heads * self.value_dim
        q_out = 2 * q if self.gated else q
        norm = {"none": 0, "head": 2 * self.head_dim, "full": q + k}[self.qk_norm]
        return (
            hidden * (q_out + k + v) + o * hidden
            + self.qkv_bias * (q_out + k + v) + self.out_bias * hidden
            + norm + self.sinks * self.heads
        )  # fmt: skip

    @property
    def span(self) -> int | None:
        """Longest context a token can see, or None when unbounded."""
        return self.window if self.window is not None else self.chunk

    @property
    def kv_elements(self) -> int:
        """Cached elements per token and layer."""
        return self.kv_heads * (self.head_dim + self.value_dim)


@dataclass(frozen=True, slots=True)
class Indexer:
    """The lightning indexer of DeepSeek sparse attention (DSA): picks `top_k` cached tokens."""

    heads: int
    dim: int
    top_k: int
    shared: bool = False
    """True where the layer reuses the choice of an earlier layer (GLM-5.2): no weights, no keys."""

    def parameters(self, hidden: int, q_rank: int) -> int:
        """Query, key (with LayerNorm) and head-weight projections; 0 when shared."""
        if self.shared:
            return 0
        return q_rank * self.heads * self.dim + hidden * self.dim + 2 * self.dim + hidden * self.heads


@dataclass(frozen=True, slots=True)
class LatentAttention:
    """Multi-head latent attention, MLA (DeepSeek-V2, 2405.04434): the cache holds one latent."""

    heads: int
    q_rank: int | None
    """Rank of the compressed query; None projects the query directly."""
    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    bias: bool = False
    indexer: Indexer | None = None

    def parameters(self, hidden: int) -> int:
        """Down- and up-projections, latent norms, output projection, indexer."""
        qk = self.nope_dim + self.rope_dim
        if self.q_rank is None:
            query = hidden * self.heads * qk
        else:
            query = hidden * self.q_rank + self.q_rank + self.q_rank * self.heads * qk
        latent = hidden * (self.kv_rank + self.rope_dim) + self.kv_rank
        expand = self.kv_rank * self.heads * (self.nope_dim + self.value_dim)
        out = self.heads * self.value_dim * hidden
        biases = ((self.q_rank or 0) + self.kv_rank + self.rope_dim + hidden) if self.bias else 0
        index = self.indexer.parameters(hidden, self.q_rank or hidden) if self.indexer else 0
        return query + latent + expand + out + biases + index

    @property
    def span(self) -> None:
        """MLA sees the whole context."""
        return None

    @property
    def kv_elements(self) -> int:
        """Cached latent and shared rope key per token and layer (not sharded by tensor parallelism)."""
        return self.kv_rank + self.rope_dim

    @property
    def index_elements(self) -> int:
        """Indexer key elements per token and layer, kept beside the cache."""
        return self.indexer.dim if self.indexer and not self.indexer.shared else 0


@dataclass(frozen=True, slots=True)
class DeltaNet:
    """Gated DeltaNet linear attention (2412.06464; Qwen3-Next): constant state per sequence."""

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv_kernel: int

    @property
    def conv_channels(self) -> int:
        """Channels of the short convolution: q, k and v."""
        return 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim

    def parameters(self, hidden: int) -> int:
        """q, k, v, gate z, beta and alpha projections; convolution; A, dt bias; norm; output."""
        value = self.value_heads * self.value_dim
        project = hidden * (self.conv_channels + value) + 2 * hidden * self.value_heads
        small = self.conv_channels * self.conv_kernel + 2 * self.value_heads + self.value_dim
        return project + small + value * hidden

    @property
    def state_elements(self) -> int:
        """Recurrent state per sequence and layer (fp32 in practice)."""
        return self.value_heads * self.key_dim * self.value_dim

    @property
    def conv_elements(self) -> int:
        """Convolution window per sequence and layer."""
        return self.conv_channels * self.conv_kernel


@dataclass(frozen=True, slots=True)
class Mamba2:
    """Mamba-2 state-space layer (2405.21060; Nemotron-H): constant state per sequence."""

    heads: int
    head_dim: int
    state: int
    groups: int
    conv_kernel: int
    conv_bias: bool = True
    bias: bool = False

    @property
    def inner(self) -> int:
        """Inner width."""
        return self.heads * self.head_dim

    @property
    def conv_channels(self) -> int:
        """Channels of the short convolution: x, B and C."""
        return self.inner + 2 * self.groups * self.state

    def parameters(self, hidden: int) -> int:
        """In-projection (z, x, B, C, dt), convolution, A, D, dt bias, gated norm, out-projection."""
        in_width = self.inner + self.conv_channels + self.heads
        conv = self.conv_channels * (self.conv_kernel + self.conv_bias)
        small = 3 * self.heads + self.inner
        biases = (in_width + hidden) if self.bias else 0
        return hidden * in_width + conv + small + self.inner * hidden + biases

    @property
    def state_elements(self) -> int:
        """Recurrent state per sequence and layer (fp32 in practice)."""
        return self.inner * self.state

    @property
    def conv_elements(self) -> int:
        """Convolution window per sequence and layer."""
        return self.conv_channels * self.conv_kernel


@dataclass(frozen=True, slots=True)
class MLP:
    """Dense feed-forward: two matrices, three when gated."""

    width: int
    gated: bool = True
    bias: bool = False

    def parameters(self, hidden: int) -> int:
        """Matrices and biases."""
        up = 2 if self.gated else 1
        return (up + 1) * hidden * self.width + self.bias * (up * self.width + hidden)

    def active_parameters(self, hidden: int) -> int:
        """All of them."""
        return self.parameters(hidden)


@dataclass(frozen=True, slots=True)
class MoE:
    """Mixture of experts: a router sends each token to `top_k` of `experts`, plus shared experts."""

    experts: int
    top_k: int
    width: int
    gated: bool = True
    bias: bool = False
    """Experts have biases (gpt-oss)."""
    router_bias: bool = False
    """One value per expert beside the router matrix (score correction or bias)."""
    shared_width: int = 0
    """Total width of the shared experts, 0 for none."""
    shared_gate: bool = False
    """A sigmoid gate of one column before the shared expert (Qwen)."""
    latent: int | None = None
    """Experts work on a projection of this width (Nemotron-3 Super)."""

    def expert_parameters(self, hidden: int) -> int:
        """One routed expert."""
        return MLP(self.width, self.gated, self.bias).parameters(self.latent or hidden)

    def common_parameters(self, hidden: int) -> int:
        """What every token uses: router, shared expert, latent projections."""
        router = self.experts * (hidden + self.router_bias)
        shared = MLP(self.shared_width, self.gated).parameters(hidden) if self.shared_width else 0
        latent = 2 * hidden * self.latent if self.latent else 0
        return router + shared + self.shared_gate * hidden + latent

    def parameters(self, hidden: int) -> int:
        """Router, all experts, shared experts."""
        return self.experts * self.expert_parameters(hidden) + self.common_parameters(hidden)

    def active_parameters(self, hidden: int) -> int:
        """What one token touches."""
        return self.top_k * self.expert_parameters(hidden) + self.common_parameters(hidden)


Mixer = Attention | LatentAttention | DeltaNet | Mamba2
FeedForward = MLP | MoE


@dataclass(frozen=True, slots=True)
class Layer:
    """One block of the stack. Hybrid stacks have blocks with only a mixer or only a feed-forward."""

    mixer: Mixer | None
    ffn: FeedForward | None
    norms: int = 2
    """Norms over the hidden width, each before (or around) a sub-block."""

    def parameters(self, hidden: int, norm: int) -> int:
        """Parameters of the layer; `norm` is the size of one norm."""
        mixer = self.mixer.parameters(hidden) if self.mixer else 0
        return mixer + (self.ffn.parameters(hidden) if self.ffn else 0) + self.norms * norm

    def active_parameters(self, hidden: int, norm: int) -> int:
        """Parameters one token touches."""
        mixer = self.mixer.parameters(hidden) if self.mixer else 0
        return mixer + (self.ffn.active_parameters(hidden) if self.ffn else 0) + self.norms * norm
