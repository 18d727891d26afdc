"""Hugging Face config.json -> `ModelSpec`. The families are in `dse.spec.families`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from dse.errors import InputError
from dse.spec.families import FAMILIES, Fields
from dse.spec.model import ModelSpec
from dse.spec.quantization import default_precision
from dse.spec.reading import Document, read, show, suggest

__all__ = ["default_precision", "parse_config", "read_model", "supported_families"]

WRAPPERS: Mapping[str, str | None] = {
    "llama4": "llama4_text", "gemma3": "gemma3_text", "qwen3_vl": "qwen3_vl_text",
    "qwen3_vl_moe": "qwen3_vl_moe_text", "qwen3_5": "qwen3_5_text", "qwen3_5_moe": "qwen3_5_moe_text",
    "kimi_k25": "deepseek_v3", "mistral3": None, "llava": None, "llava_next": None, "llava_onevision": None,
    "qwen2_vl": "qwen2", "qwen2_5_vl": "qwen2", "internvl": None,
}  # fmt: skip
"""Multimodal model types whose `text_config` holds the language model -> what it is unless it says."""

NEXTN = ("num_nextn_predict_layers", "mtp_num_hidden_layers")
"""How many next-token modules lie beside the model's weights: DeepSeek, GLM, Kimi, MiMo and Nemotron; Qwen3.5.

MiniMax-M2's `num_mtp_modules` is not among them: its config names three, and its checkpoint holds none
(tests/spec/test_model_library.py counts it to the last weight).
"""

REFUSED: Mapping[str, str] = {
    "gemma4": "per-layer head dimensions, shared K and V, KV sharing between layers",
    "gemma4_text": "per-layer head dimensions, shared K and V, KV sharing between layers",
    "gemma3n": "per-layer embeddings and KV sharing between layers",
    "gemma3n_text": "per-layer embeddings and KV sharing between layers",
    "kimi_linear": "KDA with MLA and latent experts",
    "kimi_k3": "KDA with MLA and latent experts",
    "step3p7": "its attention differs from layer to layer",
    "minimax_m3": "its attention is not known here",
    "nemotron-nas": "blocks found by search, each of its own shape",
    "deepseek_v4": "compressed attention with hyper-connections",
}
"""Known families that are not implemented, and what is missing."""


def supported_families() -> list[str]:
    """Every `model_type` that can be read, multimodal ones included."""
    return sorted({*FAMILIES, *WRAPPERS})


def read_model(path: str | Path, name: str | None = None) -> ModelSpec:
    """The model in a config.json.

    Args:
        path: the file.
        name: what to call the model; the file's name, or its folder's for a `config.json`.

    Raises:
        InputError: all faults of the file.
    """
    document = read(path)
    own = Path(path)
    stem = own.resolve().parent.name if own.name == "config.json" else own.stem
    return parse_config(document, name or stem)


def parse_config(config: Mapping[str, Any] | Document, name: str, file: str = "") -> ModelSpec:
    """The structure, and the precision, that a config.json states.

    Args:
        config: the content of the file, or the document read from it.
        name: what to call the model.
        file: the file's path, for messages.

    Raises:
        InputError: unknown `model_type`, missing fields, impossible values, structure not understood.
    """
    document = config if isinstance(config, Document) else Document(file, dict(config))
    if not isinstance(document.value, dict):
        got = show(document.value)
        raise InputError(document.fault((), f"expected the mapping of a config.json, got {got}"))
    path, family = _language_model(document)
    fields = Fields(document, path, name, family)
    if path and "tie_word_embeddings" in document.value:  # the multimodal model ties, not its text part
        fields.config = {**fields.config, "tie_word_embeddings": document.value["tie_word_embeddings"]}
    spec = FAMILIES[family](fields)
    nextn = fields.count(*NEXTN, default=spec.nextn, least=0)
    fields.done()
    from dse.spec.catalog import load_precision

    stated = default_precision(document)
    precision = None if stated is None else load_precision(stated)
    return replace(spec, family=document.value["model_type"], nextn=nextn, precision=precision)


def _language_model(document: Document) -> tuple[tuple[str, ...], str]:
    """Where the language model stands in the file, and its family."""
    outer, inner = document.value.get("model_type"), document.value.get("text_config")
    if not isinstance(outer, str) or outer not in WRAPPERS:
        return (), _checked(document, ("model_type",), outer)
    plain = WRAPPERS[outer]
    if inner is None and plain is not None:
        return (), plain
    if not isinstance(inner, dict):
        got = "missing" if inner is None else f"expected a mapping, got {show(inner)}"
        raise InputError(document.fault(("text_config",), f"{got}; it holds the language model of {outer!r}"))
    own = inner.get("model_type") or plain
    return ("text_config",), _checked(document, ("text_config", "model_type"), own)


def _checked(document: Document, path: tuple[str, ...], family: Any) -> str:
    if isinstance(family, str) and family in FAMILIES:
        return family
    if family is None:
        message = f"missing; {_list()}"
    elif family in REFUSED if isinstance(family, str) else False:
        message = f"the family {family!r} is not implemented ({REFUSED[family]}); {_list()}"
    else:
        hint = suggest(family, supported_families()) if isinstance(family, str) else ""
        message = f"unknown model family {show(family)}{hint}; {_list()}"
    raise InputError(document.fault(path, message))


def _list() -> str:
    return f"supported families: {', '.join(supported_families())}"
