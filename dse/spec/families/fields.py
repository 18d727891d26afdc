"""The fields of one config.json, read by name; what is missing, impossible or left over is a fault."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, Final, TypeVar

from dse.errors import InputError
from dse.spec.reading import Document, show, suggest

T = TypeVar("T")
_NEEDED: Final[Any] = object()
_REMOVE = "remove it if it changes neither weights nor cache"
MAX_LAYERS = 10_000
MAX_COUNT = 2**40

ACTIVATIONS = (
    "silu", "swish", "gelu", "gelu_new", "gelu_fast", "gelu_python", "gelu_pytorch_tanh", "gelu_accurate",
    "quick_gelu", "relu", "relu2", "relu_squared",
)  # fmt: skip
"""Activations of one argument: whether there is a gate matrix beside them follows from the family."""

_STRUCTURE = re.compile(
    r"head|rank|expert|moe|layer|block|window|chunk|kv|shar(e|ing)|hidden_size|intermediate|ffn|d_ff|bias|norm_type"
    r"|qk_|qk$|(^|_)(cla|mla|gqa|mqa|yoco)(_|$)|loop|recur|reuse"
    r"|attn|attention|pattern|latent|state|conv|mamba|ssm|ssd|linear|index|group|compress|altup|laurel|hc_|mlp"
    r"|retention|memory|engram|ngram|sparse|lru|cross|value_dim|key_dim|lora|parallel|interval"
)
"""Words in the names of fields that may change which matrices or caches there are."""

_HARMLESS = re.compile(
    r"drop|eps$|epsilon|init|^mtp|nextn|_mtp|token_id|token_index|aux_loss|jitter|z_loss|scale|scaling|softcap"
    r"|multiplier|temperature|dtype|rope|rotary|dtype|capacity|norm_topk|output_|return_dict|is_decoder"
    r"|^(add_cross_attention|cross_attention_hidden_size|chunk_size(_feed_forward)?|pruned_heads|num_beam_groups"
    r"|diversity_penalty|no_repeat_ngram_size|encoder_no_repeat_ngram_size|residual_in_fp32|time_step_\w+|n_group"
    r"|topk_group|pretraining_tp|query_pre_attn_scalar|mamba_ssm_cache_dtype|mamba_hidden_act|use_mamba_kernels"
    r"|apply_residual_connection_post_layernorm|use_cache|gradient_checkpointing|layernorm_compute_type"
    r"|moe_shared_expert_overlap|indexer_rope_interleave|attn_temperature_tuning|floor_scale|for_llm_compressor"
    r"|rescale_prenorm_residual|num_logits_to_keep|moe_layer_group|chunk_length|attn_implementation|clip_qkv|pre_allocate_kv_cache"
    r"|_attn_implementation\w*|use_flash_attn|use_parallel_residual|index_share_for_mtp\w*"
    r"|masked_softmax_fusion|attention_softmax_in_fp32|slow_but_exact|n_embed|skip_bias_add\w*"
    r"|use_dynamic_ntk|use_logn_attn|softmax_in_fp32|fused_\w+|reorder_and_upcast_attn|ep_size|logit_\w+"
    r"|problem_type|label2id|id2label|scoring_func|topk_method|alibi|norm_type|tie_encoder_decoder"
    r"|max_window_layers|output_gate_type|mamba_chunk_size|attention_head_type|routed_scaling_factor)$"
)
"""Fields whose names look structural but that change neither weights nor caches."""


class Fields:
    """One config.json (or the text part of a multimodal one) as its family reads it.

    Every reader returns a usable value even where it records a fault, so that all faults show at
    once; `done` raises them. A field that looks structural, is set, and that the family did not
    read is a fault too: no structure is passed over in silence.
    """

    def __init__(self, document: Document, path: tuple[str, ...], name: str, family: str) -> None:
        self.document = document
        self.path = path
        self.name = name
        self.family = family
        self.config: dict[str, Any] = document.value
        for step in path:
            self.config = self.config[step]
        self.faults: list[Any] = []
        self._read: set[str] = set()

    def fault(self, field: str, message: str) -> None:
        """Record what is wrong with a field."""
        self.faults.append(self.document.fault((*self.path, field), message))

    def raw(self, field: str) -> Any:
        """The value as it stands; None where absent or null."""
        self._read.add(field)
        return self.config.get(field)

    def null(self, field: str) -> bool:
        """Whether the file says null, which is not the same as saying nothing."""
        return field in self.config and self.config[field] is None

    def ignore(self, *fields: str) -> None:
        """Fields this family's modelling code does not use though others do."""
        self._read.update(fields)

    def _first(self, fields: Sequence[str]) -> tuple[str, Any]:
        values = [(field, self.raw(field)) for field in fields]
        return next(((field, value) for field, value in values if value is not None), (fields[0], None))

    def count(self, *fields: str, default: Any = _NEEDED, least: int = 1) -> Any:
        """A whole number of at least `least`, under the first of its names that is there.

        Args:
            fields: the names the field goes by.
            default: value when absent or null (None is legal); without one the field is needed.
            least: the smallest that makes sense.
        """
        field, value = self._first(fields)
        if value is None:
            return default if default is not _NEEDED else self._missing(fields)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= MAX_COUNT:
            self.fault(field, f"expected a whole number of at least {least}, got {show(value)}")
            return max(least, 1)
        return value

    def _missing(self, fields: Sequence[str]) -> int:
        near = suggest(fields[0], set(self.config) - self._read)
        other = f" (or {', '.join(fields[1:])})" if len(fields) > 1 else ""
        self.fault(fields[0], f"missing{other}; a {self.family!r} model needs it{near}")
        return 1

    def flag(self, field: str, default: bool = False) -> bool:
        """True or false."""
        value = self.raw(field)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.fault(field, f"expected true or false, got {show(value)}")
            return default
        return value

    def word(self, field: str, options: Sequence[str], default: str) -> str:
        """One word out of `options`."""
        value = self.raw(field)
        if value is None:
            return default
        return value if self._known(field, value, options) else default

    def _known(self, field: str, value: Any, options: Sequence[str]) -> bool:
        if isinstance(value, str) and value in options:
            return True
        hint = suggest(value, options) if isinstance(value, str) else ""
        self.fault(
            field,
            f"{show(value)} is not understood for a {self.family!r} model; expected one of {', '.join(options)}{hint}",
        )
        return False

    def per_layer(self, field: str, layers: int, parse: Callable[[Any], T | None], what: str) -> list[T] | None:
        """A list with one entry per layer, each through `parse` (None: not understood); None if absent."""
        value = self.raw(field)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != layers:
            size = f"{len(value)} entries" if isinstance(value, list) else show(value)
            if not self.faults:
                self.fault(field, f"expected one entry for each of the {layers} layers, got {size}")
            return None
        parsed = [parse(item) for item in value]
        wrong = [index for index, item in enumerate(parsed) if item is None]
        if wrong:
            self.fault(
                field,
                f"entry {wrong[0]} is {show(value[wrong[0]])}, not understood for a {self.family!r} model; "
                f"expected {what}",
            )
            return None
        return [item for item in parsed if item is not None]

    def layer_words(self, field: str, layers: int, meaning: dict[str, T]) -> list[T] | None:
        """A list with one known word per layer, as what the word means."""
        return self.per_layer(
            field, layers,
            lambda item: meaning.get(item) if isinstance(item, str) else None,
            " or ".join(meaning),
        )  # fmt: skip

    def switches(self, field: str, layers: int) -> list[bool] | None:
        """A list of a 0 or 1 per layer; None if absent."""
        return self.per_layer(
            field, layers, lambda item: bool(item) if type(item) is int and item in (0, 1) else None, "0 or 1"
        )

    def indices(self, field: str, layers: int) -> list[int] | None:
        """A list of layer numbers; None if absent."""
        value = self.raw(field)
        if value is None:
            return None
        items = value if isinstance(value, list) else [value]
        wrong = [item for item in items if type(item) is not int or not 0 <= item < layers]
        if wrong or items is not value:
            if not self.faults:
                got = show(wrong[0] if wrong else value)
                self.fault(field, f"expected a list of layer numbers from 0 to {layers - 1}, got {got}")
            return None
        return list(items)

    def layers(self, *fields: str) -> int:
        """The number of layers, kept to what a machine can list."""
        names = fields or ("num_hidden_layers",)
        count: int = self.count(*names)
        if count > MAX_LAYERS:
            self.fault(self._first(names)[0], f"expected at most {MAX_LAYERS} layers, got {count}")
            return 1
        return count

    def expect(self, field: str, allowed: Sequence[Any], why: str) -> None:
        """A field this family may carry but only with a value that changes nothing."""
        value = self.raw(field)
        if value is not None and value not in allowed:
            self.fault(field, f"{show(value)} is not understood for a {self.family!r} model: {why}")

    def activation(self, *fields: str) -> None:
        """Check the activation: elementwise ones only, gating follows from the family."""
        for field in fields or ("hidden_act", "hidden_activation", "activation_function"):
            value = self.raw(field)
            if value is not None:
                self._known(field, value, ACTIVATIONS)

    def done(self) -> None:
        """Raise what was wrong, and every structural field that is set but was not read."""
        for field, value in self.config.items():
            left = field not in self._read and value not in (None, False, 0, "", [], {})
            if left and _STRUCTURE.search(field) and not _HARMLESS.search(field):
                near = get_close_matches(field, self._read - set(self.config), 1, cutoff=0.85)
                right = f"did you mean {near[0]!r}?" if near else _REMOVE
                what = f"{show(value)} is set, but a {self.family!r} model has no such part"
                self.fault(field, f"{what}; {right}")
        if self.faults:
            raise InputError(self.faults)
