"""Contracts every operator keeps, whatever the component: they run on each one registered."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from properties.points import choices, mesh_of

from dse.cost.efficiency import FIDELITIES
from dse.cost.evaluate import columns
from dse.cost.metrics import METRICS, NO_RATE, NO_SLO, ONE_ENGINE
from dse.cost.operators import OPERATORS, works_of
from dse.cost.phases import Point
from dse.cost.setting import Phase, Setting
from dse.cost.work import GROUPS, Amount, Work
from dse.spec.catalog import load_model, model_names
from dse.spec.model import MoE

HIDDEN = 512
PHASES: tuple[Phase, ...] = ("prefill", "decode")
LAYOUTS = ((1,), (2,), (8,), (2, 1, 2, 1), (2, 1, 4, 0))


def _components() -> dict[str, object]:
    """Every distinct kind of component of the library: each registered type, each of its variants."""
    found: dict[str, object] = {}
    for name in model_names():
        for layer in load_model(name).kinds:
            for part in (layer.mixer, layer.ffn):
                if part is not None:
                    values = [(f.name, getattr(part, f.name)) for f in fields(part)]  # type: ignore[arg-type]
                    options = ("window", "chunk", "latent", "indexer")
                    kind = [n for n, v in values if v is True or (n in options and v)]
                    kind += [str(v) for n, v in values if n == "qk_norm"]
                    found.setdefault(f"{type(part).__name__}({', '.join(kind)})", part)
    return found


COMPONENTS = _components()
each_component = pytest.mark.parametrize("component", COMPONENTS.values(), ids=COMPONENTS)
each_phase = pytest.mark.parametrize("phase", PHASES)


def setting(phase: Phase, *, batch: int = 4, layout: tuple[int, ...] = (1,), fused: bool = True) -> Setting:
    """One pass of a batch of prompts of 256 tokens, in bf16."""
    attention = "fused" if fused else "unfused"
    chosen = choices(batch=[batch], workload=((256, 8),), layout=(layout,), attention=attention)
    return Point(load_model("mixtral-8x7b"), chosen, mesh_of(chosen)).setting(phase)


def whole(work: Work, name: str, context: float = 100.0) -> float:
    """An amount of a work at a context."""
    variable = work.times if work.span is None else context
    return float(np.max(getattr(work.fixed, name) + getattr(work.each, name) * variable))


def total(works: list[Work], name: str, context: float = 100.0) -> float:
    return sum(whole(work, name, context) for work in works)


def test_every_registered_operator_is_met_here():
    assert {type(component) for component in COMPONENTS.values()} == set(OPERATORS)


@each_component
@each_phase
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fused", [True, False])
def test_amounts_are_finite_and_never_negative(component, phase, layout, fused):
    works = works_of(component, HIDDEN, setting(phase, layout=layout, fused=fused))
    assert works
    for work in works:
        for part in (work.fixed, work.each):
            for field in fields(Amount):
                assert np.all(np.isfinite(getattr(part, field.name))), (work.name, field.name)
                assert np.all(np.asarray(getattr(part, field.name)) >= 0), (work.name, field.name)
        assert np.all(np.asarray(work.resident) >= 0)
        assert np.all(np.asarray(work.times) > 0)
        assert work.group in GROUPS
        assert (work.message is not None) == (work.group == "collective")


@each_component
def test_names_are_unique_and_kernels_keep_to_one_group(component):
    for phase in PHASES:
        works = works_of(component, HIDDEN, setting(phase))
        assert len({work.name for work in works}) == len(works)
        groups: dict[str, set[str]] = {}
        for work in works:
            groups.setdefault(work.kernel, set()).add(work.group)
        assert all(len(group) == 1 for group in groups.values())


@each_component
@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_held_does_not_depend_on_the_phase(component, layout):
    """MLA holds one matrix, whether it is expanded or absorbed."""
    held = [
        sum(float(np.max(work.resident)) for work in works_of(component, HIDDEN, setting(phase, layout=layout)))
        for phase in PHASES
    ]
    assert held[0] == held[1] > 0


@each_component
def test_alone_a_device_holds_every_parameter(component):
    held = sum(float(np.max(work.resident)) for work in works_of(component, HIDDEN, setting("prefill")))
    assert held == 2 * component.parameters(HIDDEN)  # type: ignore[attr-defined]


@each_component
@each_phase
def test_twice_the_sequences_move_twice_the_activations(component, phase):
    one, two = (works_of(component, HIDDEN, setting(phase, batch=batch)) for batch in (4, 8))
    for name in ("flops", "activations_in", "activations_out", "kv_read", "kv_write"):
        assert total(two, name) == pytest.approx(2 * total(one, name), rel=1e-12), name
    if not isinstance(component, MoE):  # more tokens hit more experts
        assert total(two, "weights") == total(one, "weights")
    else:
        assert total(one, "weights") <= total(two, "weights") <= 2 * total(one, "weights")


@each_component
def test_work_grows_with_the_context_where_it_says_so(component):
    """Affine: the step from 100 to 200 equals that from 200 to 300."""
    works = works_of(component, HIDDEN, setting("decode"))
    for name in ("flops", "activations_in", "activations_out", "kv_read"):
        at = [total(works, name, context) for context in (100.0, 200.0, 300.0)]
        assert at[2] - at[1] == pytest.approx(at[1] - at[0], rel=1e-9, abs=1e-6)
    growing = [work for work in works if work.span is not None]
    assert bool(growing) == (type(component).__name__ in ("Attention", "LatentAttention"))


@each_component
@each_phase
def test_alone_no_collective_costs_anything(component, phase):
    assert not [work for work in works_of(component, HIDDEN, setting(phase)) if work.message is not None]


@each_component
@each_phase
def test_eight_ranks_do_the_work_of_one_between_them(component, phase):
    """Never less: what cannot be shared out is repeated."""
    one = total(works_of(component, HIDDEN, setting(phase)), "flops")
    eight = total(works_of(component, HIDDEN, setting(phase, layout=(8,))), "flops")
    assert one * (1 - 1e-12) <= 8 * eight <= 3 * one


def test_unfused_attention_moves_more_and_computes_no_less():
    component = next(c for name, c in COMPONENTS.items() if name.startswith("Attention"))
    fused, unfused = (works_of(component, HIDDEN, setting("prefill", fused=f)) for f in (True, False))
    assert sum(whole(w, "activations_in") for w in unfused) > sum(whole(w, "activations_in") for w in fused)
    assert total(unfused, "flops") >= total(fused, "flops")
    assert total(unfused, "kv_read") == pytest.approx(total(fused, "kv_read"))


# -- metrics and fidelities -----------------------------------------------------------------------


@pytest.mark.parametrize("name", METRICS)
def test_every_metric_says_what_it_is(name):
    metric = METRICS[name]
    assert metric.name == name
    assert metric.unit
    assert metric.meaning
    assert metric.sense in ("min", "max")


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b", "deepseek-v3.2", "mamba2-2.7b", "gpt-oss-120b"])
def test_every_metric_is_a_number_where_a_point_can_run(model):
    pairs, layouts = ((128, 16), (3000, 100)), ((8,), (4, 2))
    chosen = choices(["h100-sxm"], pairs, ["bf16", "nvfp4"], list(FIDELITIES), layouts, [1, 32])
    chosen = replace(chosen, accuracy={model: (0.0, 0.0)})
    for name, values in columns(load_model(model), chosen, mesh_of(chosen)).items():
        if METRICS[name].absent.startswith((NO_RATE, NO_SLO, ONE_ENGINE)):
            assert np.all(np.isnan(values)), name  # of other servings
            continue
        assert np.all(np.isfinite(values)), name
        assert np.all(values >= 0), name


@pytest.mark.parametrize("name", FIDELITIES)
def test_every_fidelity_covers_every_group(name):
    fidelity = FIDELITIES[name]
    assert set(fidelity.groups) == set(GROUPS)
    for group in fidelity.groups.values():
        assert 0 < group.compute <= 1
        assert 0 < group.memory <= 1
        assert group.fixed_us >= 0
    assert 0 < fidelity.link <= 1


def test_ideal_is_never_slower_than_another_fidelity():
    names = list(FIDELITIES)
    schemes = ["bf16", "w4a16-g128", "fp8"]
    chosen = choices(["h100-sxm", "l4"], ((128, 16),), schemes, names, [(1,), (2,)], [1, 64])
    found = columns(load_model("llama-3.1-8b"), chosen, mesh_of(chosen), ["ttft_ms", "tpot_ms"])
    for values in found.values():
        assert np.all(values[:, :, :, [names.index("ideal")]] <= values)
