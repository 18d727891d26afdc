"""A serving engine: what it adds to the kernels, how it fills its batch, what it can run.

`configs/runtimes.yaml` holds one entry per engine; every figure is shared by all models and accelerators.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import Field

from dse.errors import InputError
from dse.spec.composer import Steps
from dse.spec.formats import PLAIN, Format, library_formats
from dse.spec.hardware import HardwareSpec
from dse.spec.precision import Precision
from dse.spec.reading import Document, build, from_value, library_file, read, show, suggest
from dse.spec.shape import Strict
from dse.spec.shelf import plain_name

Cost = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Factor = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]

FILE = "configs/runtimes.yaml"

WIDE = "wide"
"""Among `Kernels.activations`: not quantised."""

Kind = Literal["draft", "mtp", "eagle", "medusa", "lookup"]
"""What drafts in speculative decoding: a draft model; a module of the model's own for the tokens after next; a trained
head of one layer; trained heads over the vocabulary; no network (n-grams, a datastore, Jacobi iterations)."""


class Accelerators(Strict):
    """Some accelerators; an empty list names all."""

    vendors: tuple[Text, ...] = ()
    """Who makes them."""
    kinds: tuple[Text, ...] = ()
    """gpu, asic, soc, cpu."""
    architectures: tuple[Text, ...] = ()
    """Generations, as hardware files call them; a chip that states none may be of any."""

    def include(self, chip: HardwareSpec) -> bool:
        """Whether an accelerator is one of them."""
        return (
            (not self.vendors or chip.vendor in self.vendors)
            and (not self.kinds or chip.kind in self.kinds)
            and (not self.architectures or chip.architecture in ("", *self.architectures))
        )


class Kernels(Accelerators):
    """Quantised number formats an engine multiplies on these accelerators; an empty list names all."""

    weights: tuple[Text, ...] = ()
    """Element types with scales of any kind (int4, fp8), or formats of the library by name (nvfp4, q4_k_m)."""
    activations: tuple[Text, ...] = ()
    """The same of the activations as the checkpoint states them; `wide`: floats of 16 bits or more."""

    def multiply(self, precision: Precision) -> bool:
        """Whether a scheme is one of these."""
        return _is_one(precision.weights, self.weights) and _is_one(precision.activations, self.activations)


def _is_one(form: Format, words: tuple[str, ...]) -> bool:
    """Whether a format is one of those named; none named: of any.

    A bare element type does not mean formats that mix types (llama.cpp's k-quants, whose bits are an average).
    """
    if not words or (form.wide and WIDE in words):
        return True
    plain = form.element_bits == PLAIN[form.dtype].element_bits
    library = library_formats()
    return any((plain and word == form.dtype) or library.get(word) == form for word in words)


class Supports(Accelerators):
    """What the engine runs; an empty list allows everything."""

    kernels: tuple[Kernels, ...] = ()
    """Quantised schemes by accelerator: one entry must name both. What is not quantised runs on every accelerator."""
    weights: tuple[Text, ...] = ()
    """Element types of the weights it reads, whatever the accelerator: bf16, fp8, int4 ..."""
    layers: tuple[Text, ...] = ()
    """Kinds of layer it has kernels for, by class: Attention, LatentAttention, DeltaNet, Mamba2, MLP, MoE."""
    source: str = ""
    """Where this comes from, with the date."""

    def runs(self, chip: HardwareSpec, precision: Precision) -> bool:
        """Whether it has kernels for a number format on an accelerator."""
        if not self.include(chip) or (self.weights and precision.weights.dtype not in self.weights):
            return False
        if not self.kernels or (precision.weights.wide and precision.activations.wide):
            return True
        return any(one.include(chip) and one.multiply(precision) for one in self.kernels)


class Offloading(Strict):
    """What the engine does with a model that is larger than the accelerator's memory."""

    weights: Literal["best", "fill", "host"] = "best"
    """`best`: weights, cache and activations lie where they serve throughput most, and the host may compute; `fill`: as
    many layers as fit stay on the accelerator, `host`: none, the rest is copied from host memory in every pass. Cache
    and activations then stay on the accelerator, which computes all."""
    overlap: Literal["serial", "pairwise", "full"] = "pairwise"
    """Which copies run beside others and beside kernels, as on the axis of that name."""
    link_share: Share = 1.0
    """Of what page-locked copies reach: less where the engine copies from pageable memory."""
    unpacked_bytes: Cost = 0.0
    """Bytes moved per element to expand quantised weights and cache ahead of the kernels; 0 where these do it."""


class RuntimeSpec(Strict):
    """One serving engine. All costs zero and all factors one: `ideal`, the kernels alone."""

    name: Text = "ideal"
    aliases: tuple[Text, ...] = ()
    """Other spellings; case, space, `_` and `-` do not matter."""
    beside: Literal["datasheet", "calibrated"] = "calibrated"
    """Kernels its figures were fitted beside, and hold beside: `datasheet`, then `calibrated` falls back to those."""
    prefill_slowdown: Factor = 1.0
    """Time of its kernels in prompt passes over that of the fidelity's kernels."""
    decode_slowdown: Factor = 1.0
    """The same in decode steps."""
    step_us: Cost = 0.0
    """Host work per forward pass that the device waits for: scheduling, graph launch, sampling."""
    layer_us: Cost = 0.0
    """Per layer and pass: launches and synchronisation that the kernels' own fixed costs leave out."""
    sequence_us: Cost = 0.0
    """Per sequence and decode step: sampling, detokenising, bookkeeping."""
    collective_us: Cost = 0.0
    """Per collective among tp ranks, beside the time of its message."""
    unpack_prefill: Factor = 1.0
    """Further factor on prompt passes whose weights are stored narrower than they are multiplied."""
    unpack_decode: Factor = 1.0
    """The same on decode steps."""
    attention_vector_share: Share | None = None
    """Share of the vector peak its decode attention reaches where it runs outside the matrix units (the masked
    attention of TensorRT-LLM 0.x, the paged attention of vLLM 0.x); None: on the matrix units."""
    core_gb_per_s: Factor | None = None
    """Bandwidth one core (multiprocessor) draws in its matrix-vector products, GB/s: what keeps small kernels from
    the bandwidth of chips with few cores for their memory; None for no limit."""
    sums: Literal["fp32", "fp16"] = "fp32"
    """Type its fp16 products are summed in: GeForce is twice as fast in fp16."""
    ubatch_tokens: Annotated[int, Field(ge=1)] | None = None
    """Tokens of a prompt that pass the stages of a pipeline together (llama.cpp's n_ubatch): stages then work on parts
    of one prompt at once; None: prompts pass whole."""
    launch_us: Factor | None = None
    """Per layer and pass: host time to issue its kernels one by one, ahead of the device, which waits only where its
    own work is shorter (PyTorch without captured graphs); None: graphs, or launches beside the device's time."""
    speculation_us: dict[Kind, Cost] = Field(default_factory=dict)
    """Per decode iteration, by what drafts (`dse.spec.speculation`): host work to build and check drafts, and to take
    back the cache of what was not accepted, beside the passes."""
    request_ms: Cost = 0.0
    """Per request before its first token: the server's protocol, tokenising, admission."""
    admission_steps: Cost = 0.5
    """Iterations between a request's arrival and its prompt pass: half of one for a queue looked at in every iteration;
    more where the prompt's pass decodes too, or the host runs ahead."""
    prompt_token_us: Cost = 0.0
    """Per prompt token of the same."""
    occupancy: Share = 0.5
    """Share of its output that a running sequence holds or reserves on average when memory limits the batch: 0.5
    where sequences of all ages run together, 1 where the whole output is reserved."""
    max_batch: Annotated[int, Field(ge=1)] | None = None
    """Most sequences it runs at once per rank, whatever the memory; None for no limit."""
    busy: Share = 1.0
    """Share of the time its slots are filled at maximum throughput: ramp, tail and gaps between requests."""
    lockstep: Share = 0.0
    """Share of the requests of a closed loop that wait behind all others: they start, and so end, together."""
    hidden: Share = 0.0
    """Share of a decode step that a prompt pass in the same iteration hides (mixed batches read weights once)."""
    kv_of_quantised: str | None = None
    """Format of the KV cache where weights are quantised and nothing is said; None: that of the activations."""
    priors: dict[str, Factor] = Field(default_factory=dict)
    """Figure -> what it is before measurement, where the general prior (`dse.calibrate.engines`) is wrong."""
    generation_of: Text | None = None
    """The engine of which this is an older generation."""
    versions: tuple[Text, ...] = ()
    """Beginnings of the version numbers of this generation."""
    until: Annotated[str, Field(pattern=r"^(\d{4}-\d\d-\d\d)?$")] = ""
    """Day the next generation was released: what was published before ran this one, or one before it."""
    sources: tuple[Text, ...] = ()
    """Collections of measurements that ran this generation though neither version nor date tells."""
    supports: Supports = Supports()
    offloading: Offloading = Offloading()
    source: str = ""
    """Where the figures come from."""
    notes: str = ""


IDEAL = RuntimeSpec(source="no engine; the kernels of the fidelity alone", notes="the default of every sweep")
"""No engine: as in the file of all, which most sweeps need not read then."""


def load_runtime(entry: Any, document: Document | None = None, at: Steps = ()) -> RuntimeSpec:
    """The runtime a user means by a name, an alias, the path of a file of one, or a mapping with `base` and changes.

    Raises:
        InputError: unknown name, or all faults of the mapping.
    """
    if isinstance(entry, RuntimeSpec):
        return entry
    if document is None:
        document = from_value(entry)
        entry, at = document.value, ()
    if isinstance(entry, str):
        with document.at(at):
            return _named(entry)
    if not isinstance(entry, Mapping):
        raise InputError(document.fault(at, f"expected a runtime's name or a mapping with base, got {show(entry)}"))
    own = dict(entry)
    base: dict[str, Any] = {}
    if isinstance(own.get("base"), str):
        with document.at((*at, "base")):
            base = _named(own.pop("base")).model_dump(exclude={"aliases", "source"})
        base["name"] += "+"
    return build(RuntimeSpec, document, base | own, at)


def runtime_names() -> list[str]:
    """Every runtime that has a name, in the order of the file."""
    return list(library_runtimes())


@cache
def library_runtimes() -> Mapping[str, RuntimeSpec]:
    """The runtimes of `configs/runtimes.yaml` by name."""
    return _runtimes(read(library_file(FILE)))


def _runtimes(document: Document) -> dict[str, RuntimeSpec]:
    """The runtimes of a file by name."""
    if not isinstance(document.value, Mapping):
        raise InputError(document.fault((), f"expected runtimes by name, got {show(document.value)}"))
    return {
        name: build(RuntimeSpec, document, {"name": name, **(entry or {})}, (name,))
        for name, entry in document.value.items()
    }


def _of_file(path: str) -> RuntimeSpec:
    """The one runtime of a user's file (`dse validate RESULTS.json --fit FILE` writes such)."""
    found = _runtimes(read(path))
    if len(found) != 1:
        raise InputError(f"{path}: expected one runtime, got {len(found)}: {', '.join(found) or 'none'}")
    return next(iter(found.values()))


def generation(engine: RuntimeSpec, version: str = "", date: str = "", source: str = "") -> RuntimeSpec:
    """The generation of an engine that a measurement ran: by its version, else its date, else by who measured.

    Args:
        engine: the newest generation.
        version: `v0.9.0`, `vllm 0.11.2`; what is no number of the engine's (a commit, `vllm nan`) tells nothing.
        date: of the run or its publication, `2024`, `2024-03` or `2024-03-05`. A publication follows its run, by a
            year now and then, so only a date before a generation's end tells.
        source: the collection of measurements.
    """
    older = [spec for spec in library_runtimes().values() if spec.generation_of == engine.name]
    number = _release(version, engine)
    if number:
        return next((spec for spec in older if any(_begins(number, start) for start in spec.versions)), engine)
    if _DATE.fullmatch(date):
        last = date + "-12-31"[len(date) - 4 :]  # the latest day it can mean; "31" for a shorter month orders alike
        over = [spec for spec in older if last < spec.until]
        if over:
            return min(over, key=lambda spec: spec.until)
    return next((spec for spec in older if source in spec.sources), engine)


_DATE = re.compile(r"\d{4}(-\d\d(-\d\d)?)?")
_RELEASE = re.compile(r"(?P<engine>.*?)\s*\bv?(?P<number>\d+(\.\d+)+)\S*")


def _release(version: str, engine: RuntimeSpec) -> tuple[int, ...]:
    """A version as numbers; empty where it is none of the engine's."""
    found = _RELEASE.fullmatch(version.strip())
    words = {"", *(plain_name(word) for word in (engine.name, *engine.aliases))}
    if found is None or plain_name(found["engine"]) not in words:
        return ()
    return tuple(map(int, found["number"].split(".")))


def _begins(number: tuple[int, ...], start: str) -> bool:
    parts = tuple(map(int, re.findall(r"\d+", start)))
    return number[: len(parts)] == parts


def _named(name: str) -> RuntimeSpec:
    if name.endswith((".yaml", ".yml")):
        return _of_file(name)
    if plain_name(name) == IDEAL.name:
        return IDEAL
    library = library_runtimes()
    spelled = {plain_name(word): spec for spec in library.values() for word in (spec.name, *spec.aliases)}
    if plain_name(name) not in spelled:
        hint = suggest(name, spelled) or f"; expected one of {', '.join(library)}"
        raise InputError(f"unknown runtime {show(name)}{hint}")
    return spelled[plain_name(name)]
