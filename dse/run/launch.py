"""How the engines are told to run a deployment: the real flags of vLLM, SGLang and TensorRT-LLM.

vLLM: docs.vllm.ai engine arguments; SGLang: docs.sglang.io server arguments; TensorRT-LLM: trtllm-serve --help.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from functools import cache
from typing import Any

from dse.spec.precision import Precision
from dse.spec.reading import library_file, read

_FP8 = "fp8"


def published_as(model: str) -> str:
    """The Hugging Face id of a model of the library; its own name where none is known."""
    known = _aliases().get(model, [])
    return next((alias for alias in known if "/" in alias), model)


@cache
def _aliases() -> dict[str, list[str]]:
    found: dict[str, list[str]] = read(library_file("configs/models/aliases.yaml")).value
    return found


def launch_commands(
    row: Mapping[str, Any], scheme: Precision, model_id: str, longest: int, batch: int, settings: Mapping[str, Any]
) -> dict[str, str]:
    """A command line per engine.

    Args:
        row: a complete row of the deployment: `tp, pp, dp, ep`.
        scheme: its precision.
        model_id: what the engine is to load.
        longest: tokens of the longest request, prompt and output.
        batch: sequences in flight of a replica.
        settings: `max_prefill_tokens` (of an iteration, where `chunked`), `memory_utilization`.
    """
    tp, pp, dp, ep = (int(row[name]) for name in ("tp", "pp", "dp", "ep"))
    per_rank = math.ceil(batch / dp)
    prefill, share = int(settings["max_prefill_tokens"]), f"{settings['memory_utilization']:g}"
    fp8_weights = scheme.weights.dtype.startswith(_FP8) and scheme.activations.dtype.startswith(_FP8)
    fp8_cache = scheme.kv_cache.dtype.startswith(_FP8)
    vllm: list[object] = ["vllm", "serve", model_id, "--tensor-parallel-size", tp]
    sglang: list[object] = ["python", "-m", "sglang.launch_server", "--model-path", model_id, "--tp-size", tp * dp]
    trtllm: list[object] = ["trtllm-serve", model_id, "--tp_size", tp * dp, "--pp_size", pp]
    if pp > 1:
        vllm += ["--pipeline-parallel-size", pp]
        sglang += ["--pp-size", pp]
    if dp > 1:
        vllm += ["--data-parallel-size", dp]
        sglang += ["--dp-size", dp, "--enable-dp-attention"]
    if ep > 1:
        vllm += ["--enable-expert-parallel"]
        sglang += ["--ep-size", ep]
        trtllm += ["--ep_size", ep]
    if fp8_weights:
        vllm += ["--quantization", _FP8]
        sglang += ["--quantization", _FP8]
    if fp8_cache:
        vllm += ["--kv-cache-dtype", _FP8]
        sglang += ["--kv-cache-dtype", "fp8_e4m3"]
    vllm += ["--enable-chunked-prefill" if settings["chunked"] else "--no-enable-chunked-prefill"]
    sglang += ["--chunked-prefill-size", prefill if settings["chunked"] else -1]
    if settings["chunked"]:
        trtllm += ["--enable_chunked_prefill"]
    vllm += ["--max-num-seqs", per_rank, "--max-num-batched-tokens", prefill, "--max-model-len", longest]
    vllm += ["--gpu-memory-utilization", share]
    sglang += ["--max-running-requests", batch, "--max-prefill-tokens", prefill, "--context-length", longest]
    sglang += ["--mem-fraction-static", share]
    trtllm += ["--max_batch_size", per_rank, "--max_num_tokens", prefill, "--max_seq_len", longest]
    trtllm += ["--kv_cache_free_gpu_memory_fraction", share]
    found = {"vllm": vllm, "sglang": sglang, "tensorrt-llm": trtllm}
    return {engine: shlex.join(map(str, words)) for engine, words in found.items()}
