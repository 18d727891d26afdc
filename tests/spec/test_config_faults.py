"""What a config.json can have wrong, and the sentence that says so."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from dse.errors import InputError
from dse.spec.huggingface import parse_config, read_model, supported_families
from dse.spec.model import ModelSpec

COUNTED = json.loads((Path(__file__).parent / "transformers_counts.json").read_text())
TINY = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 8,
        "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 1000}  # fmt: skip


def parse(**changes: Any) -> ModelSpec:
    return parse_config({**TINY, **changes}, "tiny")


EXPERTS = {"moe_intermediate_size": 32, "num_experts_per_tok": 2}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
          "n_routed_experts": 8, "n_shared_experts": 1, **EXPERTS}  # fmt: skip

GALLERY: list[tuple[dict[str, Any], str]] = [
    ({"hidden_size": None}, "hidden_size: missing (or n_embd, n_embed, d_model); a 'llama' model needs it"),
    ({"vocab_size": None}, "vocab_size: missing; a 'llama' model needs it"),
    ({"num_hidden_layers": None, "num_hiden_layers": 4},
     "num_hidden_layers: missing; a 'llama' model needs it; did you mean 'num_hiden_layers'?"),
    ({"num_attention_heads": 0}, "num_attention_heads: expected a whole number of at least 1, got 0"),
    ({"intermediate_size": -5}, "intermediate_size: expected a whole number of at least 1, got -5"),
    ({"num_hidden_layers": 2.5}, "num_hidden_layers: expected a whole number of at least 1, got 2.5"),
    ({"vocab_size": "32000"}, "vocab_size: expected a whole number of at least 1, got '32000'"),
    ({"num_key_value_heads": True}, "num_key_value_heads: expected a whole number of at least 1, got true"),
    ({"num_hidden_layers": 10**9}, "num_hidden_layers: expected at most 10000 layers, got 1000000000"),
    ({"num_attention_heads": 7, "num_key_value_heads": 7},
     "hidden_size: 64 is not divisible by 7 heads; give head_dim"),
    ({"num_key_value_heads": 3}, "num_key_value_heads: 3 KV heads do not divide the 8 query heads"),
    ({"tie_word_embeddings": "yes"}, "tie_word_embeddings: expected true or false, got 'yes'"),
    ({"hidden_act": "swiglu_oai"},
     "hidden_act: 'swiglu_oai' is not understood for a 'llama' model; expected one of silu, swish, gelu, "
     "gelu_new, gelu_fast, gelu_python, gelu_pytorch_tanh, gelu_accurate, "
     "quick_gelu, relu, relu2, relu_squared"),
    ({"q_lora_rank": 512}, "q_lora_rank: 512 is set, but a 'llama' model has no such part; "
     "remove it if it changes neither weights nor cache"),
    ({"num_kv_shared_layers": 2}, "num_kv_shared_layers: 2 is set, but a 'llama' model has no such part; "
     "remove it if it changes neither weights nor cache"),
    ({"attention_k_eq_v": True}, "attention_k_eq_v: true is set, but a 'llama' model has no such part; "
     "remove it if it changes neither weights nor cache"),
    ({"num_local_experts": 8}, "num_local_experts: 8 is set, but a 'llama' model has no such part; "
     "remove it if it changes neither weights nor cache"),
    ({"attention_biass": True}, "attention_biass: true is set, but a 'llama' model has no such part; "
     "did you mean 'attention_bias'?"),
    ({"model_type": "gemma2", "layer_types": ["full_attention"] * 3},
     "layer_types: expected one entry for each of the 4 layers, got 3 entries"),
    ({"model_type": "gemma2", "layer_types": ["full_attention", "ring", "full_attention", "full_attention"]},
     "layer_types: entry 1 is 'ring', not understood for a 'gemma2' model; "
     "expected full_attention or sliding_attention"),
    ({"model_type": "qwen2", "layer_types": ["sliding_attention"] * 4},
     "sliding_window: missing; layer_types has sliding_attention layers, which need it"),
    ({"model_type": "mixtral", "num_local_experts": 4, "num_experts_per_tok": 5},
     "num_experts_per_tok: 5 experts per token, but there are only 4 experts"),
    ({"model_type": "qwen3_moe", "num_experts": 8, "mlp_only_layers": [4], **EXPERTS},
     "mlp_only_layers: expected a list of layer numbers from 0 to 3, got 4"),
    ({"model_type": "deci"}, "num_key_value_heads_per_layer: missing; a 'deci' model needs it"),
    ({"model_type": "phi", "qk_layernorm": True},
     "qk_layernorm: true is not understood for a 'phi' model: LayerNorm on q and k is not supported"),
    ({"model_type": "minimax_m2", "attn_type_list": [1, 0, 1, 1]},
     "attn_type_list: entry 1 is 0, not understood for a 'minimax_m2' model; expected 1 (softmax)"),
    ({"model_type": "glm_moe_dsa", "indexer_types": ["shared", "full", "full", "full"], **LATENT},
     "indexer_types: the first layer is shared, but there is no earlier indexer to reuse"),
    ({"model_type": "nemotron_h", "hybrid_override_pattern": "M*-X"},
     "hybrid_override_pattern: expected M, *, - and E, one per block; got X"),
    ({"model_type": "nemotron_h", "hybrid_override_pattern": "M*-"},
     "hybrid_override_pattern: has 3 blocks, but num_hidden_layers is 4"),
    ({"model_type": "mamba2"}, "expand: expand x hidden_size is 128, but num_heads x head_dim is 8192"),
    ({"model_type": "mamba2", "hidden_size": 4096, "intermediate_size": 4096},
     "intermediate_size: 4096 is not understood for a 'mamba2' model: it repeats num_heads x head_dim, 8192"),
    ({"model_type": "cohere2", "layer_switch": 2},
     "layer_switch: 2 is not understood for a 'cohere2' model: it repeats sliding_window_pattern, 4"),
    ({"model_type": "hunyuan_v1_dense", "use_cla": True, "cla_share_factor": 2},
     "use_cla: true is not understood for a 'hunyuan_v1_dense' model: "
     "a cache that layers share (cross-layer attention) is not supported"),
    ({"model_type": "hunyuan_v1_dense", "use_mla": True},
     "use_mla: true is not understood for a 'hunyuan_v1_dense' model: latent attention is not supported"),
    ({"use_gqa": False},
     "use_gqa: false is not understood for a 'llama' model: 8 query heads on 2 KV heads are grouped"),
    *(({"model_type": family, field: value}, f"{field}: {shown} is set, but a '{family}' model has no such part; "
       "remove it if it changes neither weights nor cache")
      for family in ("llama", "qwen3")
      for field, value, shown in (("use_mla", True, "true"), ("use_cla", True, "true"), ("num_loops", 4, "4"),
                                  ("yoco", True, "true"), ("cla_share_factor", 2, "2"), ("d_ff", 99, "99"))),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), GALLERY, ids=[message.split(":")[0] for _, message in GALLERY])
def test_what_is_wrong_is_said_in_one_line(changes: dict[str, Any], message: str):
    with pytest.raises(InputError) as error:
        parse(**changes)
    assert message in str(error.value).splitlines()


def test_all_faults_show_at_once_with_their_places(tmp_path: Path):
    file = tmp_path / "config.json"
    file.write_text(
        '{"model_type": "llama",\n "hidden_size": -1,\n "num_hidden_layers": 4,\n "num_attention_heads": 8}'
    )
    with pytest.raises(InputError) as error:
        read_model(file)
    assert str(error.value).splitlines() == [
        f"{file}:2:17: hidden_size: expected a whole number of at least 1, got -1",
        f"{file}:1:1: intermediate_size: missing; a 'llama' model needs it",
        f"{file}:1:1: vocab_size: missing; a 'llama' model needs it",
    ]


@pytest.mark.parametrize(
    ("content", "start"),
    [
        ({}, "model_type: missing; supported families: aquila, baichuan, bloom,"),
        ({"model_type": "lama"}, "model_type: unknown model family 'lama'; did you mean 'llama'?; supported"),
        ({"model_type": 3}, "model_type: unknown model family 3; supported families: "),
        ({"model_type": "gemma4"}, "model_type: the family 'gemma4' is not implemented (per-layer head dim"),
        ({"model_type": "kimi_linear"}, "model_type: the family 'kimi_linear' is not implemented (KDA with"),
        ({"model_type": "nemotron-nas"}, "model_type: the family 'nemotron-nas' is not implemented (blocks"),
        ({"model_type": "deepseek_v4"}, "model_type: the family 'deepseek_v4' is not implemented (compr"),
        ({"model_type": "llava"}, "text_config: missing; it holds the language model of 'llava'"),
        ({"model_type": "llava", "text_config": 1}, "text_config: expected a mapping, got 1; it holds"),
        ({"model_type": "llava", "text_config": {"model_type": "bert"}},
         "text_config.model_type: unknown model family 'bert'; supported families: "),
    ],
)  # fmt: skip
def test_families_that_cannot_be_read(content: dict[str, Any], start: str):
    with pytest.raises(InputError) as error:
        parse_config(content, "model")
    assert str(error.value).startswith(start)


@pytest.mark.parametrize("refused", ["gemma4", "kimi_linear", "kimi_k3", "step3p7", "minimax_m3", "nemotron-nas"])
def test_families_without_a_formula_are_not_listed(refused: str):
    assert refused not in supported_families()


ODD = (None, 0, -1, 1.5, 2**70, "x", True, [], [1], {}, {"a": 1}, [[]], float("nan"))


def one_of_each() -> dict[str, dict[str, Any]]:
    return {row["config"]["model_type"]: row["config"] for row in COUNTED}


@pytest.mark.parametrize("model_type", one_of_each())
def test_no_value_of_any_field_ends_in_anything_but_a_model_or_a_refusal(model_type: str):
    content = {
        **one_of_each()[model_type],
        "layer_types": None,
        "torch_dtype": "bfloat16",
        "text_config": None,
    }
    for field in (*content, "head_dim", "sliding_window", "quantization_config", "mlp_only_layers"):
        for value in ODD:
            with suppress(InputError):
                assert parse_config({**content, field: value}, "odd").parameters() > 0
