"""A config.json becomes what its modelling code builds: to the last weight, windows and experts included."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from dse.spec.huggingface import parse_config, read_model
from dse.spec.model import Attention, LatentAttention, ModelSpec, MoE


def config(
    model_type: str, hidden: int, layers: int, heads: int, width: int, vocab: int, kv: int = 0, **more: Any
) -> dict[str, Any]:
    """A config with the usual names."""
    return {
        "model_type": model_type, "hidden_size": hidden, "num_hidden_layers": layers,
        "num_attention_heads": heads, "intermediate_size": width, "vocab_size": vocab,
        **({"num_key_value_heads": kv} if kv else {}), **more,
    }  # fmt: skip


TINY = config("llama", 64, 4, 8, 128, 1000, 2)

# Safetensors totals of the Hugging Face repositories, tied weights once.
PUBLISHED = {
    "Llama-3.1-8B": (config("llama", 4096, 32, 32, 14336, 128256, 8), 8_030_261_248),
    "Llama-3.1-70B": (config("llama", 8192, 80, 64, 28672, 128256, 8), 70_553_706_496),
    "Llama-3.1-405B": (config("llama", 16384, 126, 128, 53248, 128256, 8), 405_853_388_800),
    "Llama-2-7B": (config("llama", 4096, 32, 32, 11008, 32000), 6_738_415_616),
    "Llama-2-13B": (config("llama", 5120, 40, 40, 13824, 32000), 13_015_864_320),
    "Llama-2-70B": (config("llama", 8192, 80, 64, 28672, 32000, 8), 68_976_648_192),
    "Qwen3-8B": (config("qwen3", 4096, 36, 32, 12288, 151936, 8), 8_190_735_360),
    "Qwen2.5-7B": (config("qwen2", 3584, 28, 28, 18944, 152064, 4), 7_615_616_512),
    "Qwen-7B": (config("qwen", 4096, 32, 32, 22016, 151936, no_bias=True, kv_channels=128), 7_721_324_544),
    "Mistral-7B": (config("mistral", 4096, 32, 32, 14336, 32000, 8), 7_241_732_096),
    "OPT-125m": (
        {"model_type": "opt", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
         "ffn_dim": 3072, "vocab_size": 50272}, 125_239_296),
    "GPT-J-6B": ({"model_type": "gptj", "n_embd": 4096, "n_head": 16, "n_layer": 28, "vocab_size": 50400},
                 6_050_882_784),
    "GPT-2": ({"model_type": "gpt2", "n_embd": 768, "n_head": 12, "n_layer": 12, "vocab_size": 50257},
              124_439_808),
    "StarCoder": (
        {"model_type": "gpt_bigcode", "n_embd": 6144, "n_head": 48, "n_layer": 40, "n_inner": 24576,
         "n_positions": 8192, "vocab_size": 49152}, 15_517_456_384),
    "StarCoder2-7B": (config("starcoder2", 4608, 32, 36, 18432, 49152, 4), 7_173_923_840),
    "Falcon-7B": (
        {"model_type": "falcon", "hidden_size": 4544, "num_attention_heads": 71, "num_hidden_layers": 32,
         "vocab_size": 65024}, 6_921_720_704),
    "BLOOM-7B1": (
        {"model_type": "bloom", "n_embed": 4096, "n_head": 32, "n_layer": 30, "vocab_size": 250880},
        7_069_016_064),
    "MPT-7B": (
        {"model_type": "mpt", "d_model": 4096, "n_heads": 32, "n_layers": 32, "vocab_size": 50432,
         "attn_config": {"alibi": True}}, 6_649_286_656),
    "GPT-Neo-1.3B": (
        {"model_type": "gpt_neo", "hidden_size": 2048, "num_layers": 24, "num_heads": 16, "vocab_size": 50257,
         "attention_types": [[["global", "local"], 12]]}, 1_315_575_808),
    "InternLM2-7B": (config("internlm2", 4096, 32, 32, 14336, 92544, 8, bias=False), 7_737_708_544),
    "Baichuan2-7B": (config("baichuan", 4096, 32, 32, 11008, 125696), 7_505_973_248),
    "OLMo-7B": (config("olmo", 4096, 32, 32, 11008, 50304), 6_888_095_744),
    "OLMoE-1B-7B": (
        config("olmoe", 2048, 16, 16, 1024, 50304, 16, num_experts=64, num_experts_per_tok=8), 6_919_161_856),
    "StableLM-3B": (config("stablelm", 2560, 32, 32, 6912, 50304, 32), 2_795_443_200),
    "Command-R": (config("cohere", 8192, 40, 64, 22528, 256000, 64), 34_980_831_232),
    "Command-R+": (config("cohere", 12288, 64, 96, 33792, 256000, 8, use_qk_norm=True), 103_810_674_688),
    "GLM-4-9B": (config("glm", 4096, 40, 32, 13696, 151552, 2), 9_399_951_360),
    "GLM-4-32B": (config("glm4", 6144, 61, 48, 23040, 151552, 2, attention_bias=False), 32_566_081_536),
    "Granite-3.1-8B": (
        config("granite", 4096, 40, 32, 12800, 49155, 8, tie_word_embeddings=True), 8_170_848_256),
    "SmolLM3-3B": (config("smollm3", 2048, 36, 16, 11008, 128256, 4), 3_075_098_624),
    "Seed-OSS-36B": (config("seed_oss", 5120, 64, 80, 27648, 155136, 8), 36_151_104_512),
    "ERNIE-4.5-0.3B": (config("ernie4_5", 1024, 18, 16, 3072, 103424, 2), 360_748_032),
    "Phi-2": (config("phi", 2560, 32, 32, 10240, 51200), 2_779_683_840),
    "Phi-3.5-MoE": (
        config("phimoe", 4096, 32, 32, 6400, 32064, 8, attention_bias=True, lm_head_bias=True),
        41_873_153_344),
    "Qwen1.5-MoE-A2.7B": (
        config("qwen2_moe", 2048, 24, 16, 5632, 151936, 16, moe_intermediate_size=1408), 14_315_784_192),
    "dots.llm1": (
        config("dots1", 4096, 62, 32, 10944, 152064, 32, moe_intermediate_size=1408, n_routed_experts=128,
               num_experts_per_tok=6, n_shared_experts=2, first_k_dense_replace=1), 142_774_381_696),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_equal_the_published_count(name: str):
    content, published = PUBLISHED[name]
    assert parse_config(content, name).parameters() == published


COUNTED = json.loads((Path(__file__).parent / "transformers_counts.json").read_text())


@pytest.mark.parametrize("row", COUNTED, ids=lambda row: row["config"]["model_type"])
def test_parameters_equal_what_transformers_allocates(row: dict[str, Any]):
    """Each row was counted on transformers 5.23's own class (meta device; router corrections included)."""
    spec = parse_config(row["config"], "tiny")
    assert spec.parameters() == row["parameters"]
    if row["windowed"] is not None:
        spans = [layer.mixer.span for layer in spec.layers if isinstance(layer.mixer, Attention | LatentAttention)]
        assert sum(span is not None for span in spans) == row["windowed"]


