"""What an engine is to load for a precision: the published checkpoint, or one that has to be quantised first.

Which engine runs what where (read 2026-11-28):
    vLLM          docs.vllm.ai/en/v0.14.0/features/quantization: fp8 on Ada, Hopper and AMD; on Turing and Ampere as
                  weights only (docs.vllm.ai/en/stable/features/quantization/fp8, "compute capability >= 7.5"). bf16
                  from compute capability 8.0, `--dtype half` below (vllm-project/vllm issue 946).
    SGLang        docs.sglang.io/advanced_features/server_arguments.html: `--quantization fp8` on a 16-bit checkpoint,
                  nothing for a quantised one; docs.sglang.io/docs/hardware-platforms/overview.
    TensorRT-LLM  nvidia.github.io/TensorRT-LLM/supported-hardware.html: Ampere and later;
                  nvidia.github.io/TensorRT-LLM/torch/features/quantization.html: quantised checkpoints of Model
                  Optimizer, none is quantised while it loads.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from dse.spec.hardware import HardwareSpec
from dse.spec.model import ModelSpec
from dse.spec.precision import Precision, library_precisions
from dse.spec.reading import library_file, read
from dse.spec.runtime import library_runtimes

ENGINES = ("vllm", "sglang", "tensorrt-llm")

KINDS = {
    "vllm": "AWQ (not on Volta), GPTQ or compressed-tensors",
    "sglang": "AWQ, GPTQ or compressed-tensors",
    "tensorrt-llm": "NVIDIA Model Optimizer's",
}
"""Of quantised checkpoints that an engine reads."""


def published_as(model: str) -> str:
    """The Hugging Face id of a model of the library; its own name where none is known."""
    known = _aliases().get(model, [])
    return next((alias for alias in known if "/" in alias), model)


@cache
def _aliases() -> dict[str, list[str]]:
    found: dict[str, list[str]] = read(library_file("configs/models/aliases.yaml")).value
    return found


@dataclass(frozen=True)
class Checkpoint:
    """What an engine loads on an accelerator."""

    name: str
    """A published id, or that of a checkpoint which `note` describes."""
    quantises: bool = False
    """The engine brings it to fp8 while it loads."""
    note: str = ""


def engines_on(chip: HardwareSpec, scheme: Precision) -> list[str]:
    """The engines that run a precision on an accelerator."""
    # A cache in fp8 asks for kernels as weights in fp8 do.
    asked = [scheme] if scheme.kv_cache.dtype != "fp8" else [scheme, library_precisions()["fp8"]]
    runtimes = library_runtimes()
    return [engine for engine in ENGINES if all(runtimes[engine].supports.runs(chip, each) for each in asked)]


def checkpoint_of(engine: str, chip: HardwareSpec, model: ModelSpec, scheme: Precision) -> Checkpoint:
    """What an engine loads for a precision."""
    published = published_as(model.name)
    if scheme.weights.wide or (model.precision is not None and model.precision.weights == scheme.weights):
        return Checkpoint(published)
    fp8 = scheme.weights.dtype == scheme.activations.dtype == "fp8"
    if fp8 and engine != "tensorrt-llm" and chip.kind == "gpu":
        return Checkpoint(published, quantises=True)
    name = f"{published.rsplit('/', 1)[-1]}-{scheme.name}"
    return Checkpoint(name, note=f"{name} stands for a checkpoint of {published} whose {_formats(scheme)}")


def half(chip: HardwareSpec, scheme: Precision) -> bool:
    """Whether what is not quantised has to be computed in fp16, whatever the checkpoint says."""
    wide = next((form for form in (scheme.activations, scheme.weights, scheme.attention) if form.wide), None)
    return wide is not None and (wide.dtype == "fp16" or "bf16" not in chip.peak_tflops)


def _formats(scheme: Precision) -> str:
    weights = scheme.weights
    grouped = f" in groups of {weights.group_size}" if weights.group_size else ""
    rest = "" if scheme.activations.wide else f" and activations {scheme.activations.dtype}"
    return f"weights are {weights.dtype}{grouped}{rest}"
