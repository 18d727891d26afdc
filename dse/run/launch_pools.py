"""How the engines are told to run two pools: a command per kind of worker, and what stands in front of them.

vLLM: docs.vllm.ai/en/stable/features/nixl_connector_usage (connector, roles, the proxy of its tests). SGLang:
docs.sglang.io/advanced_features/pd_disaggregation.html (NIXL, router). TensorRT-LLM:
nvidia.github.io/TensorRT-LLM/features/disagg-serving.html (context servers go without the overlap scheduler; buffers
hold the longest prompt; the orchestrator and its YAML). Read 2026-11-28.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dse.run.launch import Launch


@dataclass(frozen=True)
class Pool:
    """Workers of one kind."""

    name: str
    """`prefill` or `decode`."""
    workers: int
    alone: Launch
    """How one is started as a replica of its own."""

    @property
    def hosts(self) -> list[str]:
        """Names to be replaced by those of the machines."""
        return [f"{self.name}-{number + 1}" for number in range(self.workers)]

    def command(self, engine: str, more: str) -> str:
        """What to run on each of its hosts."""
        return f"{self.alone.commands[engine]} {more}  # on {', '.join(self.hosts)}"

    def urls(self, port: int) -> list[str]:
        """Where its workers listen."""
        return [f"{host}:{port}" for host in self.hosts]


def pool_commands(workers: Sequence[tuple[Mapping[str, Any], Launch]], longest_prompt: int) -> dict[str, str]:
    """Commands per engine that runs both of two pools, a line each.

    Args:
        workers: of the prefill and of the decode pool `pool` and `workers`, and how one worker alone is started.
        longest_prompt: tokens.
    """
    prefill, decode = (Pool(facts["pool"], facts["workers"], alone) for facts, alone in workers)
    written: dict[str, Callable[[], list[str]]] = {
        "vllm": lambda: _vllm(prefill, decode),
        "sglang": lambda: _sglang(prefill, decode),
        "tensorrt-llm": lambda: _tensorrt_llm(prefill, decode, longest_prompt),
    }
    both = prefill.alone.commands.keys() & decode.alone.commands.keys()
    return {engine: "\n".join(lines()) for engine, lines in written.items() if engine in both}


def _vllm(prefill: Pool, decode: Pool) -> list[str]:
    def role(name: str) -> str:
        transfer = json.dumps({"kv_connector": "NixlConnector", "kv_role": name}, separators=(",", ":"))
        return f"--port 8000 --kv-transfer-config {shlex.quote(transfer)}"

    def listed(kind: str, pool: Pool) -> str:
        ports = " ".join(["8000"] * pool.workers)
        return f"--{kind}-hosts {' '.join(pool.hosts)} --{kind}-ports {ports}"

    proxy = "python tests/v1/kv_connector/nixl_integration/toy_proxy_server.py --port 8192"
    return [
        prefill.command("vllm", role("kv_producer")),
        decode.command("vllm", role("kv_consumer")),
        f"{proxy} {listed('prefiller', prefill)} {listed('decoder', decode)}",
    ]


def _sglang(prefill: Pool, decode: Pool) -> list[str]:
    def mode(pool: Pool) -> str:
        return f"--port 30000 --disaggregation-mode {pool.name} --disaggregation-transfer-backend nixl"

    urls = " ".join(f"--{pool.name} http://{url}" for pool in (prefill, decode) for url in pool.urls(30000))
    router = f"python -m sglang_router.launch_router --pd-disaggregation {urls} --host 0.0.0.0 --port 8000"
    return [prefill.command("sglang", mode(prefill)), decode.command("sglang", mode(decode)), router]


def _tensorrt_llm(prefill: Pool, decode: Pool, longest_prompt: int) -> list[str]:
    caches = f"cache_transceiver_config: {{backend: NIXL, max_tokens_in_buffer: {longest_prompt}}}"

    def own(pool: Pool) -> str:
        return "".join(f", {key}: {json.dumps(value)}" for key, value in pool.alone.config.items())

    def written(config: str, file: str) -> str:
        return f"echo {shlex.quote(f'{{{config}}}')} > {file}"

    def servers(kind: str, pool: Pool) -> str:
        return f"{kind}_servers: {{num_instances: {pool.workers}, urls: [{', '.join(pool.urls(8001))}]}}"

    listed = f"{servers('context', prefill)}, {servers('generation', decode)}"
    return [
        written(f"disable_overlap_scheduler: true, {caches}{own(prefill)}", "context.yaml"),
        written(f"{caches}{own(decode)}", "generation.yaml"),
        prefill.command("tensorrt-llm", "--host 0.0.0.0 --port 8001 --config context.yaml"),
        decode.command("tensorrt-llm", "--host 0.0.0.0 --port 8001 --config generation.yaml"),
        written(f"hostname: 0.0.0.0, port: 8000, backend: pytorch, {listed}", "disagg_config.yaml"),
        "trtllm-serve disaggregated -c disagg_config.yaml",
    ]