# The o_proj of MiMo-7B has no bias, as its code derives from Qwen2; the table counts one, 36 x 4096 weights
# too many. 7,622,619,136 and the 210,790,400 of its MTP layer make the published 7,833,409,536.
MIMO = "XiaomiMiMo/MiMo-7B-Base"


def figures(spec: ModelSpec) -> dict[str, float]:
    return {
        "total_params": spec.parameters(),
        "active_params": spec.active_parameters(),
        "active_params_no_embedding": spec.active_parameters() - spec.embedding_parameters,
        "kv_bytes_per_token_bf16": 2 * spec.kv_elements_per_token,
        "kv_window_bytes_per_seq_bf16": 2 * spec.window_elements_per_sequence,
        "indexer_elem_per_token": spec.index_elements_per_token,
        "ssm_state_elem_per_seq": spec.state_elements_per_sequence,
        "conv_state_elem_per_seq": spec.conv_elements_per_sequence,
    }


def test_all_figures_of_the_table_of_real_configs(shared_data: Path):
    folder = shared_data / "models"
    with (folder / "parameter_counts.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["config_file"] and row["total_params"]]
    assert len(rows) == 52
    for row in rows:
        for column, value in figures(read_model(folder / row["config_file"])).items():
            excess = 36 * 4096 if row["model"] == MIMO and "params" in column else 0
            assert value == float(row[column]) - excess, f"{row['model']}: {column}"


# Rows of the table without a config file: total, active, relative tolerance of the digits given.
WITHOUT_FILE = {
    "deepseek-v2": (235.74e9, 21.4e9, 2e-3),
    "qwen3-next-80b-a3b": (79.674e9, 3.87e9, 2e-3),
    "mamba2-2.7b": (2_702_599_680, 2_702_599_680, 0),
}


@pytest.mark.parametrize("name", WITHOUT_FILE)
def test_library_models_without_a_config_in_the_table(name: str):
    total, active, tolerance = WITHOUT_FILE[name]
    spec = read_model(Path(__file__).resolve().parents[2] / "configs" / "models" / f"{name}.json")
    assert spec.parameters() == pytest.approx(total, rel=min(tolerance, 1e-4))
    assert spec.active_parameters() == pytest.approx(active, rel=tolerance)


def spans(spec: ModelSpec) -> list[int | None]:
    return [layer.mixer.span for layer in spec.layers if isinstance(layer.mixer, Attention)]


def parse(**changes: Any) -> ModelSpec:
    return parse_config({**TINY, **changes}, "tiny")


COMMAND_R7B = {
    "model_type": "cohere2", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "num_hidden_layers": 32, "vocab_size": 256000, "sliding_window": 4096,
    "layer_switch": 4, "sliding_window_pattern": 4, "order_of_interleaved_layers": "local_attn_first",
    "use_embedding_sharing": True, "use_gated_activation": True, "use_parallel_block": True,
    "use_parallel_embedding": True,
}  # fmt: skip
"""CohereLabs/c4ai-command-r7b-12-2024."""

CODESTRAL_MAMBA = {
    "model_type": "mamba2", "hidden_size": 4096, "intermediate_size": 8192, "expand": 2, "num_heads": 128,
    "head_dim": 64, "state_size": 128, "n_groups": 8, "conv_kernel": 4, "num_hidden_layers": 64, "vocab_size": 32768,
    "tie_word_embeddings": False, "use_bias": False, "use_conv_bias": True,
}  # fmt: skip
"""mistralai/Mamba-Codestral-7B-v0.1."""

HUNYUAN_7B = {
    "model_type": "hunyuan_v1_dense", "hidden_size": 4096, "intermediate_size": 14336, "num_attention_heads": 32,
    "num_key_value_heads": 8, "head_dim": 128, "attention_head_dim": 128, "num_hidden_layers": 32,
    "vocab_size": 128167, "tie_word_embeddings": True, "use_qk_norm": True, "use_cla": False, "cla_share_factor": 2,
}  # fmt: skip
"""tencent/Hunyuan-7B-Instruct: the factor is that of a sharing which is off."""


@pytest.mark.parametrize(
    ("config", "parameters"),
    [(COMMAND_R7B, 8_028_033_024), (CODESTRAL_MAMBA, 7_285_403_648), (HUNYUAN_7B, 7_504_568_320)],
    ids=["command-r7b", "codestral-mamba-7b", "hunyuan-7b"],
)
def test_fields_that_repeat_others_are_no_structure_of_their_own(config: dict[str, Any], parameters: int):
    assert parse_config(config, "published").parameters() == parameters


def test_grouped_heads_may_be_said_twice():
    grouped = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 8,
               "intermediate_size": 128, "vocab_size": 100}  # fmt: skip
    assert parse_config({**grouped, "num_key_value_heads": 2, "use_gqa": True}, "tiny").kv_bytes_per_token() == 64
    assert parse_config({**grouped, "num_key_value_heads": 8, "use_gqa": False}, "tiny").kv_bytes_per_token() == 256


