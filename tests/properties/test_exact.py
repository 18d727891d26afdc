"""What must hold to the last bit: mesh and points, slices, numbers; and closed forms against plain sums."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from properties.points import ASKED, choices, figures, flat_mesh_of, mesh_of

from dse.cost.choices import AXES
from dse.cost.collectives import Links, seconds
from dse.cost.evaluate import Question, columns, score
from dse.cost.mesh import Mesh
from dse.cost.metrics import METRICS
from dse.cost.operators.moe import distinct_experts
from dse.cost.roofline import Contexts, mean_of_maximum
from dse.cost.techniques import TECHNIQUES
from dse.cost.work import Span
from dse.run.rows import complete
from dse.run.score import Engine
from dse.run.sweep import load_sweep
from dse.search.space import slices, tasks
from dse.spec.catalog import load_model

MODELS = ("llama-3.1-8b", "opt-350m", "gemma-2-2b", "mixtral-8x7b", "deepseek-v3.2", "gpt-oss-20b", "llama-4-scout",
          "qwen3-next-80b-a3b", "nemotron-3-nano-30b-a3b", "mamba2-2.7b")  # fmt: skip

ALL = {
    "hardware": ("l4", "h100-sxm", "gb200", "tpu-v5e"),
    "workload": ((100, 1), (100, 20), (1024, 20), (1024, 300), (9000, 7)),
    "precision": ("bf16", "fp8", "w4a16-g128"),
    "fidelity": ("ideal", "datasheet"),
    "layout": ((1,), (8,), (16,), (2, 3), (1, 4, 2, 0), (2, 1, 4, 0), (2, 1, 4, 2)),
    "batch": (1, 7, 200),
}


@pytest.mark.parametrize("model", MODELS)
def test_an_open_mesh_equals_single_points_bit_for_bit(model):
    """Every metric and every status, over all axes at once."""
    chosen, spec = choices(**ALL), load_model(model)
    mesh, flat = columns(spec, chosen, mesh_of(chosen)), columns(spec, chosen, flat_mesh_of(chosen))
    for name in METRICS:
        assert np.array_equal(mesh[name].ravel(), flat[name], equal_nan=True), name
    on_mesh, on_points = (score(spec, chosen, m, ASKED) for m in (mesh_of(chosen), flat_mesh_of(chosen)))
    assert np.array_equal(on_mesh.status.ravel(), on_points.status)
    for whole, single in zip(on_mesh.costs, on_points.costs, strict=True):
        whole, single = (np.broadcast_to(c, m.shape) for c, m in ((whole, on_mesh.status), (single, on_points.status)))
        assert np.array_equal(whole.ravel(), single, equal_nan=True)


@pytest.mark.parametrize("model", ["gemma-2-2b", "deepseek-v3.2"])
@pytest.mark.parametrize(
    "techniques",
    [
        {"prefix_hit": {"tokens": 96, "cascade": True}, "sampling": {"n": 3}},
        {"speculation": {"mtp": 2, "accepted": 1.3, "trained": True}, "prefix_hit": 0.5},
        {"speculation": {"draft": "llama-3.2-1b", "acceptance": [0.8, 0.6]}, "sampling": {"n": 2}},
        {"speculation": {"tree": 8, "medusa": 3, "tau": 2.0}, "serving": "offline"},
        {"speculation": {"tree": 8, "eagle": 3, "tau": 2.5}, "serving": "closed-loop"},
    ],
    ids=str,
)
def test_so_it_does_under_techniques_that_change_requests(model, techniques):
    given = {name: TECHNIQUES[name].parse(v) if name in TECHNIQUES else v for name, v in techniques.items()}
    fewer = {"hardware": ("gb200",), "fidelity": ("datasheet",), "precision": ("fp8",)}
    chosen, spec = choices(**{**ALL, **fewer}, **given), load_model(model)
    mesh, flat = columns(spec, chosen, mesh_of(chosen)), columns(spec, chosen, flat_mesh_of(chosen))
    for name in METRICS:
        assert np.array_equal(mesh[name].ravel(), flat[name], equal_nan=True), name


@pytest.mark.parametrize("model", ["llama-3.1-8b", "deepseek-v3.2", "llama-4-scout"])
def test_scores_that_are_written_out_take_the_memory_of_their_own_context(model):
    """Prompts of one length share what they need; the last decode step of each does not."""
    axes = {"workload": ((16, 2), (16, 20000), (64, 10)), "batch": (1, 256), "attention": "unfused"}
    chosen, spec = choices(**axes), load_model(model)
    mesh, flat = columns(spec, chosen, mesh_of(chosen)), columns(spec, chosen, flat_mesh_of(chosen))
    for name in METRICS:
        assert np.array_equal(mesh[name].ravel(), flat[name], equal_nan=True), name


@pytest.mark.parametrize("model", MODELS[:6])
def test_a_block_equals_its_part_of_the_whole(model):
    chosen, spec = choices(**ALL), load_model(model)
    whole = columns(spec, chosen, mesh_of(chosen))
    for seed in range(6):
        draw = np.random.default_rng(seed)
        block = [slice(a, draw.integers(a, size) + 1) for size in chosen.shape for a in [draw.integers(0, size)]]
        part = columns(spec, chosen, Mesh.open(AXES, block))
        for name in METRICS:
            assert np.array_equal(part[name], whole[name][tuple(block)], equal_nan=True), name


def test_the_status_is_what_the_columns_say():
    chosen, spec = choices(**ALL), load_model("mixtral-8x7b")
    bounds = {"ttft_ms": (None, 900.0), "usd_per_hour": (None, 1e9), "tpot_ms": (5.0, 60.0)}
    bounds |= {"accuracy_drop_pct": (None, 1.0)}
    chosen.accuracy["mixtral-8x7b"] = (0.0, 0.5, 2.0)  # type: ignore[index]
    question = Question(("output_tokens_per_s", "joules_per_output_token"), bounds)
    got = np.array(question.reasons)[score(spec, chosen, mesh_of(chosen), question).status]
    found = columns(spec, chosen, mesh_of(chosen))
    structure = np.array(question.reasons[: question.reasons.index("exceeds_memory")][1:])
    limit = np.broadcast_to(0.9e-9 * mesh_of(chosen).take(chosen.of_hardware("memory_bytes"), "hardware"), got.shape)
    for index in np.ndindex(got.shape):
        reason = str(got[index])
        if reason in structure:
            continue
        expected = "ok"
        if found["memory_gb_per_device"][index] > limit[index]:
            expected = "exceeds_memory"
        else:
            names = (*question.objectives, *bounds)
            undefined = [name for name in names if np.isnan(found[name][index])]
            broken = [
                name
                for name, (least, most) in bounds.items()
                if not (least or 0.0) <= found[name][index] <= (most or np.inf)
            ]
            if undefined:
                expected = f"undefined:{undefined[0]}"
            elif broken:
                expected = f"constraint:{broken[0]}"
        assert reason == expected, index


SWEEP = {
    "name": "properties", "models": ["llama-3.1-8b", "mixtral-8x7b"], "hardware": ["h100-sxm", "l4", "mi300x"],
    "precision": ["bf16", "fp8"], "workload": ["100x20", "2000x64"], "batch": [1, 4, 64],
    "parallel": {"tp": [1, 2], "pp": [1, 2], "dp": [1, 2], "ep": "auto"},
    "attention": ["fused", "unfused"], "constraints": {"tpot_ms": {"max": 40}},
}  # fmt: skip


@pytest.fixture(scope="module")
def engine():
    return Engine(load_sweep(SWEEP))


@given(st.data())
@settings(max_examples=30, deadline=None)
def test_a_point_is_its_number(engine, data):
    number = data.draw(st.integers(0, engine.space.size - 1))
    box, local = engine.space.locate(number)
    place = engine.space.boxes[int(box)]
    assert int(place.encode(place.decode(local))) + place.offset == number


@pytest.mark.parametrize("cells", [1, 7, 64, 1000, 250_000])
def test_slicing_changes_nothing(engine, cells):
    """Fronts, counts and nearest misses, whatever the size of a slice; points come once each, in order."""
    assert [n for box in engine.space.boxes for block in slices(box, cells) for n in box.numbers(block)] == list(
        range(engine.space.size)
    )
    if cells == 1:
        return
    tallies = []
    for size in (cells, 250_000):
        parts = [engine.tally(part) for part in tasks(engine.space, points=max(2 * size, 1), cells=size)]
        total, *others = parts[::-1]
        for other in others:
            total.merge(other)
        tallies.append(total)
    one, other = tallies
    assert one.statuses == other.statuses
    assert one.feasible == other.feasible
    assert one.nearest == other.nearest
    assert one.points == engine.space.size
    ours, theirs = ({group: (n.tolist(), c.tolist()) for group, (n, c) in t.front.fronts().items()} for t in tallies)
    assert ours == theirs


def test_kept_points_repeat_the_mesh_pass_to_the_last_bit(engine):
    """Memory, objectives and status of rows equal those of the mesh they were found on."""
    question = engine.sweep.question
    rows = complete(engine, range(engine.space.size))
    for index, box in enumerate(engine.space.boxes):
        for block in slices(box, 50):
            model, *rest = block
            mesh, chosen = Mesh.open(AXES, rest), engine.sweep.choices_of(index, model.start)
            spec = engine.sweep.models[model.start]
            numbers = list(box.numbers(block))
            scores = score(spec, chosen, mesh, question)
            assert [rows["status"][n] for n in numbers] == [question.reasons[code] for code in scores.status.ravel()]
            found = columns(spec, chosen, mesh, ["memory_gb_per_device", *question.objectives])
            for name, values in found.items():
                kept = np.array([rows[name][n] for n in numbers])
                assert np.array_equal(kept, values.ravel(), equal_nan=True), name


# -- closed forms ---------------------------------------------------------------------------------

lines = st.tuples(st.floats(0, 1e3), st.floats(0, 10))
spans = st.sampled_from(("all", "window", "chunk"))


@given(lines, lines, st.integers(1, 5000), st.integers(0, 3000), spans, st.integers(1, 3000))
@settings(max_examples=400, deadline=None)
def test_the_mean_of_a_maximum_is_the_explicit_sum(a, b, first, more, kind, length):
    n = np.arange(first, first + more + 1, dtype=float)
    span = {"all": Span(), "window": Span(window=length), "chunk": Span(chunk=length)}[kind]
    seen = {"all": n, "window": np.minimum(n, length), "chunk": (n - 1) % length + 1}[kind]
    expected = np.maximum(a[0] + a[1] * seen, b[0] + b[1] * seen).sum() / len(n)
    one, last = np.array([float(first)]), np.array([float(first + more)])
    (a0, a1), (b0, b1) = (tuple(np.array([value]) for value in line) for line in (a, b))
    with np.errstate(over="ignore"):  # lines that differ by next to nothing
        found = mean_of_maximum((a0, a1), (b0, b1), span, Contexts(one, last))
    assert float(found[0]) == pytest.approx(expected, rel=1e-11, abs=1e-300)


@given(st.integers(1, 400), st.integers(1, 600), st.floats(0.01, 0.99), spans)
@settings(max_examples=200, deadline=None)
def test_a_crossing_inside_the_steps_is_met_exactly(first, more, where, kind):
    """Two lines that cross between the first and the last context, also at a whole one."""
    cross = first + round(where * more)
    length = max(cross + 3, 2)
    span = {"all": Span(), "window": Span(window=length), "chunk": Span(chunk=length)}[kind]
    n = np.arange(first, first + more + 1, dtype=float)
    seen = {"all": n, "window": np.minimum(n, length), "chunk": (n - 1) % length + 1}[kind]
    for shift in (0.0, 0.5):
        a, b = (0.0, 2.0), (cross + shift, 1.0)
        expected = np.maximum(a[0] + a[1] * seen, b[0] + b[1] * seen).mean()
        for x, y in ((a, b), (b, a)):
            arrays = [tuple(np.array([v]) for v in line) for line in (x, y)]
            contexts = Contexts(np.array([float(first)]), np.array([float(first + more)]))
            found = mean_of_maximum(arrays[0], arrays[1], span, contexts)  # type: ignore[arg-type]
            assert float(found[0]) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("experts", "top_k", "tokens", "drawn"),
    [(8, 2, 4, 5.45), (128, 8, 64, 125.93), (256, 8, 32, 163.5), (384, 8, 64, 284.5)],
)
def test_distinct_experts_are_those_of_a_draw(experts, top_k, tokens, drawn):
    """The published Monte-Carlo figures, and a draw of our own."""
    found = float(distinct_experts(experts, top_k, np.array([float(tokens)]))[0])
    assert found == pytest.approx(drawn, rel=0.005)
    draw = np.random.default_rng(1)
    picks = draw.random((400, tokens, experts)).argpartition(top_k, axis=2)[:, :, :top_k].reshape(400, -1)
    hit = np.mean([len(np.unique(row)) for row in picks])
    assert found == pytest.approx(hit, rel=0.01)


def test_one_token_hits_its_own_experts_and_many_hit_all():
    assert distinct_experts(64, 6, np.array([1.0]))[0] == pytest.approx(6)
    assert distinct_experts(64, 6, np.array([0.0]))[0] == 0
    assert distinct_experts(64, 6, np.array([1e6]))[0] == 64


@given(st.integers(1, 600), st.floats(1, 1e10), st.sampled_from((1, 2, 8)))
@settings(max_examples=100, deadline=None)
def test_a_collective_alone_is_free_and_among_several_is_not(ranks, size, stride):
    chosen = choices(["h100-sxm", "gb200", "rtx-4090"], fidelity=["datasheet"])
    links = Links.on(mesh_of(chosen), chosen)
    for collective in (links.all_reduce, links.all_gather, links.all_to_all):
        assert np.all(seconds(collective(np.array(1.0), stride), np.array(size)) == 0)
        if ranks > 1:
            assert np.all(seconds(collective(np.array(float(ranks)), stride), np.array(size)) > 0)


def test_a_ring_is_the_textbook_one():
    """2 (N-1)/N K/gamma inside a domain, large K."""
    chosen = choices(["h100-sxm"], fidelity=["ideal"])
    found = seconds(Links.on(mesh_of(chosen), chosen).all_reduce(np.array(8.0)), np.array(1e9)).item()
    assert found == pytest.approx(2 * 7 / 8 * 1e9 / 450e9)


def test_figures_of_single_points_do_not_depend_on_their_company():
    chosen = choices(**ALL)
    together = columns(load_model("gemma-2-2b"), chosen, flat_mesh_of(chosen))
    at = np.indices(chosen.shape).reshape(len(AXES), -1)
    for i in range(0, at.shape[1], 211):
        alone = columns(load_model("gemma-2-2b"), chosen, Mesh.points(AXES, [axis[i : i + 1] for axis in at]))
        for name in METRICS:
            assert np.array_equal(alone[name], together[name][i : i + 1], equal_nan=True), name


def test_the_neutral_layout_needs_no_network():
    """Alone, an accelerator's links do not matter."""
    fast = figures("mixtral-8x7b", choices(["h100-sxm", "h100-pcie"]), "devices")
    assert np.all(fast["devices"] == 1)
