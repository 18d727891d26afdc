"""The precision that a config.json states, in the words of each quantisation tool."""

from __future__ import annotations

from typing import Any

import pytest

from dse.errors import InputError
from dse.spec.huggingface import parse_config
from dse.spec.model import ModelSpec
from dse.spec.quantization import default_precision

TINY = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 8,
        "num_key_value_heads": 2, "intermediate_size": 128, "vocab_size": 1000}  # fmt: skip


def parse(**changes: Any) -> ModelSpec:
    return parse_config({**TINY, **changes}, "tiny")


def scheme(**changes: Any) -> tuple[float, str, str, float] | None:
    """Weight bits, type of weights and of activations, KV bits."""
    stated = parse(**changes).precision
    if stated is None:
        return None
    return stated.weights.bits, stated.weights.dtype, stated.activations.dtype, stated.kv_cache.bits


def quantized(**fields: Any) -> dict[str, Any]:
    return {"torch_dtype": "bfloat16", "quantization_config": fields}


def group(**fields: Any) -> dict[str, Any]:
    return {"config_groups": {"group_0": fields}}


NVFP4 = {"num_bits": 4, "type": "float", "group_size": 16}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, None),
        ({"torch_dtype": "auto"}, None),
        ({"torch_dtype": "float16"}, (16, "fp16", "fp16", 16)),
        ({"dtype": "torch.bfloat16"}, (16, "bf16", "bf16", 16)),
        ({"torch_dtype": "float32"}, (32, "fp32", "fp32", 32)),
        (quantized(quant_method="fp8", weight_block_size=[128, 128]), (8, "fp8", "fp8", 16)),
        (quantized(quant_method="mxfp4"), (4.25, "fp4", "bf16", 16)),
        (quantized(quant_method="gptq", bits=4, group_size=128, sym=True), (4.125, "int4", "bf16", 16)),
        (quantized(quant_method="gptq", bits=3, group_size=-1, sym=True), (3, "int3", "bf16", 16)),
        (quantized(quant_method="awq", bits=4, group_size=64, zero_point=True), (4.5, "int4", "bf16", 16)),
        (quantized(quant_method="bitsandbytes", load_in_8bit=True), (8, "int8", "int8", 16)),
        (quantized(quant_method="bitsandbytes", load_in_4bit=True), (4.5, "int4", "bf16", 16)),
        (quantized(quant_method="modelopt", quant_algo="NVFP4", kv_cache_quant_algo="FP8"),
         (4.5, "fp4", "fp4", 8)),
        (quantized(quant_method="modelopt", quant_algo="FP8", kv_cache_scheme="FP8"), (8, "fp8", "fp8", 8)),
        (quantized(quant_method="modelopt", quantization={"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}),
         (8, "fp8", "fp8", 8)),
        (quantized(quant_method="modelopt", **group(weights=NVFP4, input_activations=NVFP4),
                   kv_cache_scheme={"num_bits": 8, "type": "float"}), (4.5, "fp4", "fp4", 8)),
        (quantized(quant_method="compressed-tensors", **group(
            weights={"num_bits": 4, "type": "int", "group_size": 32}, input_activations=None)),
         (4.5, "int4", "bf16", 16)),
        (quantized(quant_method="compressed-tensors", **group(
            weights={"num_bits": 8, "type": "int"}, input_activations={"num_bits": 8, "type": "int"})),
         (8, "int8", "int8", 16)),
    ],
)  # fmt: skip
def test_precision_the_file_states(changes: dict[str, Any], expected: tuple[float, str, str, float] | None):
    assert scheme(**changes) == expected


def test_mixed_checkpoints_count_as_their_narrowest_weights():
    wide = {
        "weights": {"num_bits": 8, "type": "float"},
        "input_activations": {"num_bits": 8, "type": "float"},
    }
    groups = {"group_0": wide, "group_1": {"weights": NVFP4}}
    assert scheme(**quantized(quant_method="modelopt", config_groups=groups)) == (4.5, "fp4", "bf16", 16)


def test_precision_of_a_multimodal_config_stands_outside_or_inside():
    text = {**TINY, "torch_dtype": "float16"}
    assert parse_config({"model_type": "llava", "text_config": text}, "m").precision.weights.dtype == "fp16"
    outer = {"model_type": "llava", "text_config": text, "quantization_config": {"quant_method": "fp8"}}
    assert parse_config(outer, "m").precision.weights.dtype == "fp8"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"torch_dtype": "bfloat_16"},
         "torch_dtype: unknown type 'bfloat_16'; known: float32, float, float16, half, bfloat16; "
         "did you mean 'bfloat16'?"),
        (quantized(quant_method="qptq"),
         "quantization_config.quant_method: unknown quantisation 'qptq'; known: awq, bitsandbytes, "
         "compressed-tensors, compressed_tensors, fbgemm_fp8, fp8, gptq, modelopt, mxfp4; "
         "did you mean 'gptq'?"),
        (quantized(quant_method="gptq", bits=99),
         "quantization_config.bits: expected a whole number from 1 to 16, got 99"),
        (quantized(quant_method="bitsandbytes"),
         "quantization_config.load_in_4bit: expected load_in_4bit or load_in_8bit to be true"),
        (quantized(quant_method="modelopt", quant_algo="FP2"),
         "quantization_config.quant_algo: unknown algorithm 'FP2'; known: FP8, NVFP4, "
         "NVFP4_AWQ, W4A16_NVFP4, "
         "MXFP8, W4A16_AWQ, W4A8_AWQ, W8A8_SQ_PER_CHANNEL, W8A16"),
        (quantized(quant_method="compressed-tensors"),
         "quantization_config.config_groups: expected groups, each with how its weights are quantised"),
        (quantized(quant_method="fp8", kv_cache_scheme="FP5"),
         "quantization_config.kv_cache_scheme: unknown format 'FP5'; known: FP8, INT8, NVFP4"),
    ],
)  # fmt: skip
def test_quantisation_that_is_not_understood(changes: dict[str, Any], message: str):
    with pytest.raises(InputError) as error:
        parse(**changes)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "left_out",
    [
        ["lm_head", "re:.*self_attn.*"],
        ["model.layers.*.self_attn", "lm_head"],
        ["model.layers.0.self_attn*", "model.layers.1.self_attn*", "model.layers.2.linear_attn*"],
    ],
)
def test_attention_that_a_checkpoint_leaves_out_stays_in_16_bit(left_out):
    config = {
        "num_hidden_layers": 4,
        "torch_dtype": "bfloat16",
        "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": left_out},
    }
    assert default_precision(config)["projections"] == "bf16"


@pytest.mark.parametrize("left_out", [["lm_head"], ["model.layers.0.self_attn.k_norm"], ["model.layers.3.self_attn*"]])
def test_a_single_layer_or_norm_left_out_says_nothing_of_the_projections(left_out):
    config = {
        "num_hidden_layers": 4,
        "quantization_config": {"quant_method": "fp8", "modules_to_not_convert": left_out},
    }
    assert "projections" not in default_precision(config)