def test_sliding_window_of_mistral_is_4096_unless_the_file_says_null():
    assert set(spans(parse(model_type="mistral"))) == {4096}
    assert set(spans(parse(model_type="mistral", sliding_window=None))) == {None}
    assert set(spans(parse(model_type="mistral", sliding_window=32))) == {32}


def test_qwen_windows_count_only_with_use_sliding_window():
    assert spans(parse(model_type="qwen2", sliding_window=32, max_window_layers=2)) == [None] * 4
    used = parse(model_type="qwen2", sliding_window=32, max_window_layers=2, use_sliding_window=True)
    assert spans(used) == [None, None, 32, 32]


def test_layer_types_name_the_windowed_layers():
    types = ["full_attention", "sliding_attention", "sliding_attention", "full_attention"]
    assert spans(parse(model_type="gemma2", layer_types=types, sliding_window=7)) == [None, 7, 7, None]
    assert spans(parse(model_type="gemma2", sliding_window=7)) == [7, None, 7, None]


def test_llama4_layers_without_rotary_positions_see_everything():
    spec = parse(model_type="llama4_text", num_local_experts=2, attention_chunk_size=16, no_rope_layers=[1, 0, 1, 0])
    assert [mixer.chunk for mixer in mixers(spec)] == [16, None, 16, None]
    assert set(spans(parse(model_type="llama4_text", attention_chunk_size=None))) == {None}


def mixers(spec: ModelSpec) -> list[Any]:
    return [layer.mixer for layer in spec.layers]


def routed(spec: ModelSpec) -> str:
    """M for a MoE layer, d for a dense one."""
    return "".join("M" if isinstance(layer.ffn, MoE) else "d" for layer in spec.layers)


