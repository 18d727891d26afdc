"""How the engines are told to speculate.

vLLM: docs.vllm.ai/en/latest/features/speculative_decoding (`--speculative-config`, JSON). SGLang:
docs.sglang.io/docs/advanced_features/speculative_decoding (no attention-dp with STANDALONE and NGRAM). TensorRT-LLM:
docs/source/features/speculative-decoding.md @04c8822 (`speculative_config` of the YAML that `--config` names; draft
models and n-grams without the overlap scheduler). Read 2026-11-28.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dse.run.launch_checkpoint import published_as
from dse.spec.model import ModelSpec
from dse.spec.speculation import Speculation

LOOKUP = 4
"""Tokens of a prompt that are matched: the most vLLM's and TensorRT-LLM's examples look back."""


def _head(model: ModelSpec, kind: str) -> str:
    return f"{published_as(model.name).rsplit('/', 1)[-1]}-{kind}"


def drafter_of(model: ModelSpec, speculation: Speculation) -> tuple[str, str]:
    """The checkpoint of what drafts, empty where there is none; and a line of what it is, where it has no name."""
    if speculation.draft is not None:
        return published_as(speculation.draft.name), ""
    if speculation.kind in ("eagle", "medusa"):
        name = _head(model, speculation.kind)
        return name, f"{name} stands for {speculation.kind} heads trained for {published_as(model.name)}"
    return "", ""


def vllm_flags(model: ModelSpec, speculation: Speculation) -> list[object]:
    """Of vLLM."""
    name, _ = drafter_of(model, speculation)
    chained = speculation.passes or speculation.width - 1
    methods = {"draft": "draft_model", "mtp": "mtp", "eagle": "eagle", "medusa": "medusa", "lookup": "ngram"}
    words: dict[str, Any] = {"method": methods[speculation.kind], "num_speculative_tokens": chained}
    if name:
        words["model"] = name
    if speculation.kind == "lookup":
        words["prompt_lookup_max"] = LOOKUP
    return ["--speculative-config", json.dumps(words, separators=(",", ":"))]


def sglang_flags(model: ModelSpec, speculation: Speculation) -> list[object] | None:
    """Of SGLang; None where it cannot speculate so."""
    algorithm = {"draft": "STANDALONE", "mtp": "EAGLE", "eagle": "EAGLE", "lookup": "NGRAM"}.get(speculation.kind)
    if algorithm is None:
        return None
    flags: list[object] = ["--speculative-algorithm", algorithm]
    name, _ = drafter_of(model, speculation)
    if name:
        flags += ["--speculative-draft-model-path", name]
    if speculation.passes:
        branches = 1 if speculation.width == speculation.passes + 1 else -(-speculation.width // speculation.passes)
        flags += ["--speculative-num-steps", speculation.passes, "--speculative-eagle-topk", branches]
    return [*flags, "--speculative-num-draft-tokens", speculation.width]


def tensorrt_config(model: ModelSpec, speculation: Speculation) -> Mapping[str, Any] | None:
    """Keys of TensorRT-LLM's YAML; None where it cannot speculate so."""
    kinds = {"draft": "DraftTarget", "mtp": "MTP", "eagle": "Eagle3", "lookup": "NGram"}
    if speculation.kind not in kinds:
        return None
    chained = speculation.passes or speculation.width - 1
    words: dict[str, Any] = {"decoding_type": kinds[speculation.kind], "max_draft_len": chained}
    name, _ = drafter_of(model, speculation)
    if name:
        words["speculative_model"] = name
    if speculation.kind == "mtp":
        words["num_nextn_predict_layers"] = chained
    if speculation.kind == "lookup":
        words["max_matching_ngram_size"] = LOOKUP
    alone = {"disable_overlap_scheduler": True} if speculation.kind in ("draft", "lookup") else {}
    return {"speculative_config": words, **alone}
