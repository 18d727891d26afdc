"""A resolved sweep as plain values and back: what its hash covers and its manifest embeds.

The manifest holds all a result rests on, so that a point of a run can be computed again on another machine,
and after the library has moved on.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any

from dse.cost import COST_MODEL
from dse.cost.evaluate import Question
from dse.errors import CannotRun, InputError
from dse.run.axes import NAMED, Axes, PoolAxes
from dse.search.space import Layout
from dse.spec import layers
from dse.spec.accuracy import AccuracyDrop
from dse.spec.bands import error_models
from dse.spec.hardware import HardwareSpec
from dse.spec.lengths import Length
from dse.spec.model import ModelSpec
from dse.spec.precision import Format, Precision
from dse.spec.prefix import Prefix
from dse.spec.reading import Document, build
from dse.spec.runtime import RuntimeSpec
from dse.spec.sampling import Sampling
from dse.spec.shape import Strict
from dse.spec.speculation import Speculation
from dse.spec.sweep import NATIVE
from dse.spec.workload import Workload

if TYPE_CHECKING:
    from dse.run.resolve import Drops, Settings, Sweep

Plain = dict[str, Any]

_TAG = "class"
_CLASSES: dict[str, Any] = {
    cls.__name__: cls
    for cls in (
        layers.Attention, layers.DeltaNet, layers.Indexer, layers.LatentAttention, layers.Layer,
        layers.Mamba2, layers.MLP, layers.MoE, Format, Precision, Prefix, Sampling, Speculation,
    )
}  # fmt: skip


def content(sweep: Sweep) -> Plain:
    """All a result rests on, as JSON could hold it."""
    settings = sweep.settings
    return {
        "cost_model": COST_MODEL,
        **_axes(sweep.axes),
        "accuracy": _accuracy(sweep.models, sweep.accuracy),
        **({"prefill_accuracy": _accuracy(sweep.models, sweep.prefill_accuracy)} if sweep.prefill_accuracy else {}),
        "error_bands": {name: model.model_dump(mode="json") for name, model in error_models().items()},
        "settings": {
            "max_prefill_tokens": _limit(settings.max_prefill_tokens),
            "kv_block_size": settings.kv_block_size,
            "memory_utilization": settings.memory_utilization,
            "host_utilization": settings.host_utilization,
            "overlap": settings.overlap,
            "price_kind": settings.price_kind,
            "price_override": dict(settings.price_override),
            "burstiness": settings.burstiness,
            "slo": dict(settings.slo),
        },
        "constraints": {name: list(bound) for name, bound in sweep.question.constraints.items()},
        "objectives": list(sweep.question.objectives),
        "group_by": list(sweep.group_by),
        "current": None if sweep.current is None else _axes(sweep.current.axes),
        "keep": sweep.keep,
    }


def digest(resolved: Plain) -> str:
    """Twelve hexadecimal digits that tell one content from another, whatever models, chips and schemes are called."""
    text = json.dumps(_nameless(resolved), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def _nameless(value: Any, *, named: bool = False) -> Any:
    """The content without the names of what it holds, which change no result."""
    if isinstance(value, Mapping):
        kept = {key: item for key, item in value.items() if not (named and key in _UNREAD)}
        return {key: _nameless(item, named=named or key in _NAMED) for key, item in kept.items()}
    if isinstance(value, list):
        return [_nameless(item, named=named) for item in value]
    return value


_UNREAD = ("name", "notes", "aliases")
_NAMED = ("models", "hardware", "precision", "accuracy", "prefill_accuracy", "runtime", "speculation", "workload")
"""What is told by names and identified without them."""


def _axes(axes: Axes) -> Plain:
    return {
        "models": [_model(model) for model in axes.models],
        "hardware": [chip.model_dump(mode="json") for chip in axes.hardware],
        "changes": [dict(changed) for changed in axes.changes],
        "precision": [_scheme(scheme) for scheme in axes.precision],
        "workload": [_workload(shape) for shape in axes.workload],
        "layout": [list(layout) for layout in axes.layout],
        "batch": list(axes.batch),
        "rate": list(axes.rate),
        **{axis: [encode(value) for value in getattr(axes, axis)] for axis in NAMED if axis != "runtime"},
        "runtime": [runtime.model_dump(mode="json") for runtime in axes.runtime],
        **({} if axes.pools is None else {"pools": _pools(axes.pools, arrivals=bool(axes.rate))}),
    }


def _workload(shape: Workload) -> Any:
    """A pair as such; a distribution with its pairs."""
    if not shape.lengths:
        return [shape.input, shape.output]
    return {"name": shape.label, "input": shape.input, "output": shape.output, "lengths": [*map(list, shape.lengths)]}


def _restore_workload(plain: Any) -> Workload:
    if isinstance(plain, list):
        return Workload(*plain)
    lengths = tuple(Length(*node) for node in plain["lengths"])
    return Workload(plain["input"], plain["output"], lengths, plain["name"])


def _pools(pools: PoolAxes, *, arrivals: bool) -> Plain:
    return {
        # Versions that had no pools at a rate left out its axis: the same file meant other points.
        **({"arrivals": True} if arrivals else {}),
        "hardware": [chip.model_dump(mode="json") for chip in pools.hardware],
        "precision": [_scheme(scheme) for scheme in pools.precision],
        "layout": [list(layout) for layout in pools.layout],
        "batch": list(pools.batch),
        "decode_batch": list(pools.decode_batch),
        "devices": pools.devices,
        "max_workers": pools.max_workers,
        "fill": pools.fill,
    }


def _scheme(scheme: Precision | None) -> Any:
    return NATIVE if scheme is None else encode(scheme)


def _accuracy(models: Sequence[ModelSpec], accuracy: Drops) -> list[Plain]:
    return [
        {"name": model.name, "drops": [_drop(drop) for drop in drops]}
        for model, drops in zip(models, accuracy, strict=True)
    ]


def _drop(drop: AccuracyDrop) -> Plain:
    pct = None if math.isnan(drop.pct) else drop.pct
    return {"pct": pct, "evidence": drop.evidence, "source": drop.source}


def _model(model: ModelSpec) -> Plain:
    """A model; its distinct layers once, and the order as (index of the layer, how many in a row)."""
    position = {layer: index for index, layer in enumerate(model.kinds)}
    order = [[index, len(list(run))] for index, run in groupby(position[layer] for layer in model.layers)]
    own = {item.name: encode(getattr(model, item.name)) for item in fields(model) if item.name != "layers"}
    return {**own, "layers": [encode(layer) for layer in model.kinds], "order": order}


def encode(value: Any) -> Any:
    """A specification as plain values: classes become mappings that name them."""
    if isinstance(value, ModelSpec):
        return {_TAG: ModelSpec.__name__, **_model(value)}
    if isinstance(value, Strict):
        return {_TAG: type(value).__name__, **value.model_dump(mode="json")}
    if is_dataclass(value):
        own = {item.name: encode(getattr(value, item.name)) for item in fields(value)}
        return {_TAG: type(value).__name__, **own}
    return [encode(item) for item in value] if isinstance(value, tuple) else value


def decode(value: Any) -> Any:
    """The specification that `encode` wrote."""
    if isinstance(value, Mapping) and _TAG in value:
        own = {name: item for name, item in value.items() if name != _TAG}
        if value[_TAG] == ModelSpec.__name__:
            return _restore_model(own)
        return _CLASSES[value[_TAG]](**{name: decode(item) for name, item in own.items()})
    return tuple(decode(item) for item in value) if isinstance(value, list) else value


def restore(name: str, resolved: Plain) -> Sweep:
    """The sweep of a manifest; without `current`, whose rows the manifest has.

    Raises:
        CannotRun: it was written by another version of the cost model, or by hand.
    """
    from dse.run.resolve import Sweep

    if resolved.get("cost_model") != COST_MODEL:
        raise CannotRun(f"{name}: the cost model has changed since this run; run the sweep again")
    try:
        return Sweep(
            name=name,
            axes=_restore_axes(resolved),
            accuracy=_restore_accuracy(resolved["accuracy"]),
            prefill_accuracy=_restore_accuracy(resolved.get("prefill_accuracy", [])),
            settings=_restore_settings(resolved["settings"]),
            question=Question(
                tuple(resolved["objectives"]),
                {metric: (bound[0], bound[1]) for metric, bound in resolved["constraints"].items()},
            ),
            group_by=tuple(resolved["group_by"]),
            keep=resolved["keep"],
        )
    except (KeyError, TypeError, IndexError, InputError) as error:
        raise CannotRun(f"{name}: its manifest is damaged ({error}); run the sweep again") from None


def _restore_axes(resolved: Plain) -> Axes:
    return Axes(
        models=tuple(_restore_model(model) for model in resolved["models"]),
        hardware=_restore_hardware(resolved),
        changes=tuple(resolved["changes"]),
        precision=_restore_precision(resolved),
        workload=tuple(map(_restore_workload, resolved["workload"])),
        layout=_restore_layout(resolved),
        batch=tuple(resolved["batch"]),
        rate=tuple(resolved["rate"]),
        runtime=tuple(build(RuntimeSpec, Document("", runtime)) for runtime in resolved["runtime"]),
        **{axis: tuple(decode(value) for value in resolved[axis]) for axis in NAMED if axis != "runtime"},
        pools=_restore_pools(resolved["pools"]) if "pools" in resolved else None,
    )


def _restore_pools(plain: Plain) -> PoolAxes:
    return PoolAxes(
        hardware=_restore_hardware(plain),
        precision=_restore_precision(plain),
        layout=_restore_layout(plain),
        batch=tuple(plain["batch"]),
        decode_batch=tuple(plain["decode_batch"]),
        devices=plain["devices"],
        max_workers=plain["max_workers"],
        fill=plain["fill"],
    )


def _restore_hardware(plain: Plain) -> tuple[HardwareSpec, ...]:
    return tuple(build(HardwareSpec, Document("", chip)) for chip in plain["hardware"])


def _restore_precision(plain: Plain) -> tuple[Precision | None, ...]:
    return tuple(None if scheme == NATIVE else decode(scheme) for scheme in plain["precision"])


def _restore_layout(plain: Plain) -> tuple[Layout, ...]:
    return tuple(Layout(*degrees) for degrees in plain["layout"])


def _restore_model(plain: Plain) -> ModelSpec:
    kinds = [decode(layer) for layer in plain["layers"]]
    order = chain.from_iterable([kinds[index]] * count for index, count in plain["order"])
    own = {name: decode(value) for name, value in plain.items() if name not in ("layers", "order")}
    return ModelSpec(**own, layers=tuple(order))


def _restore_accuracy(plain: list[Plain]) -> Drops:
    return tuple(
        tuple(
            AccuracyDrop(math.nan if drop["pct"] is None else drop["pct"], drop["evidence"], drop["source"])
            for drop in model["drops"]
        )
        for model in plain
    )


def _restore_settings(plain: Plain) -> Settings:
    from dse.run.resolve import Settings

    limit = plain["max_prefill_tokens"]
    return Settings(**{**plain, "max_prefill_tokens": math.inf if limit == "unlimited" else limit})


def _limit(tokens: float) -> float | str:
    return "unlimited" if math.isinf(tokens) else tokens