EXPERTS = {"moe_intermediate_size": 32, "num_experts_per_tok": 2}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 8, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 8,
          "n_routed_experts": 8, "n_shared_experts": 1, **EXPERTS}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "order"),
    [
        ({"model_type": "qwen3_moe", "num_experts": 8, **EXPERTS}, "MMMM"),
        ({"model_type": "qwen3_moe", "num_experts": 8, "decoder_sparse_step": 2, **EXPERTS}, "dMdM"),
        ({"model_type": "qwen3_moe", "num_experts": 8, "mlp_only_layers": [0, 2], **EXPERTS}, "dMdM"),
        ({"model_type": "deepseek_v3", "first_k_dense_replace": 2, **LATENT}, "ddMM"),
        ({"model_type": "deepseek_v2", "first_k_dense_replace": 1, "moe_layer_freq": 2, **LATENT}, "ddMd"),
        ({"model_type": "llama4_text", "interleave_moe_layer_step": 2}, "dMdM"),
        ({"model_type": "llama4_text", "moe_layers": [0, 3]}, "MddM"),
        (
            {"model_type": "mimo_v2_flash", "n_routed_experts": 8, "moe_layer_freq": [0, 1, 1, 0], **EXPERTS},
            "dMMd",
        ),
        (
            {
                "model_type": "glm_moe_dsa",
                "mlp_layer_types": ["dense", "sparse", "dense", "sparse"],
                **LATENT,
            },
            "dMdM",
        ),
    ],
)
def test_which_layers_are_mixtures(changes: dict[str, Any], order: str):
    assert routed(parse(**changes)) == order


def test_shared_experts_add_up():
    spec = parse(model_type="deepseek_v3", **{**LATENT, "n_shared_experts": 3, "first_k_dense_replace": 0})
    assert {layer.ffn.shared_width for layer in spec.layers if isinstance(layer.ffn, MoE)} == {96}


@pytest.mark.parametrize(
    "changes",
    [
        {"indexer_types": ["full", "shared", "full", "shared"]},
        {"index_topk_pattern": "FSFS"},
        {"index_topk_freq": 2, "index_skip_topk_offset": 1},
    ],
)
def test_shared_indexers_hold_neither_weights_nor_keys(changes: dict[str, Any]):
    spec = parse(model_type="glm_moe_dsa", index_head_dim=16, index_n_heads=4, **LATENT, **changes)
    assert [mixer.indexer.shared for mixer in mixers(spec)] == [False, True, False, True]
    assert spec.index_elements_per_token == 2 * 16


def test_falcon_kv_heads_by_generation():
    base = {"model_type": "falcon", "hidden_size": 64, "num_attention_heads": 8, "num_hidden_layers": 1,
            "vocab_size": 100}  # fmt: skip
    grouped = {**base, "new_decoder_architecture": True, "num_kv_heads": 4}
    assert mixers(parse_config(base, ""))[0].kv_heads == 1
    assert mixers(parse_config({**base, "multi_query": False}, ""))[0].kv_heads == 8
    assert mixers(parse_config(grouped, ""))[0].kv_heads == 4
    assert [parse_config(one, "").layers[0].norms for one in (base, grouped)] == [1, 2]


def test_deci_has_kv_heads_of_its_own_in_each_layer():
    spec = parse(model_type="deci", num_key_value_heads_per_layer=[4, 2, 2, 1])
    assert [mixer.kv_heads for mixer in mixers(spec)] == [4, 2, 2, 1]


def test_nemotron_blocks_by_letters_or_words():
    by_letters = parse(model_type="nemotron_h", hybrid_override_pattern="M*-M")
    by_words = parse(model_type="nemotron_h", layers_block_type=["mamba", "attention", "mlp", "mamba"])
    assert by_letters.layers == by_words.layers
    assert [layer.norms for layer in by_letters.layers] == [1, 1, 1, 1]


def test_the_language_model_of_a_multimodal_config():
    text = {**TINY, "model_type": "qwen3_vl_text", "tie_word_embeddings": False}
    spec = parse_config({"model_type": "qwen3_vl", "text_config": text, "tie_word_embeddings": True}, "vision")
    assert spec.family == "qwen3_vl"
    assert spec.hidden == 64
    assert spec.tied, "the outer model says whether the head is tied"


def test_gemma3_text_parts_leave_out_what_their_class_knows():
    content = {"model_type": "gemma3", "text_config": {
        "model_type": "gemma3_text", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 34,
        "sliding_window": 1024}}  # fmt: skip
    assert parse_config(content, "gemma-3-4b").parameters() == 3_880_263_168


def test_name_of_a_config_json_is_that_of_its_folder(tmp_path: Path):
    (tmp_path / "my-model").mkdir()
    (tmp_path / "my-model" / "config.json").write_text(json.dumps(TINY))
    (tmp_path / "other.json").write_text(json.dumps(TINY))
    assert read_model(tmp_path / "my-model" / "config.json").name == "my-model"
    assert read_model(tmp_path / "other.json").name == "other"
