"""The cost model once more, in plain Python: one point, floats and loops, no arrays and no closed forms.

Written from the formulas (2402.16363; the papers named beside each operator), not from `dse.cost`: it shares with
it only the user's words (`dse.spec`, fitted efficiencies included) and the constants of `dse.cost.efficiency`. Decode
is summed step by step, causal prompts token by token, stages layer by layer. Slow and readable; the vectorised model
must equal it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from math import ceil, floor, log, log2, nan, sqrt
from typing import Any

from dse.cost.efficiency import FIDELITIES
from dse.spec.compute import operand_type, supported_type
from dse.spec.hardware import HardwareSpec
from dse.spec.layout import Layout
from dse.spec.model import MLP, Attention, DeltaNet, LatentAttention, Mamba2, ModelSpec, MoE
from dse.spec.precision import Precision
from dse.spec.workload import Workload

BF16, FP32 = 2.0, 4.0  # bytes of the residual stream and of norms; of recurrent states
NCCL_BUFFERS = 0.392e9


@dataclass
class Op:
    """One operator of one layer on one device, over one micro-batch."""

    name: str
    group: str
    operands: str
    flops: float = 0.0
    moved: float = 0.0
    live: float = 0.0  # bytes of its inputs and outputs
    resident: float = 0.0  # bytes of its weights the device holds
    kernel: str = ""
    network: float | None = None  # seconds of a collective
    form: str = ""  # class of kernels with fitted efficiencies
    sizes: tuple[float, ...] = ()  # what its formula needs beside FLOPs and bytes


@cache
def causal_pairs(tokens: int, window: int | None, chunk: int | None) -> int:
    """Scores of a causal prompt: what each of its tokens sees, added up one by one."""
    return sum(seen(n, window, chunk) for n in range(1, tokens + 1))


def seen(n: int, window: int | None, chunk: int | None) -> int:
    """Tokens of a context of n that its last token attends to."""
    if window is not None:
        return min(n, window)
    return (n - 1) % chunk + 1 if chunk is not None else n


@dataclass
class Reference:
    """One design point."""

    model: ModelSpec
    chip: HardwareSpec
    workload: Workload
    precision: Precision
    fidelity: str
    layout: Layout
    batch: int
    attention: str = "fused"
    max_prefill_tokens: float = 8192
    kv_block_size: int = 16
    memory_utilization: float = 0.9
    price_kind: str = "on-demand"
    prefix: int = 0  # tokens of each prompt that all requests share, cached before
    cascade: bool = False  # and read once per micro-batch
    branches: int = 1  # sequences per request
    answers: int = 1  # of which are given out
    width: int = 1  # tokens of a sequence verified per step
    tau: float = 1.0  # and gained

    def __post_init__(self) -> None:
        self.eta = FIDELITIES[self.fidelity]
        self.tp, self.pp, self.dp, self.ep = self.layout
        self.has_experts = any(isinstance(layer.ffn, MoE) for layer in self.model.layers)
        if self.ep == 0:
            self.ep = self.tp * self.dp if self.has_experts and self.dp > 1 else 1
        self.expert_tp = self.tp * self.dp / self.ep
        self.devices = self.tp * self.pp * self.dp
        self.s, self.g = self.workload.input, self.workload.output
        self.requests = ceil(self.batch / self.dp)  # on one attention-dp rank
        self.sequences = {"prefill": self.requests, "decode": self.requests * self.branches}
        self.queries = {"prefill": self.s - self.prefix, "decode": self.width}
        pipelined = min(self.pp, self.requests)
        per_pass = max(floor(min(self.max_prefill_tokens, 1e15) / self.pp / self.queries["prefill"]), 1)
        passes = max(pipelined, ceil(self.requests / per_pass))
        self.micro = {"decode": min(self.pp, self.sequences["decode"]), "prefill": passes}
        self.in_pass = {phase: self.sequences[phase] / micro for phase, micro in self.micro.items()}
        self.fullest_pass = min(ceil(self.requests / pipelined), per_pass)
        for tensor in ("weights", "projections", "activations", "kv_cache", "embeddings"):
            setattr(self, f"b_{tensor}", getattr(self.precision, tensor).bytes)
        self.b_kv, self.b_act = self.b_kv_cache, self.b_activations  # type: ignore[attr-defined]

    # -- roofs ------------------------------------------------------------------------------------

    @cached_property
    def _roofs(self) -> dict[tuple[str, str], tuple[float, float]]:
        return {}

    def roof(self, group: str, operands: str) -> tuple[float, float]:
        """FLOP/s and bytes/s that such an operator reaches."""
        if (group, operands) not in self._roofs:
            self._roofs[group, operands] = self._roof(group, operands)
        return self._roofs[group, operands]

    def _roof(self, group: str, operands: str) -> tuple[float, float]:
        share = self.eta.groups[group]  # type: ignore[index]
        compute, memory, (peak, kind) = share.compute, share.memory, self._peak(operands)
        if operands != "vector":
            acts = self.precision.attention if operands == "attention" else self.precision.activations
            weights = getattr(self.precision, operands)
            compute *= self.eta.compute_of.get(kind, 1)
            if operands != "attention" and weights.element_bits < acts.element_bits:  # dequantised on the way
                compute *= self.eta.weight_only_compute
                memory *= self.eta.weight_only_memory
        return peak * compute, self.chip.bandwidth * memory

    def seconds(self, op: Op) -> float:
        """max(FLOPs / reached peak, bytes / reached bandwidth), or the fitted formula of its class."""
        if op.network is not None:
            return op.network
        q = self.fitted(op)
        if q is None:
            peak, bandwidth = self.roof(op.group, op.operands)
            return max(op.flops / peak, op.moved / bandwidth)
        if op.form == "inside":  # its time is part of the experts'
            return 0.0
        P, W, SM = self._peak(op.operands)[0], self.chip.bandwidth, self.chip.cores
        assert SM is not None
        compute, memory = op.flops / (P * q.compute), op.moved / (W * q.memory)
        if op.form == "gemm":
            rows, k, n, _ = op.sizes
            both = 0.7 * max(compute, memory) + 0.3 * (compute + memory)
            return both + q.inputs * rows * k / W + q.outputs * rows * n * 2 / W
        if op.form == "prefill":
            tiles, scores, _ = op.sizes
            return compute + memory + q.tau_us * 1e-6 * tiles / SM + q.softmax * 512 * scores / P
        if op.form == "decode":
            items, item = op.sizes
            return compute + memory + q.tau_us * 1e-6 * items / SM + q.item * item * SM / W
        padded, activations, _ = op.sizes
        return compute + memory + q.padding * padded / (P * q.compute) + q.activations * activations / W

    def launch(self, op: Op) -> float:
        """Seconds of the launch of a kernel, by its first operator."""
        q = self.fitted(op) if op.network is None else None
        if q is None:
            return self.eta.groups[op.group].fixed_us * 1e-6  # type: ignore[index]
        P, W, SM = self._peak(op.operands)[0], self.chip.bandwidth, self.chip.cores
        assert SM is not None
        if op.form == "gemm":
            return q.t0_us * 1e-6 + q.tile * 2 * 128 * 128 * op.sizes[3] * SM / P
        if op.form == "prefill":
            return q.t0_us * 1e-6 + q.tile * op.sizes[2] * SM / P
        if op.form == "decode":
            return q.t0_us * 1e-6
        if op.form == "moe" and op.name == "experts_up":  # one launch for all of them
            return q.t0_us * 1e-6 + q.routing * op.sizes[2] / W
        return 0.0

    def fitted(self, op: Op) -> Any:
        """The fitted set of its class, if the fidelity asks for it and the chip has one."""
        block = self.chip.calibration
        if self.fidelity != "calibrated" or block is None or not op.form:
            return None
        kv = "kv16" if self.precision.kv_cache.element_bits > 8 else "kv8"
        if op.form in ("prefill", "decode"):
            latent = op.name == "latent"
            if op.form == "decode":
                return (block.latent_decode if latent else block.decode).get(kv)
            if latent:
                return block.latent_prefill.get("bf16")
            kind = self._peak("attention")[1]
            return block.prefill.get("fp8-kv8" if kind == "fp8" else f"bf16-{kv}")
        operands = "weights" if op.form == "inside" else op.operands
        return (block.gemm if op.form == "gemm" else block.moe).get(self._product(operands))

    def _product(self, operands: str) -> str:
        """The number type a matrix product is told by."""
        kind = self._peak(operands)[1]
        weights = getattr(self.precision, operands)
        stored = {"fp32": 32, "bf16": 16, "fp16": 16}.get(weights.dtype) or int(weights.dtype.lstrip("fpint"))
        wide = {"fp32": 32, "bf16": 16, "fp16": 16}.get(kind) or int(kind.lstrip("fpint"))
        if stored < wide:
            return f"w{4 if stored <= 4 else 8}a{wide}"
        if kind == "fp8" and weights.group_size:
            return "fp8-block"
        return "bf16" if kind == "fp16" else kind

    def _peak(self, operands: str) -> tuple[float, str]:
        """FLOP/s of the type that operands are multiplied in, and the type."""
        if operands == "vector":
            return self.chip.vector, "vector"
        acts = self.precision.attention if operands == "attention" else self.precision.activations
        peaks = {"fp32": self.chip.vector, **self.chip.peaks}
        kind = supported_type(operand_type(getattr(self.precision, operands), acts), peaks)
        return peaks[kind], kind

    # -- links ------------------------------------------------------------------------------------

    def _levels(self, ranks: float, stride: float = 1) -> tuple[float, float]:
        inside = min(max(floor(self.chip.domain / stride), 1), ranks)
        return inside, ceil(ranks / inside)

    @property
    def _links(self) -> tuple[float, float, float, float]:
        """Start and bytes/s inside the domain, and between domains."""
        out = self.chip.scale_out_bandwidth or float("inf")
        fast, slow = self.chip.domain_bandwidth * self.eta.link, out * self.eta.link
        return self.eta.latency_us * 1e-6, fast, self.eta.latency_out_us * 1e-6, slow

    def timed(self, name: str, n: float, g: float, size: float) -> float | None:
        """A collective that was timed, where the group keeps to one domain."""
        block = self.chip.calibration
        q = block.collective.get(name) if block is not None and self.fidelity == "calibrated" else None
        if q is None or n < 2 or g > 1:
            return None
        wire = (2 if name.startswith("all_reduce") else 1) * (n - 1) / n * size / self.chip.domain_bandwidth
        if n <= 4:
            inverse = q.inverse2 + (q.inverse4 - q.inverse2) * (n - 2) / 2
        else:
            inverse = q.inverse4 + (q.inverse8 - q.inverse4) * min((n - 4) / 4, 1)
        return (q.alpha0_us + q.alpha1_us * n) * 1e-6 + inverse * wire + q.ramp * sqrt(wire * 1e-6)

    def all_reduce(self, ranks: float, size: float) -> float:
        """The fastest of ring, tree and one-shot, in the domain and then over the domains."""
        n, g = self._levels(ranks)
        if (library := self.timed("all_reduce", n, g, size)) is not None:
            own = self.timed("all_reduce_custom", n, g, size)
            return library if own is None else min(library, own)
        alpha, fast, alpha_out, slow = self._links
        ring = 2 * (n - 1) * (alpha + size / n / fast) + 2 * (g - 1) * (alpha_out + size / n / g / slow)
        tree = 2 * ceil(log2(n)) * alpha + 2 * ceil(log2(g)) * alpha_out
        tree += (2 * size / fast if n > 1 else 0) + (2 * size / n / slow if g > 1 else 0)
        once = (alpha + (n - 1) * size / fast if n > 1 else 0) + (alpha_out + (g - 1) * size / slow if g > 1 else 0)
        return min(ring, tree, once)

    def all_gather(self, ranks: float, size: float, stride: float = 1) -> float:
        """Direct; `size` is the gathered whole."""
        n, g = self._levels(ranks, stride)
        if (found := self.timed("all_gather", n, g, size)) is not None:
            return found
        alpha, fast, alpha_out, slow = self._links
        inside = alpha + (n - 1) / n * size / fast if n > 1 else 0
        return inside + (alpha_out + (g - 1) / g * size / n / slow if g > 1 else 0)

    def all_to_all(self, ranks: float, size: float) -> float:
        """Direct; `size` is all that one rank sends, its own share included."""
        n, g = self._levels(ranks)
        if (found := self.timed("all_to_all", n, g, size)) is not None:
            return found
        alpha, fast, alpha_out, slow = self._links
        inside = alpha + (n - 1) / ranks * size / fast if n > 1 else 0
        return inside + (alpha_out + (ranks - n) / ranks * size / slow if g > 1 else 0)

    def hop(self, size: float) -> float:
        """One stage to the next."""
        alpha, fast, alpha_out, slow = self._links
        return alpha + size / fast if self.devices <= self.chip.domain else alpha_out + size / slow

    # -- operators --------------------------------------------------------------------------------

    def linear(self, name: str, rows: float, ins: float, outs: float, *, operands: str = "weights", bias: float = 0,
               cached: bool = False, kernel: str = "", group: str = "gemm") -> Op:  # fmt: skip
        """rows x ins times ins x outs."""
        matrix = ins * outs * getattr(self, f"b_{operands}")
        act = BF16 if operands == "embeddings" else self.b_act  # head and router are not quantised
        read, out = rows * ins * act, rows * outs * (self.b_kv if cached else act)
        live = read + (0 if cached else out)
        moved, held = matrix + read + out, matrix + bias * BF16
        sizes = (rows, ins, outs, ins)
        return Op(name, group, operands, 2 * rows * ins * outs, moved, live, held, kernel, None, "gemm", sizes)

    def pointwise(self, name: str, rows: float, reads: float, writes: float, flops: float, resident: float = 0,
                  kernel: str = "", byte: float | None = None) -> Op:  # fmt: skip
        """Element by element on the vector units."""
        moved = rows * (reads + writes) * (byte or self.b_act)
        return Op(name, "vector", "vector", rows * flops, moved, moved, resident * BF16, kernel)

    def scores(self, mixer: Attention | LatentAttention, sequences: float, phase: str, n: int) -> list[Op]:
        """Attention proper: a prompt of n tokens, or a step at context n; with the indexer's scores."""
        heads, ops, sparse = mixer.heads / self.tp, [], None
        queries, own = self.queries[phase], 1.0

        def pairs(window: int | None, chunk: int | None) -> float:
            if phase == "prefill":
                return causal_pairs(n, window, chunk) - causal_pairs(self.prefix, window, chunk)
            return sum(seen(n, window, chunk) + drafted for drafted in range(queries))

        def read(window: int | None, chunk: int | None) -> float:
            """Keys, by all sequences of a pass."""
            if phase == "prefill":
                return sequences * (queries + min(self.prefix, window or chunk or self.prefix))
            every = sequences * (seen(n, window, chunk) + queries - 1)
            return every - (sequences - 1) * self.prefix if self.cascade and not (window or chunk) else every

        if isinstance(mixer, Attention):
            span = (mixer.window, mixer.chunk)
            dk, dv = mixer.head_dim, mixer.value_dim
            per_key, cached = max(mixer.kv_heads / self.tp, 1) * (dk + dv) * self.b_kv, True
        else:
            sparse = mixer.indexer
            span, cached = (sparse.top_k if sparse else None, None), phase == "decode"
            latent = mixer.kv_rank + mixer.rope_dim
            # Absorbed in decode: every head attends over the latent. Expanded in the prompt: keys and values per head.
            dk, dv = (latent, mixer.kv_rank) if cached else (mixer.nope_dim + mixer.rope_dim, mixer.value_dim)
            per_key = latent * self.b_kv if cached else heads * (dk + dv) * self.b_act
            if sparse is not None and not sparse.shared:
                wide = sparse.heads * sparse.dim
                q = sequences * queries * wide * self.b_act
                moved = q + read(None, None) * sparse.dim * self.b_kv
                flops = 2 * wide * sequences * pairs(None, None)
                ops.append(Op("index_scores", "attention", "attention", flops, moved, q))
            if phase == "prefill":  # latents that were cached are expanded a pass's worth at a time
                own = queries / n
        keys = read(*span)
        q, o, kv = (sequences * queries * heads * d * self.b_act for d in (dk, dv, 0))
        kv = keys * per_key
        held = 0 if cached else kv
        if self.attention == "fused":
            flops = (2 * (dk + dv) + 5) * heads * sequences * pairs(*span)
            latent = isinstance(mixer, LatentAttention)
            sets = (1 if phase == "decode" else heads) if latent else max(mixer.kv_heads / self.tp, 1)
            sizes: tuple[float, ...] = (sequences * sets, per_key / sets * seen(n, *span))
            if phase == "prefill":
                tile = 2 * 128 * (dk + dv) * min(n, *(reach for reach in span if reach is not None), n)
                sizes = (sequences * heads * ceil(queries / 128), sequences * heads * pairs(*span), tile)
            name, live = "latent" if latent else "attention", own * (q + held + o)
            return [*ops, Op(name, "attention", "attention", flops, q + kv + o, live, form=phase, sizes=sizes)]
        every = sequences * heads * (queries * n if phase == "prefill" else pairs(*span))
        s, at_k, at_v = every * self.b_act, dk / (dk + dv), dv / (dk + dv)
        return [
            *ops,
            Op("qk", "attention", "attention", 2 * dk * every, q + at_k * kv + s, own * (q + at_k * held + s)),
            Op("softmax", "vector", "vector", 5 * every, 2 * s, own * 2 * s),
            Op("sv", "attention", "attention", 2 * dv * every, s + at_v * kv + o, own * (s + at_v * held + o)),
        ]

    def mixer(self, mixer: Any, sequences: float, queries: int, phase: str) -> list[Op]:
        """Everything of a token mixer but its scores."""
        h, tp, rows = self.model.hidden, self.tp, sequences * queries

        def project(name: str, ins: float, outs: float, **options: Any) -> Op:
            return self.linear(name, rows, ins, outs, operands="projections", **options)

        if isinstance(mixer, Attention):
            heads, kv_heads = mixer.heads / tp, max(mixer.kv_heads / tp, 1)
            q, out = heads * mixer.head_dim * (1 + mixer.gated), heads * mixer.value_dim
            k, v = kv_heads * mixer.head_dim, kv_heads * mixer.value_dim
            ops = [
                project("q", h, q, bias=mixer.qkv_bias * q, kernel="qkv"),
                project("k", h, k, bias=mixer.qkv_bias * k, kernel="qkv", cached=True),
                project("v", h, v, bias=mixer.qkv_bias * v, kernel="qkv", cached=True),
                project("o", out, h, bias=mixer.out_bias * h + mixer.sinks * heads),
            ]
            if mixer.qk_norm != "none":
                width = heads * mixer.head_dim + k
                held = 2 * mixer.head_dim if mixer.qk_norm == "head" else width
                ops.append(self.pointwise("qk_norm", rows, width, width, 7 * width, held))
            if mixer.gated:
                ops.append(self.pointwise("gate", rows, 2 * out, out, 4 * out))
            return ops
        if isinstance(mixer, LatentAttention):
            heads, r = mixer.heads / tp, mixer.kv_rank
            qk, latent, rank = mixer.nope_dim + mixer.rope_dim, r + mixer.rope_dim, mixer.q_rank
            ops = [
                project("kv_a", h, latent, bias=mixer.bias * latent, cached=True, kernel="a"),
                self.pointwise("kv_norm", rows, r, r, 7 * r, r),
                project("o", heads * mixer.value_dim, h, bias=mixer.bias * h),
                project("q_b", rank or h, heads * qk),
            ]
            if rank:
                ops.append(project("q_a", h, rank, bias=mixer.bias * rank, kernel="a"))
                ops.append(self.pointwise("q_norm", rows, rank, rank, 7 * rank, rank))
            if (index := mixer.indexer) and not index.shared:
                ops.append(project("index_q", rank or h, index.heads * index.dim))
                ops.append(project("index_k", h, index.dim, bias=2 * index.dim, cached=True, kernel="index_k"))
                ops.append(project("index_w", h, index.heads, kernel="index_k"))
            if phase == "prefill":
                expanded = heads * (mixer.nope_dim + mixer.value_dim)
                expand = self.linear("kv_b", sequences * self.s, r, expanded, operands="projections")
                expand.live *= queries / self.s
                return [*ops, expand]
            for name, ins, outs in (("q_absorb", mixer.nope_dim, r), ("v_absorb", r, mixer.value_dim)):
                matrix = heads * ins * outs * self.b_projections  # type: ignore[attr-defined]
                live = rows * heads * (ins + outs) * self.b_act
                flops, sizes = 2 * rows * heads * ins * outs, (rows, heads * ins, heads * outs, ins)
                op = Op(name, "gemm", "projections", flops, matrix + live, live, matrix, form="gemm", sizes=sizes)
                ops.append(op)
            return ops
        if isinstance(mixer, DeltaNet):
            heads, value = mixer.value_heads / tp, mixer.value_heads * mixer.value_dim / tp
            channels = (2 * mixer.key_heads * mixer.key_dim + mixer.value_heads * mixer.value_dim) / tp
            ops = [project("qkvz", h, channels + value), project("ba", h, 2 * heads, kernel="qkvz")]
            ops += self._recurrent(rows, sequences, channels, channels, value, mixer.conv_kernel, 0, mixer.value_dim,
                                   2 * heads, 8, heads * mixer.key_dim * mixer.value_dim, phase)  # fmt: skip
            return [*ops, project("out", value, h)]
        heads, inner = mixer.heads / tp, mixer.heads * mixer.head_dim / tp
        channels = inner + 2 * max(mixer.groups / tp, 1) * mixer.state
        width = inner + channels + heads
        ops = [project("in", h, width, bias=mixer.bias * width)]
        ops += self._recurrent(rows, sequences, channels, channels + heads, inner, mixer.conv_kernel, mixer.conv_bias,
                               inner, 3 * heads, 6, inner * mixer.state, phase)  # fmt: skip
        return [*ops, project("out", inner, h, bias=mixer.bias * h)]

    def _recurrent(self, rows: float, sequences: float, channels: float, reads: float, writes: float,
                   kernel: int, conv_bias: int, norm: float, small: float, flops: float, state: float, phase: str,
                   ) -> list[Op]:  # fmt: skip
        """Short convolution, scan (state in fp32, read once, written after every token to verify), gated norm."""
        live = rows * (reads + writes) * self.b_act
        passed = 1 + (self.width if phase == "decode" else 1)
        return [
            self.pointwise("conv", rows, channels, channels, 2 * channels * kernel, channels * (kernel + conv_bias)),
            Op("scan", "state", "attention", flops * state * rows, live + passed * sequences * state * FP32, live),
            self.pointwise("gated_norm", rows, 2 * writes, writes, 12 * writes, small + norm),
        ]

    def mlp(self, ffn: MLP, rows: float, shared: str = "") -> list[Op]:
        """Dense feed-forward."""
        h, f = self.model.hidden, ffn.width / self.tp
        ups = [
            self.linear(f"{shared}{name}", rows, h, f, bias=ffn.bias * f, kernel=f"{shared}up")
            for name in (["gate", "up"] if ffn.gated else ["up"])
        ]
        act = self.pointwise(f"{shared}act", rows, (1 + ffn.gated) * f, f, (4 + ffn.gated) * f)
        return [*ups, act, self.linear(f"{shared}down", rows, f, h, bias=ffn.bias * h)]

    def moe(self, ffn: MoE, rows: float) -> list[Op]:
        """Router, dispatch, experts, combine, shared experts."""
        h, tp, dp, ep = self.model.hidden, self.tp, self.dp, self.ep
        inner = ffn.latent or h
        everyone = rows * dp
        hit = ffn.experts * (1 - (1 - ffn.top_k / ffn.experts) ** everyone) / ep
        picks = everyone * ffn.top_k
        busiest = picks / ep * min(1 + sqrt(2 * log(ep) / (picks / ep)), ep)
        width, held, ups = ffn.width / self.expert_tp, ceil(ffn.experts / ep), 1 + ffn.gated
        ops = [self.linear("router", rows, h, ffn.experts, operands="embeddings", bias=ffn.experts * ffn.router_bias)]
        if ffn.latent:
            ops.append(self.linear("latent_down", rows, h, ffn.latent / tp))
            ops.append(self.linear("latent_up", rows, ffn.latent / tp, h))
        for name, ins, outs, bias in (("up", inner, ups * width, ups * width), ("down", width, inner, inner)):
            matrix = ins * outs * self.b_weights  # type: ignore[attr-defined]
            live = busiest * (ins + outs) * self.b_act
            resident = held * (matrix + ffn.bias * bias * BF16)
            op = Op(f"experts_{name}", "moe", "weights", 2 * busiest * ins * outs, hit * matrix + live, live, resident)
            op.form, op.sizes = "moe", (2 * 64 * hit * ins * outs, live, everyone * inner)
            ops.append(op)
        act = self.pointwise("experts_act", busiest, ups * width, width, (4 + ffn.gated) * width)
        act.form = "inside"
        ops.append(act)
        targets = ep * (1 - (1 - 1 / ep) ** ffn.top_k)
        for name, byte in (("dispatch", self.b_act), ("combine", BF16)):
            size = rows * inner * byte
            sent = size * targets * self.expert_tp / tp  # every rank that shares the expert gets the token
            network = self.all_to_all(tp * dp, sent) if ep > 1 else self.all_gather(dp, size * dp, tp)
            ops.append(Op(name, "collective", "vector", network=network))
        if ffn.shared_width:
            shared = self.mlp(MLP(ffn.shared_width, ffn.gated), rows, "shared_")
            shared[0].resident += ffn.shared_gate * h * BF16
            ops += shared
        return ops

    def half(self, half: Any, norms: int, sequences: float, queries: int, phase: str) -> list[Op]:
        """A mixer (without scores) or a feed-forward with its norms, reduction and residual addition."""
        h, rows = self.model.hidden, sequences * queries
        ffn = half.ffn if hasattr(half, "ffn") else half
        if isinstance(ffn, MoE):
            ops = self.moe(ffn, rows)
        else:
            ops = self.mlp(ffn, rows) if isinstance(ffn, MLP) else self.mixer(ffn, sequences, queries, phase)
        size = rows * h * BF16
        spread = isinstance(ffn, MoE) and self.ep > 1 and not ffn.shared_width  # those leave partial sums
        network = self.all_gather(self.tp, size) if spread else self.all_reduce(self.tp, size)
        ops.append(Op("reduce", "collective", "vector", network=network))
        norm = self.model.norm_parameters
        # The first norm and the addition of the residual are one kernel.
        ops += [self.pointwise(f"norm_{i}", rows, h, h, 7 * h, norm, "" if i else "add") for i in range(norms)]
        return [*ops, self.pointwise("add", rows, 2 * h, h, h, byte=BF16)]

    def edges(self, sequences: float, queries: int, phase: str) -> tuple[list[Op], list[Op]]:
        """Before the first layer and after the last."""
        wanted = sequences if phase == "prefill" else sequences * queries  # positions whose next token is asked for
        model, tp, rows = self.model, self.tp, sequences * queries
        h, width, b = model.hidden, model.embed_dim or model.hidden, self.b_embeddings  # type: ignore[attr-defined]
        extra = model.positions * h + (2 * width * h if width != h else 0)
        out = rows * h * self.b_act
        held = (model.vocab * width / tp + extra) * b
        table = Op("embedding", "embedding", "vector", 0, rows * width * b + out, out, held)
        first = [table, Op("sum", "collective", "vector", network=self.all_reduce(tp, rows * h * BF16))]
        head = self.linear("head", wanted, width, model.vocab / tp, operands="embeddings", group="embedding")
        if model.tied and self.pp == 1:  # the last of several stages needs a copy of the embedding
            head.resident = 0
        head.resident += model.head_bias * model.vocab / tp * BF16
        gather = self.all_gather(tp, wanted * model.vocab * BF16)
        last = [head, Op("gather", "collective", "vector", network=gather)]
        if model.extra_norms:
            last.append(self.pointwise("final_norm", rows, h, h, 7 * h, model.extra_norms * model.norm_parameters))
        return first, last

    # -- phases -----------------------------------------------------------------------------------

    def blocks(self, phase: str) -> Iterator[list[list[Op]]]:
        """Per stage, the kernels' operators of each of its parts, scores left out; the edges included."""
        sequences, queries = self.in_pass[phase], self.queries[phase]
        made: dict[Any, list[list[Op]]] = {}

        def of(layer: Any) -> list[list[Op]]:
            halves = [half for half in (layer.mixer, layer.ffn) if half is not None]
            if layer not in made:
                share = [(layer.norms + len(halves) - 1 - i) // len(halves) for i in range(len(halves))]
                made[layer] = [self.half(h, n, sequences, queries, phase) for h, n in zip(halves, share, strict=True)]
            return made[layer]

        first, last = self.edges(sequences, queries, phase)
        layers = self.model.layers
        for stage in range(self.pp):
            held = layers[stage * len(layers) // self.pp : (stage + 1) * len(layers) // self.pp]
            parts = [part for layer in held for part in of(layer)]
            yield [*([first] if stage == 0 else []), *parts, *([last] if stage == self.pp - 1 else [])]

    def attended(self, phase: str, kind: Any) -> tuple[float, float]:
        """Seconds of one layer's scores (mean over the decode steps), with and without fixed costs."""
        sequences = self.in_pass[phase]
        contexts = [self.s] if phase == "prefill" else range(self.s + 1, max(self.s + self.g, self.s + 2))
        steps = [self.scores(kind, sequences, phase, n) for n in contexts]
        mean = sum(self.seconds(op) for ops in steps for op in ops) / len(steps)
        fixed = sum(map(self.launch, steps[0]))
        return mean + fixed, mean

    @cache  # noqa: B019
    def phase(self, phase: str) -> tuple[float, float]:
        """Seconds of the prompt pass or of a mean decode step, and of them those the kernels run at a roof."""
        stages, busy = [], 0.0
        bounds = [stage * len(self.model.layers) // self.pp for stage in range(self.pp + 1)]
        attended: dict[Any, tuple[float, float]] = {}
        costs: dict[int, tuple[float, float]] = {}  # a part occurs in many layers, as one list of operators
        for stage, parts in enumerate(self.blocks(phase)):
            total = 0.0
            for part in parts:
                if id(part) not in costs:
                    kernels = {op.kernel or op.name: op for op in reversed(part)}
                    fixed = sum(map(self.launch, kernels.values()))
                    roofs = sum(self.seconds(op) for op in part if op.network is None)
                    costs[id(part)] = (sum(map(self.seconds, part)) + fixed, roofs)
                total += costs[id(part)][0]
                busy += costs[id(part)][1]
            for layer in self.model.layers[bounds[stage] : bounds[stage + 1]]:
                if isinstance(layer.mixer, Attention | LatentAttention):
                    if layer.mixer not in attended:
                        attended[layer.mixer] = self.attended(phase, layer.mixer)
                    total += attended[layer.mixer][0]
                    busy += attended[layer.mixer][1]
            stages.append(total)
        m, tokens = self.micro[phase], self.in_pass[phase] * self.queries[phase]
        through = sum(stages) + (self.pp - 1) * self.hop(tokens * self.model.hidden * BF16)
        elapsed = max(m * max(stages), through) if phase == "decode" else through + (m - 1) * max(stages)
        return elapsed, min(busy * m / self.pp / elapsed, 1)

    __hash__ = object.__hash__

    # -- memory -----------------------------------------------------------------------------------

    def cache_at(self, context: int) -> float:
        """Cache and state of the fullest stage, each sequence at this context.

        Whole pages of the prefix are there once, of the rest of a prompt with branches once per request.
        """
        block = self.kv_block_size
        common = self.prefix // block * block
        shared = self.s // block * block if self.branches > 1 else common

        def pages(tokens: int) -> int:
            return ceil(tokens / block) * block

        def layer(mixer: Any) -> float:
            if isinstance(mixer, Attention | LatentAttention):
                spread = [context - shared] * self.branches
                once, each = common, [shared - common, *spread]
                return keys(mixer, once) + self.requests * sum(keys(mixer, tokens) for tokens in each)
            states = self.requests * self.branches * self.width + (self.width if self.prefix else 0)
            return states * state(mixer)

        def keys(mixer: Any, tokens: int) -> float:
            if isinstance(mixer, Attention):
                reach = min(tokens, mixer.window or mixer.chunk or tokens)
                return pages(reach) * max(mixer.kv_heads / self.tp, 1) * (mixer.head_dim + mixer.value_dim) * self.b_kv
            index = mixer.indexer.dim if mixer.indexer and not mixer.indexer.shared else 0
            return pages(tokens) * (mixer.kv_rank + mixer.rope_dim + index) * self.b_kv

        def state(mixer: Any) -> float:
            if isinstance(mixer, DeltaNet):
                channels = (2 * mixer.key_heads * mixer.key_dim + mixer.value_heads * mixer.value_dim) / self.tp
                state = mixer.value_heads / self.tp * mixer.key_dim * mixer.value_dim
                return state * FP32 + channels * mixer.conv_kernel * BF16
            if isinstance(mixer, Mamba2):
                inner = mixer.heads * mixer.head_dim / self.tp
                channels = inner + 2 * max(mixer.groups / self.tp, 1) * mixer.state
                return inner * mixer.state * FP32 + channels * mixer.conv_kernel * BF16
            return 0.0

        sizes = {kind: layer(kind) for kind in {layer.mixer for layer in self.model.layers}}
        layers, p = self.model.layers, self.pp
        stages = [layers[j * len(layers) // p : (j + 1) * len(layers) // p] for j in range(p)]
        return max(sum(sizes[layer.mixer] for layer in stage) for stage in stages)

    @cached_property
    def held(self) -> tuple[float, float]:
        """Weights of the fullest stage; live activations at their peak."""
        weights = 0.0
        for parts in self.blocks("prefill"):
            weights = max(weights, sum(op.resident for part in parts for op in part))
        prompt = self.peak("prefill", self.s) * self.fullest_pass / self.in_pass["prefill"]
        return weights, max(prompt, self.peak("decode", self.last))

    def peak(self, phase: str, context: int) -> float:
        """Most that is live at once in a pass of average size."""
        sequences = self.in_pass[phase]
        live = max(op.live for parts in self.blocks(phase) for part in parts for op in part)
        mixers = {layer.mixer for layer in self.model.layers if isinstance(layer.mixer, Attention | LatentAttention)}
        live = max([live, *(op.live for mixer in mixers for op in self.scores(mixer, sequences, phase, context))])
        return live + sequences * self.queries[phase] * self.model.hidden * BF16

    @property
    def last(self) -> int:
        """Context of the last decode step."""
        return self.s + max(self.g - 1, 1)

    @property
    def workspace(self) -> float:
        """Buffers of collectives."""
        return NCCL_BUFFERS if self.devices > 1 else 0.0

    @property
    def memory(self) -> float:
        """Bytes of the fullest device at the end of generation."""
        return sum(self.held) + self.workspace + self.cache_at(self.s + self.g + self.width - 1)

    @property
    def limit(self) -> float:
        """Bytes the engine may use."""
        return self.chip.memory_bytes * self.memory_utilization

    # -- verdict ----------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """`ok`, or the first reason why the point cannot run (no constraints)."""
        mixers = {layer.mixer for layer in self.model.layers if layer.mixer is not None}
        ffns = {layer.ffn for layer in self.model.layers if layer.ffn is not None}
        experts = [ffn for ffn in ffns if isinstance(ffn, MoE)]
        heads = [m.heads for m in mixers if not isinstance(m, DeltaNet)]
        heads += [n for m in mixers if isinstance(m, DeltaNet) for n in (m.key_heads, m.value_heads)]
        shared = [m.kv_heads for m in mixers if isinstance(m, Attention)]
        shared += [m.groups for m in mixers if isinstance(m, Mamba2)]
        widths = [f.width for f in ffns if isinstance(f, MLP)] + [f.shared_width for f in experts]
        rules = {
            "ep_not_divisor": self.tp * self.dp % self.ep,
            "not_moe": self.ep > 1 and not experts,
            "experts_not_divisible": any(ffn.experts % self.ep for ffn in experts),
            "heads_not_divisible": any(n % self.tp for n in heads),
            "kv_heads_not_divisible": any(n % self.tp and self.tp % n for n in shared),
            "width_not_divisible": any(n % self.tp for n in widths) or any(f.width % self.expert_tp for f in experts),
            "too_few_layers": self.pp > len(self.model.layers),
            "batch_below_dp": self.batch < self.dp,
            "context_exceeds_model": self.s + self.g > (self.model.max_context or 2**60),
            "no_link_between_boxes": self.devices > self.chip.domain and self.chip.scale_out is None,
            "exceeds_memory": self.memory > self.limit,
        }
        return next((reason for reason, broken in rules.items() if broken), "ok")

    def metrics(self) -> dict[str, float]:
        """Every figure by the name of its column."""
        (ttft, at_prompt), (step, at_decode) = self.phase("prefill"), self.phase("decode")
        steps, tpot = self.g - 1, step / self.tau
        latency = ttft + steps * tpot
        generated = self.batch * self.g * self.answers
        tokens_per_s = generated / latency
        quote = self.chip.price(self.price_kind)
        rent = quote.usd_per_hour * self.devices if quote and quote.usd_per_hour else nan
        draw = (0.3 + 0.7 * at_prompt) * ttft + (0.3 + 0.7 * at_decode) * steps * tpot
        return {
            "ttft_ms": ttft * 1e3,
            "tpot_ms": tpot * 1e3 if steps else nan,
            "latency_s": latency,
            "output_tokens_per_s": tokens_per_s,
            "output_tokens_per_s_per_device": tokens_per_s / self.devices,
            "requests_per_s": self.batch / latency,
            "devices": self.devices,
            "memory_gb_per_device": self.memory * 1e-9,
            "usd_per_hour": rent,
            "usd_per_million_output_tokens": rent / 3600 / tokens_per_s * 1e6,
            "joules_per_output_token": (self.chip.tdp_w or nan) * self.devices * draw / generated,
        }
