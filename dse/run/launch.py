"""How the engines are told to run a deployment: the real flags of vLLM, SGLang and TensorRT-LLM.

vLLM: docs.vllm.ai engine arguments; SGLang: docs.sglang.io/advanced_features/server_arguments.html; TensorRT-LLM:
trtllm-serve --help, and a YAML with --config. Read 2026-11-28. Without chunked prefill a pass has to hold the longest
request, or vLLM does not start (vllm/config/scheduler.py, `verify_max_model_len`) and TensorRT-LLM refuses prompts
longer than max_num_tokens (NVIDIA/TensorRT-LLM issue 9277); all of them want a token for each sequence. vLLM's prefix
cache is `--enable-prefix-caching`, SGLang's radix cache is on by itself, TensorRT-LLM's is `enable_block_reuse`.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dse.run.launch_checkpoint import KINDS, checkpoint_of, engines_on, half
from dse.run.launch_speculation import drafter_of, sglang_flags, tensorrt_config, vllm_flags
from dse.spec.hardware import HardwareSpec
from dse.spec.model import ModelSpec
from dse.spec.precision import Precision

TOLD = ("chunk_tokens", "prefix_hit", "speculation")
"""Techniques that flags turn on."""

NO_PLACEMENT = (
    "No engine of these runs this placement: vllm, sglang and tensorrt-llm keep cache and activations on the "
    "accelerator. It is FlexGen's schedule (2303.06865), blocks of requests whose weights, cache and activations are "
    "spread over accelerator, host and disk; 'dse place' shows the shares."
)


@dataclass
class Launch:
    """Commands that start a worker."""

    commands: dict[str, str] = field(default_factory=dict)
    """By engine."""
    config: dict[str, Any] = field(default_factory=dict)
    """Of TensorRT-LLM, what stands in its YAML."""
    notes: list[str] = field(default_factory=list)
    """What has to be known before the commands are run."""

    def whole(self) -> dict[str, str]:
        """The commands, with the file that TensorRT-LLM's names."""
        found = dict(self.commands)
        if self.config and "tensorrt-llm" in found:
            written = f"echo {shlex.quote(json.dumps(self.config))} > config.yaml"  # JSON is YAML
            found["tensorrt-llm"] = f"{written}\n{found['tensorrt-llm']} --config config.yaml"
        return found


def launch(
    row: Mapping[str, Any],
    chip: HardwareSpec,
    model: ModelSpec,
    scheme: Precision,
    longest: int,
    batch: int,
    settings: Mapping[str, Any],
    techniques: Mapping[str, Any],
) -> Launch:
    """The commands of every engine that runs a deployment.

    Args:
        row: a complete row of the deployment: `tp, pp, dp, ep`.
        chip: its accelerators.
        model: what it serves.
        scheme: its precision.
        longest: tokens of the longest request, prompt and output.
        batch: sequences in flight of a replica.
        settings: `max_prefill_tokens` (of an iteration, where `chunked`), `memory_utilization`.
        techniques: those that are not at their neutral value.
    """
    worker = _Worker(row, chip, model, scheme, longest, batch, settings, techniques)
    found = Launch()
    kinds: dict[str, list[str]] = {}
    for engine in engines_on(chip, scheme):
        loaded = checkpoint_of(engine, chip, model, scheme)
        words = worker.words(engine, loaded.name, quantises=loaded.quantises)
        if words is None:
            found.notes.append(f"{engine} does not speculate with {techniques['speculation'].kind} heads.")
            continue
        found.commands[engine] = shlex.join(map(str, words))
        if loaded.note:
            kinds.setdefault(loaded.note, []).append(f"for {engine} {KINDS[engine]}")
        if engine == "tensorrt-llm":
            found.config = worker.config()
    found.notes += [f"{note}: {', '.join(each)}." for note, each in kinds.items()]
    found.notes += worker.notes(found.commands)
    if not found.commands:
        found.notes.append(f"No engine of these runs {scheme.name} on {chip.name}.")
    return found


