"""The model library: every file can be read, and its size is the published one, to the last parameter.

Where a published total holds more than the text model (a vision encoder, a layer for multi-token
prediction, the scales of FP8 blocks), that part is counted here from its own published shape.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dse.spec.catalog import load_model
from dse.spec.huggingface import read_model
from dse.spec.model import ModelSpec
from dse.spec.reading import read
from dse.spec.speculation import drafter_of, load_speculation

FOLDER = Path(__file__).resolve().parents[2] / "configs" / "models"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def plain(name: str) -> str:
    """A name as the lookup sees it."""
    return re.sub(r"[\s_-]+", "-", name.strip().lower())


# Safetensors totals of the Hugging Face repositories (tied weights once), or the number the authors print:
# GPT-J in its model card, GPT-NeoX in 2204.06745, gpt-oss 20.91 B and 116.83 B in its card. Kimi-K2.5 has a
# vision tower of 416,866,032 and a projector of 54,277,888 more; Nemotron-3-Nano is without its MTP layer.
EXACT = {
    "opt-125m": 125_239_296, "opt-350m": 331_196_416, "opt-1.3b": 1_315_758_080, "opt-2.7b": 2_651_596_800,
    "opt-6.7b": 6_658_473_984, "opt-13b": 12_853_473_280, "opt-30b": 29_974_540_288, "gpt2": 124_439_808,
    "gpt2-medium": 354_823_168, "gpt2-large": 774_030_080, "gpt2-xl": 1_557_611_200,
    "gpt-j-6b": 6_050_882_784, "gpt-neox-20b": 20_554_567_680, "pythia-6.9b": 6_857_302_016,
    "pythia-12b": 11_846_072_320, "bloom-7.1b": 7_069_016_064, "bloom-176b": 176_247_271_424,
    "falcon-7b": 6_921_720_704, "llama-7b": 6_738_415_616, "llama-13b": 13_015_864_320,
    "llama-30b": 32_528_943_616, "llama-65b": 65_285_660_672, "llama-2-7b": 6_738_415_616,
    "llama-2-13b": 13_015_864_320, "llama-2-70b": 68_976_648_192, "llama-3-8b": 8_030_261_248,
    "llama-3-70b": 70_553_706_496, "llama-3.1-8b": 8_030_261_248, "llama-3.1-70b": 70_553_706_496,
    "llama-3.1-405b": 405_853_388_800, "llama-3.2-1b": 1_235_814_400, "llama-3.2-3b": 3_212_749_824,
    "llama-3.3-70b": 70_553_706_496, "codellama-34b": 33_743_970_304, "tinyllama-1.1b": 1_100_048_384,
    "smollm2-135m": 134_515_008, "smollm2-1.7b": 1_711_376_384, "yi-6b": 6_061_035_520,
    "yi-34b": 34_388_917_248, "decilm-7b": 7_043_551_232, "mistral-7b": 7_241_732_096,
    "mistral-7b-v0.3": 7_248_023_552, "mistral-nemo-12b": 12_247_782_400,
    "mistral-small-24b": 23_572_403_200, "mistral-large-123b": 122_610_069_504,
    "mixtral-8x7b": 46_702_792_704, "mixtral-8x22b": 140_620_634_112, "phi-2": 2_779_683_840,
    "phi-3-mini": 3_821_079_552, "phi-3-medium": 13_960_238_080, "phi-4": 14_659_507_200,
    "gemma-2b": 2_506_172_416, "gemma-7b": 8_537_680_896, "gemma-2-2b": 2_614_341_888,
    "gemma-2-9b": 9_241_705_984, "gemma-2-27b": 27_227_128_320, "gemma-3-1b": 999_885_952,
    "qwen1.5-7b": 7_721_324_544, "qwen2-7b": 7_615_616_512, "qwen2-72b": 72_706_203_648,
    "qwen2.5-0.5b": 494_032_768, "qwen2.5-1.5b": 1_543_714_304, "qwen2.5-3b": 3_085_938_688,
    "qwen2.5-7b": 7_615_616_512, "qwen2.5-14b": 14_770_033_664, "qwen2.5-32b": 32_763_876_352,
    "qwen2.5-72b": 72_706_203_648, "qwen3-0.6b": 596_049_920, "qwen3-1.7b": 1_720_574_976,
    "qwen3-4b": 4_022_468_096, "qwen3-8b": 8_190_735_360, "qwen3-14b": 14_768_307_200,
    "qwen3-32b": 32_762_123_264, "qwen3-30b-a3b": 30_532_122_624, "qwen3-235b-a22b": 235_093_634_560,
    "qwen3-30b-a3b-2507": 30_532_122_624, "qwen3-235b-a22b-2507": 235_093_634_560, "kimi-k2-0905": 1_026_408_232_448,
    "phi-3-medium-128k": 13_960_238_080, "qwen3-coder-480b-a35b": 480_154_875_392, "deepseek-v2": 235_741_434_880,
    "deepseek-v2-lite": 15_706_484_224, "kimi-k2": 1_026_408_232_448, "kimi-k2.5": 1_026_408_232_448,
    "gpt-oss-20b": 20_914_757_184, "gpt-oss-120b": 116_829_156_672,
    "nemotron-3-nano-30b-a3b": 31_577_940_288, "mamba2-2.7b": 2_702_599_680, "olmo-2-7b": 7_298_617_344,
    "olmo-2-13b": 13_716_198_400, "olmo-2-32b": 32_234_279_936,
}  # fmt: skip


def mtp(spec: ModelSpec) -> int:
    """The module that speculation drafts with: a layer, 2h -> h projection, three norms (2412.19437), no tables."""
    drafter = drafter_of(load_speculation({"mtp": 1, "accepted": 0.5}), spec)
    assert drafter is not None
    return drafter.model.parameters() - embedding_and_head(drafter.model)


def embedding_and_head(spec: ModelSpec) -> int:
    return spec.embedding_parameters + spec.head_parameters


def layernorm_transformer(layers: int, hidden: int, width: int) -> int:
    """Encoder blocks with biases, LayerNorm and a plain MLP, as all the vision encoders here have."""
    attention = 4 * hidden * hidden + 4 * hidden
    return layers * (attention + 2 * hidden * width + width + hidden + 4 * hidden)


def qwen_vision(spec: ModelSpec) -> int:
    """Qwen3.5: patches of 2 x 16 x 16, 2304 positions, merger of 2 x 2 patches."""
    h, merged = 1152, 4 * 1152
    ends = 3 * 2 * 16 * 16 * h + h + 2304 * h + 2 * h
    return layernorm_transformer(27, h, 4304) + ends + (merged + 1) * merged + (merged + 1) * spec.hidden


def siglip(spec: ModelSpec) -> int:
    """Gemma 3: SigLIP-400M at 896 pixels, patches of 14, and a projector with its norm."""
    h = 1152
    ends = 3 * 14 * 14 * h + h + 4096 * h + 2 * h
    return layernorm_transformer(27, h, 4304) + ends + h * spec.hidden + h


def llama4_vision(spec: ModelSpec) -> int:
    """Llama 4: 336 pixels, patches of 14, a class token, adapter of 5632 -> 4096 -> 4096, projector."""
    h = 1408
    ends = 3 * 14 * 14 * h + h + 577 * h + 4 * h
    return layernorm_transformer(34, h, 5632) + ends + 5632 * 4096 + 4096 * 4096 + 4096 * spec.hidden


# Safetensors totals and what they hold beside the text model. Falcon's files store the tied head a second
# time; DeepSeek (the BF16 conversion) and GLM-4.5 store embedding and head again with the MTP layer; MiniMax
# has one scale per 128 x 128 block of attention and experts.
WITH_MORE: dict[str, tuple[int, Callable[[ModelSpec], int]]] = {
    "falcon-7b": (7_217_189_760, lambda spec: spec.vocab * spec.hidden),
    "falcon-40b": (41_835_970_560, lambda spec: spec.vocab * spec.hidden),
    "falcon-180b": (179_522_565_120, lambda spec: spec.vocab * spec.hidden),
    "gemma-3-4b": (4_300_079_472, siglip),
    "gemma-3-12b": (12_187_325_040, siglip),
    "gemma-3-27b": (27_432_406_640, siglip),
    "llama-4-scout": (108_641_793_536, llama4_vision),
    "llama-4-maverick": (401_583_781_376, llama4_vision),
    "qwen3-next-80b-a3b": (81_324_862_720, mtp),
    "qwen3.5-27b": (27_781_427_952, lambda spec: mtp(spec) + qwen_vision(spec)),
    "qwen3.5-35b-a3b": (35_951_822_704, lambda spec: mtp(spec) + qwen_vision(spec)),
    "qwen3.5-122b-a10b": (125_086_497_008, lambda spec: mtp(spec) + qwen_vision(spec)),
    "qwen3.5-397b-a17b": (403_397_928_944, lambda spec: mtp(spec) + qwen_vision(spec)),
    "deepseek-v3": (684_489_845_504, lambda spec: mtp(spec) + embedding_and_head(spec)),
    "deepseek-r1": (684_489_845_504, lambda spec: mtp(spec) + embedding_and_head(spec)),
    "deepseek-v3.1": (684_489_845_504, lambda spec: mtp(spec) + embedding_and_head(spec)),
    "glm-4.5": (358_337_791_296, lambda spec: mtp(spec) + embedding_and_head(spec)),
    "glm-4.5-air": (110_468_824_832, lambda spec: mtp(spec) + embedding_and_head(spec)),
    "glm-5": (753_864_139_008, mtp),
    "glm-5.1": (753_864_139_008, mtp),
    "glm-5.2": (753_329_940_480, mtp),
    "mimo-7b": (7_833_409_536, mtp),
    "minimax-m2.5": (228_703_644_928, lambda _: 62 * (44_040_192 + 256 * 3 * 3072 * 1536) // 128**2),
}

# Total and active size in billions as the publisher rounds them, and a relative tolerance: the check where no
# exact count is published, and of what one token touches.
ROUNDED: dict[str, tuple[float, float | None, float]] = {
    "llama-68m": (0.068, None, 0.01),  # 2305.09781 (SpecInfer)
    "opt-66b": (66, None, 0.01),  # 2205.01068
    "opt-175b": (175, None, 0.01),
    "aquila-7b": (7.3, None, 0.01),
    "mixtral-8x7b": (46.7, 12.9, 0.02),  # 2401.04088
    "mixtral-8x22b": (141, 39, 0.02),
    "qwen3-30b-a3b": (30.5, 3.3, 0.1),  # model cards
    "qwen3-235b-a22b": (235, 22, 0.05),
    "qwen3-coder-480b-a35b": (480, 35, 0.05),
    "qwen3-next-80b-a3b": (80, 3.9, 0.1),
    "deepseek-v2": (236, 21, 0.05),  # 2405.04434
    "deepseek-v2-lite": (15.7, 2.4, 0.05),
    "deepseek-v3": (671, 37, 0.05),  # 2412.19437
    "deepseek-v3.2": (671, 37, 0.05),
    "kimi-k2": (1026, 32, 0.05),
    "glm-4.5": (355, 32, 0.05),  # with its MTP layer
    "glm-4.5-air": (106, 12, 0.08),
    "glm-5": (744, 40, 0.05),
    "gpt-oss-20b": (20.91, 3.61, 0.1),  # model card: active without the embedding
    "gpt-oss-120b": (116.83, 5.13, 0.01),
    "minimax-m2.5": (229, 10, 0.05),
    "minimax-m2.7": (229, 10, 0.05),
    "mimo-v2-flash": (309, 15, 0.02),
    "llama-4-scout": (109, 17, 0.06),  # the total includes the vision encoder
    "llama-4-maverick": (400, 17, 0.06),
    "nemotron-h-56b": (56.3, None, 0.01),
    "nemotron-3-nano-30b-a3b": (31.6, 3.2, 0.02),  # model card
    "nemotron-3-super-120b-a12b": (120.6, 12.1, 0.02),
    "mamba2-1.3b": (1.3, None, 0.05),
}

ARCHITECTURE_KEYS = """
model_type text_config hidden_size n_embd num_hidden_layers n_layer num_attention_heads n_head
num_key_value_heads num_kv_heads num_key_value_heads_per_layer head_dim v_head_dim intermediate_size
ffn_dim n_inner vocab_size max_position_embeddings n_positions tie_word_embeddings torch_dtype
quantization_config attention_bias mlp_bias bias use_bias enable_bias use_qk_norm qk_norm_type
attn_output_gate sliding_window use_sliding_window layer_types attention_chunk_size hybrid_layer_pattern
add_swa_attention_sink_bias add_full_attention_sink_bias swa_num_attention_heads swa_num_key_value_heads
swa_head_dim swa_v_head_dim activation_function mlp_hidden_act word_embed_proj_dim do_layer_norm_before
rotary_dim multi_query new_decoder_architecture parallel_attn alibi num_local_experts num_experts
n_routed_experts num_experts_per_tok moe_intermediate_size n_shared_experts
shared_expert_intermediate_size shared_intermediate_size moe_shared_expert_intermediate_size
moe_latent_size first_k_dense_replace moe_layer_freq decoder_sparse_step mlp_only_layers
interleave_moe_layer_step intermediate_size_mlp topk_method use_routing_bias q_lora_rank kv_lora_rank
qk_nope_head_dim qk_rope_head_dim index_n_heads index_head_dim index_topk indexer_types
num_nextn_predict_layers mtp_num_hidden_layers full_attention_interval linear_num_key_heads linear_num_value_heads
linear_key_head_dim linear_value_head_dim linear_conv_kernel_dim hybrid_override_pattern mamba_num_heads
mamba_head_dim mamba_proj_bias ssm_state_size state_size num_heads n_groups conv_kernel use_conv_bias
expand
"""


def content(name: str) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text())
    return value


def aliases() -> dict[str, list[str]]:
    value: dict[str, list[str]] = read(FOLDER / "aliases.yaml").value
    return value


def test_the_library_spans_a_draft_of_68_m_to_kimi_k2():
    sizes = {name: load_model(name).parameters() for name in NAMES}
    assert len(sizes) >= 55
    assert min(sizes, key=sizes.__getitem__) == "llama-68m"
    assert sizes["opt-125m"] < 126e6
    assert max(sizes.values()) == sizes["kimi-k2"] > 1e12


@pytest.mark.parametrize("name", NAMES)
def test_every_file_is_read_and_has_a_context_and_a_precision(name: str):
    spec = read_model(FOLDER / f"{name}.json")
    assert spec.name == name == plain(name)
    assert 0 < spec.active_parameters() <= spec.parameters()
    assert spec.precision is not None
    # BLOOM (ALiBi) and Mamba have no position limit; every other model states one.
    assert (spec.max_context is None) == (spec.family in {"bloom", "mamba2"})


@pytest.mark.parametrize(
    ("spelling", "older", "context"),
    [
        ("Qwen/Qwen3-235B-A22B-Instruct-2507", "qwen3-235b-a22b", 262_144),
        ("Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b", 262_144),
        ("moonshotai/Kimi-K2-Instruct-0905", "kimi-k2", 262_144),
        ("microsoft/Phi-3-medium-128k-instruct", "phi-3-medium", 131_072),
    ],
)
def test_later_releases_of_one_structure_have_a_context_of_their_own(spelling: str, older: str, context: int):
    later, first = load_model(spelling), load_model(older)
    assert later.parameters() == first.parameters()
    assert later.max_context == context > (first.max_context or 0)


def test_a_window_of_the_whole_context_is_no_window():
    assert load_model("phi-3-medium-128k").kv_bytes_per_token("bf16") == 2 * 2 * 40 * 10 * 128


@pytest.mark.parametrize("name", NAMES)
def test_every_size_is_checked_against_a_published_one(name: str):
    assert name in EXACT.keys() | WITH_MORE.keys() | ROUNDED.keys()


@pytest.mark.parametrize(("name", "published"), EXACT.items())
def test_parameters_equal_the_published_count(name: str, published: int):
    assert load_model(name).parameters() == published


@pytest.mark.parametrize("name", WITH_MORE)
def test_parameters_and_what_else_the_checkpoint_holds_equal_the_published_total(name: str):
    published, more = WITH_MORE[name]
    spec = load_model(name)
    assert spec.parameters() + more(spec) == published


def test_a_model_has_next_token_modules_where_its_checkpoint_does():
    """The config says so, but Qwen3-Next's is silent, and MiniMax-M2's names three that are not there."""
    found = {name: load_model(name).nextn for name in NAMES if load_model(name).nextn}
    assert found.pop("mimo-v2-flash") == 3
    assert found == dict.fromkeys([
        "deepseek-r1", "deepseek-v3", "deepseek-v3.1", "deepseek-v3.2", "glm-4.5", "glm-4.5-air", "glm-5", "glm-5.1",
        "glm-5.2", "mimo-7b", "nemotron-3-super-120b-a12b", "qwen3-next-80b-a3b", "qwen3.5-122b-a10b", "qwen3.5-27b",
        "qwen3.5-35b-a3b", "qwen3.5-397b-a17b",
    ], 1)  # fmt: skip


@pytest.mark.parametrize("name", ROUNDED)
def test_parameters_agree_with_the_published_rounded_size(name: str):
    total, active, tolerance = ROUNDED[name]
    spec = load_model(name)
    assert spec.parameters() / 1e9 == pytest.approx(total, rel=tolerance)
    if active is not None:
        # Publishers count the active size with or without the embedding: one of the two is meant.
        with_embedding = spec.active_parameters() / 1e9
        without = with_embedding - spec.embedding_parameters / 1e9
        assert min(abs(with_embedding - active), abs(without - active)) <= tolerance * active


def test_every_measured_model_is_in_the_library(shared_data: Path):
    with (shared_data / "measured" / "names.csv").open() as file:
        spellings = [row["spelling"] for row in csv.DictReader(file) if row["column"] == "model"]
    assert len(spellings) == 38
    for spelling in spellings:
        assert load_model(spelling).name in NAMES


def test_an_alias_names_one_model_of_the_library():
    owner = {plain(name): name for name in NAMES}
    assert len(owner) == len(NAMES)
    for name, others in aliases().items():
        assert name in NAMES
        for alias in others:
            assert plain(alias) not in owner, f"{alias}: of {name} and of {owner.get(plain(alias))}"
            owner[plain(alias)] = name


def test_aliases_lead_to_the_model():
    for name, others in aliases().items():
        for alias in others:
            assert load_model(alias).name == name


@pytest.mark.parametrize("name", NAMES)
def test_files_hold_only_what_sets_structure_and_precision(name: str):
    whole = content(name)
    text = whole.get("text_config", {})
    assert whole.keys() | text.keys() <= set(ARCHITECTURE_KEYS.split())
    assert "model_type" in whole
    assert "tie_word_embeddings" in whole.keys() | text.keys(), "its default differs between families"