@dataclass(frozen=True)
class _Worker:
    row: Mapping[str, Any]
    chip: HardwareSpec
    model: ModelSpec
    scheme: Precision
    longest: int
    batch: int
    settings: Mapping[str, Any]
    techniques: Mapping[str, Any]

    def words(self, engine: str, checkpoint: str, *, quantises: bool) -> list[object] | None:
        """The command; None where the engine cannot do what is asked."""
        if engine == "vllm":
            return self._vllm(checkpoint, quantises=quantises)
        if engine == "sglang":
            return self._sglang(checkpoint, quantises=quantises)
        return self._tensorrt_llm(checkpoint)

    def notes(self, engines: Mapping[str, str]) -> list[str]:
        """What holds for all engines."""
        found = []
        if engines and (speculation := self.techniques.get("speculation")) is not None:
            _, note = drafter_of(self.model, speculation)
            found += [f"{note}."] if note else []
        untold = [name for name in self.techniques if name not in TOLD]
        if untold:
            found.append(f"These commands do not set {', '.join(untold)}, which the deployment was planned with.")
        return found

    @property
    def _degrees(self) -> tuple[int, int, int, int]:
        tp, pp, dp, ep = (int(self.row[name]) for name in ("tp", "pp", "dp", "ep"))
        return tp, pp, dp, ep

    @property
    def _each(self) -> int:
        """Sequences of an attention-dp rank."""
        return math.ceil(self.batch / self._degrees[2])

    @property
    def _tokens(self) -> int:
        """Tokens of an iteration."""
        whole = 0 if self.settings["chunked"] else self.longest
        return max(int(self.settings["max_prefill_tokens"]), whole, self._each)

    @property
    def _share(self) -> str:
        return f"{self.settings['memory_utilization']:g}"

    @property
    def _fp8_cache(self) -> bool:
        return self.scheme.kv_cache.dtype == "fp8"

    def _vllm(self, checkpoint: str, *, quantises: bool) -> list[object]:
        tp, pp, dp, ep = self._degrees
        words: list[object] = ["vllm", "serve", checkpoint, "--tensor-parallel-size", tp]
        words += ["--pipeline-parallel-size", pp] if pp > 1 else []
        words += ["--data-parallel-size", dp] if dp > 1 else []
        words += ["--enable-expert-parallel"] if ep > 1 else []
        words += ["--dtype", "half"] if half(self.chip, self.scheme) else []
        words += ["--quantization", "fp8"] if quantises else []
        words += ["--kv-cache-dtype", "fp8"] if self._fp8_cache else []
        words += ["--enable-chunked-prefill" if self.settings["chunked"] else "--no-enable-chunked-prefill"]
        words += ["--enable-prefix-caching"] if "prefix_hit" in self.techniques else []
        words += ["--max-num-seqs", self._each, "--max-num-batched-tokens", self._tokens]
        words += ["--max-model-len", self.longest, "--gpu-memory-utilization", self._share]
        if (speculation := self.techniques.get("speculation")) is not None:
            words += vllm_flags(self.model, speculation)
        return words

    def _sglang(self, checkpoint: str, *, quantises: bool) -> list[object] | None:
        tp, pp, dp, ep = self._degrees
        words: list[object] = ["python", "-m", "sglang.launch_server", "--model-path", checkpoint]
        words += ["--tp-size", tp * dp]
        words += ["--pp-size", pp] if pp > 1 else []
        words += ["--dp-size", dp, "--enable-dp-attention"] if dp > 1 else []
        words += ["--ep-size", ep] if ep > 1 else []
        words += ["--dtype", "half"] if half(self.chip, self.scheme) else []
        words += ["--quantization", "fp8"] if quantises else []
        words += ["--kv-cache-dtype", "fp8_e4m3"] if self._fp8_cache else []
        prefill = int(self.settings["max_prefill_tokens"])
        words += ["--chunked-prefill-size", prefill if self.settings["chunked"] else -1]
        words += ["--max-running-requests", self.batch, "--max-prefill-tokens", self._tokens]
        words += ["--context-length", self.longest, "--mem-fraction-static", self._share]
        if (speculation := self.techniques.get("speculation")) is not None:
            flags = sglang_flags(self.model, speculation)
            if flags is None:
                return None
            words += flags
        return words

    def _tensorrt_llm(self, checkpoint: str) -> list[object] | None:
        tp, pp, dp, ep = self._degrees
        speculation = self.techniques.get("speculation")
        if speculation is not None and tensorrt_config(self.model, speculation) is None:
            return None
        words: list[object] = ["trtllm-serve", checkpoint, "--tp_size", tp * dp, "--pp_size", pp]
        words += ["--ep_size", ep] if ep > 1 else []
        words += ["--enable_chunked_prefill"] if self.settings["chunked"] else []
        words += ["--max_batch_size", self._each, "--max_num_tokens", self._tokens, "--max_seq_len", self.longest]
        return [*words, "--kv_cache_free_gpu_memory_fraction", self._share]

    def config(self) -> dict[str, Any]:
        """What TensorRT-LLM has no flag for."""
        found: dict[str, Any] = {}
        if self._degrees[2] > 1:
            found["enable_attention_dp"] = True
        cache: dict[str, Any] = {"dtype": "fp8"} if self._fp8_cache else {}
        cache |= {"enable_block_reuse": True} if "prefix_hit" in self.techniques else {}
        found |= {"kv_cache_config": cache} if cache else {}
        if (speculation := self.techniques.get("speculation")) is not None:
            found |= tensorrt_config(self.model, speculation) or {}
        return found
