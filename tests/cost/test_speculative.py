"""Speculative decoding: a wide pass of the model, the passes that draft, the tokens gained, and up to which batch."""

from __future__ import annotations

import math
from itertools import accumulate
from operator import mul

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from properties.points import choices, figures, mesh_of

import dse
from dse.cost.breakdown import timed_operators
from dse.cost.engine import step_seconds
from dse.cost.memory import Memory
from dse.cost.metrics import METRICS
from dse.cost.modes import served
from dse.cost.operators.moe import distinct_experts
from dse.cost.phases import Point
from dse.cost.roofline import mean_amount
from dse.cost.speculative import break_even_batch, speedup
from dse.spec.runtime import IDEAL, RuntimeSpec
from dse.spec.sampling import Sampling
from dse.spec.speculation import Speculation, drafter_of, load_speculation

DRAFT = {"draft": "llama-3.2-1b", "gamma": 4, "acceptance": 0.8}
MTP = {"mtp": 1, "accepted": 0.85}
TRAINED = MTP | {"trained": True}
EAGLE = {"tree": 26, "eagle": 5, "tau": 3.6}
MEDUSA = {"tree": 64, "medusa": 4, "tau": 2.3}
LOOKUP = {"tree": 11, "tau": 1.75}


def point(model: str = "llama-3.1-70b", how: object = None, batch: int = 8, **axes: object) -> Point:
    given = {} if how is None else {"speculation": load_speculation(how)}
    chosen = choices(
        **{"workload": ((1024, 256),), "layout": ((8,),), "precision": ("fp8",), **axes}, batch=(batch,), **given
    )
    return Point(dse.load_model(model), chosen, mesh_of(chosen))


def one(value: object) -> float:
    return float(np.ravel(np.asarray(value))[0])


def test_one_token_verified_and_none_drafted_is_plain_decoding():
    axes = {"workload": ((900, 40), (5000, 1)), "layout": ((1,), (8,), (2, 2)), "batch": (1, 64)}
    nothing = load_speculation({"tree": 1, "tau": 1})
    for model in ("llama-3.1-8b", "deepseek-v3", "nemotron-h-56b"):
        plain, same = figures(model, choices(**axes)), figures(model, choices(**axes, speculation=nothing))
        for name in METRICS.keys() - {"speculation_break_even_batch"}:
            assert np.array_equal(plain[name], same[name], equal_nan=True), name


def test_an_iteration_is_the_drafts_and_one_wide_pass():
    plain, found = point(), point(how=DRAFT)
    draft = point("llama-3.2-1b")  # the same sequences, ranks and formats
    assert one(found.draft.step) == one(draft.step)
    assert one(found.iteration_seconds) == pytest.approx(one(found.step) + 4 * one(draft.step))
    assert one(found.tpot) == pytest.approx(one(found.iteration_seconds) / (1 + 0.8 + 0.8**2 + 0.8**3 + 0.8**4))
    assert one(found.ttft) == pytest.approx(one(plain.ttft) + one(draft.ttft))


def test_the_pass_reads_weights_and_cache_once_and_computes_every_token():
    width = 5
    narrow, wide = (
        {work.name: mean_amount(work, p.contexts) for works in p.works("decode") for work in works}
        for p in (point(), point(how=DRAFT))
    )
    for name in ("q_proj", "down_proj", "lm_head"):
        assert one(wide[name].weights) == one(narrow[name].weights)
        assert one(wide[name].flops) == pytest.approx(width * one(narrow[name].flops))
    context = 1024 + 256 / 2
    assert one(wide["attention"].kv_read) / one(narrow["attention"].kv_read) == pytest.approx(1 + (width - 1) / context)
    assert one(wide["attention"].flops) / one(narrow["attention"].flops) == pytest.approx(
        width * (1 + (width - 1) / 2 / context)
    )
    assert one(wide["k_proj"].kv_write) == pytest.approx(width * one(narrow["k_proj"].kv_write))


def test_experts_that_are_touched_grow_with_the_tokens_verified():
    plain, found = point("deepseek-v3"), point("deepseek-v3", MTP)
    read = [
        one(next(w for works in p.works("decode") for w in works if w.name == "experts_up").fixed.weights)
        for p in (plain, found)
    ]
    assert read[1] / read[0] == pytest.approx(
        float(distinct_experts(256, 8, np.array(16.0))) / float(distinct_experts(256, 8, np.array(8.0)))
    )


def test_a_recurrent_state_is_written_and_held_after_each_token():
    plain, found = point("qwen3-next-80b-a3b"), point("qwen3-next-80b-a3b", {"mtp": 2, "accepted": 1.2})
    scan = [
        next(w for works in p.works("decode") for w in works if w.name == "delta_rule").each for p in (plain, found)
    ]
    assert one(scan[1].kv_write) == 3 * one(scan[0].kv_write)
    assert one(scan[1].kv_read) == one(scan[0].kv_read)
    states = [one(Memory(p).cache_at(np.zeros(1))) for p in (plain, found)]
    assert states[1] == pytest.approx(3 * states[0])


def test_what_drafts_is_held_beside_the_model():
    plain, found = Memory(point()), Memory(point(how=DRAFT))
    draft = Memory(point("llama-3.2-1b"))
    assert one(found.weights) == pytest.approx(one(plain.weights) + one(draft.weights))
    context = np.full(1, 1024.0 + 256 + 4)  # with slots for what is being verified
    assert one(found.cache) == pytest.approx(one(plain.cache_at(context)) + one(draft.cache_at(context)))


@pytest.mark.parametrize(
    ("target", "how", "billions"),
    [
        ("llama-2-7b", EAGLE, 0.24),
        ("llama-2-13b", EAGLE, 0.37),
        ("llama-2-70b", EAGLE, 0.99),
        ("mixtral-8x7b", EAGLE, 0.28),
        ("deepseek-v3", MTP, 11.5),
        ("mimo-v2-flash", MTP, 0.33),
        ("llama-7b", MEDUSA, 4 * (4096**2 + 4096 * 32000) / 1e9),
    ],
    ids=str,
)
def test_heads_have_the_parameters_that_were_published(target, how, billions):
    """EAGLE's README (Vicuna and Llama-2, Mixtral); DeepSeek-V3's (14 B with tables); MiMo-V2-Flash's card
    (a windowed and dense layer); Medusa-1: n (h^2 + h V)."""
    model = dse.load_model(target)
    drafter = drafter_of(load_speculation(how), model)
    own = drafter.model.parameters()
    own -= drafter.model.embedding_parameters if "embedding" in drafter.shares else 0
    own -= drafter.model.head_parameters if "lm_head" in drafter.shares else 0
    assert own / 1e9 == pytest.approx(billions, rel=0.11)
    found = Memory(Point(model, choices(speculation=load_speculation(how)), mesh_of(choices())))
    plain = Memory(Point(model, choices(), mesh_of(choices())))
    assert one(found.weights) - one(plain.weights) == pytest.approx(2 * own, rel=1e-3)


def test_a_module_for_the_next_token_is_what_deepseek_published_beside_the_model():
    """A last layer again, a projection of two hidden widths to one, three norms (2412.19437 section 2.2)."""
    model = dse.load_model("deepseek-v3")
    module = drafter_of(load_speculation(MTP), model).model
    block = model.layers[-1].parameters(model.hidden, model.norm_parameters)
    own = module.parameters() - module.embedding_parameters - module.head_parameters
    assert own == block + 2 * model.hidden**2 + 3 * model.norm_parameters


def test_a_module_one_has_trained_costs_what_a_published_one_does():
    model = dse.load_model("deepseek-v3")
    assert drafter_of(load_speculation(TRAINED), model) == drafter_of(load_speculation(MTP), model)


def test_a_module_chooses_its_own_tokens():
    """GLM-5.2's last layer reuses what an earlier indexer chose; alone there is no such layer."""
    model = dse.load_model("glm-5.2")
    assert model.layers[-1].mixer.indexer.shared
    assert not drafter_of(load_speculation(MTP), model).model.layers[0].mixer.indexer.shared


def test_a_layer_that_drafts_reads_the_tables_of_the_model():
    """EAGLE's head holds no vocabulary, but each of its passes reads it."""
    found = point("llama-2-7b", EAGLE)
    head = next(work for work in found.draft.works("decode")[-1] if work.name == "lm_head")
    assert one(head.fixed.weights) == one(point("llama-2-7b").works("decode")[-1][-2].fixed.weights)


@settings(deadline=None, max_examples=30)
@given(
    chances=st.lists(st.floats(0, 1), min_size=1, max_size=6),
    place=st.integers(0, 5),
    more=st.floats(0, 1),
    batch=st.integers(1, 300),
    model=st.sampled_from(["llama-3.1-8b", "llama-3.1-70b"]),
)
def test_more_acceptance_is_never_slower(chances, place, more, batch, model):
    place %= len(chances)
    better = [max(chance, more) if i == place else chance for i, chance in enumerate(chances)]
    slow, fast = (
        one(point(model, {"draft": "llama-3.2-1b", "acceptance": list(of)}, batch).tpot) for of in (chances, better)
    )
    assert fast <= slow * (1 + 1e-12)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_acceptance_per_position_says_how_many_tokens_are_gained(chances):
    """1 + a1 + a1 a2 + ...; of equal ones Leviathan's (1 - a^(n + 1)) / (1 - a)."""
    listed = load_speculation({"draft": "llama-3.2-1b", "acceptance": chances})
    assert listed.tau == (("*", pytest.approx(1 + sum(accumulate(chances, mul)))),)
    a, gamma = chances[0], len(chances)
    same = load_speculation({"draft": "llama-3.2-1b", "gamma": gamma, "acceptance": a}).tau[0][1]
    wanted = gamma + 1 if a == 1 else (1 - a ** (gamma + 1)) / (1 - a)
    assert same == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("serving", ["static", "offline", "closed-loop"])
def test_every_steady_state_counts_in_tokens(serving):
    """What a request takes is that of an engine whose steps take a tau-th of an iteration."""
    found = served(point(how=DRAFT, serving=serving))
    assert one(found.step) == pytest.approx(one(found.running.iteration_seconds) / found.running.iteration.tokens)
    plain = served(point(serving=serving))
    if serving == "static":
        assert one(found.requests_per_s) > one(plain.requests_per_s)
        assert one(found.latency) == pytest.approx(one(found.ttft) + 255 * one(found.step))


def test_an_engine_adds_to_every_pass_and_once_per_iteration():
    costs = RuntimeSpec(name="costly", step_us=500, layer_us=3, sequence_us=5, speculation_us={"draft": 700})
    found = point(how=DRAFT)
    host = 500e-6 + 80 * 3e-6 + 4 * (500e-6 + 16 * 3e-6) + 8 * 5e-6 + 700e-6
    assert one(step_seconds(found, costs)) == pytest.approx(
        (one(found.iteration_seconds) + host) / found.iteration.tokens
    )


@pytest.mark.parametrize("how", [DRAFT, TRAINED, EAGLE, MEDUSA, LOOKUP], ids=lambda how: str(load_speculation(how)))
@pytest.mark.parametrize("model", ["llama-3.1-70b", "mixtral-8x7b"])
def test_the_break_even_batch_is_where_a_scan_of_all_batches_finds_it(model, how):
    gains = {
        batch: one(speedup(point(model, how, batch), IDEAL)) > 1
        for batch in sorted({2**k for k in range(17)} | {3 * 2**k for k in range(15)})
    }
    found = one(break_even_batch(point(model, how), IDEAL))
    last = max((batch for batch, pays in gains.items() if pays), default=0)
    after = min((batch for batch in gains if batch > last), default=2**16)
    assert last <= found <= after
    for batch, pays in ((found, True), (found + 1, False)):
        if 0 < batch < 2**16:
            assert (one(speedup(point(model, how, int(batch)), IDEAL)) > 1) == pays


def test_the_speed_up_is_of_the_same_sequences():
    plain, found = point(batch=32), point(how=DRAFT, batch=32)
    assert one(speedup(found, IDEAL)) == pytest.approx(one(plain.tpot) / one(found.tpot))
    assert one(speedup(plain, IDEAL)) == 1


def test_answers_of_a_request_are_drafted_side_by_side():
    branched = point(how=DRAFT, batch=8, sampling=Sampling(n=4))
    assert one(branched.tpot) == pytest.approx(one(point(how=DRAFT, batch=32).tpot))


@pytest.mark.parametrize("how", [DRAFT, TRAINED, EAGLE, MEDUSA, LOOKUP], ids=lambda how: str(load_speculation(how)))
def test_the_operators_of_both_phases_add_up(how):
    found = point("mixtral-8x7b", how, layout=((4,),))
    for phase, seconds in (("prefill", found.ttft), ("decode", found.iteration_seconds)):
        total = sum(one(t.count * (t.times.seconds + t.overhead)) for t in timed_operators(found, phase))
        assert total == pytest.approx(one(seconds), rel=1e-9)


def test_tables_of_a_sweep_say_what_was_chosen():
    frame = dse.evaluate("llama-7b", "a100-sxm-80gb", speculation=["none", DRAFT | {"draft": "llama-68m"}, "eagle-2"])
    assert frame["speculation"].tolist() == ["none", "llama-68m 4 tau 3.362", "eagle-2"]
    assert frame["speculation_speedup"][0] == 1
    assert frame["speculation_break_even_batch"][0] == 0
    assert frame["speculation_break_even_batch"][1] > 1
    assert "speculation_speedup" not in dse.evaluate("llama-7b", "a100-sxm-80gb").columns


@pytest.mark.parametrize(
    ("model", "axes", "reason"),
    [
        ("llama-3.1-8b", {"speculation": "eagle-2"}, "tau_unknown"),
        ("llama-3.1-8b", {"speculation": {"draft": "qwen3-0.6b", "gamma": 3, "acceptance": 0.7}},
         "draft_other_vocabulary"),
        ("qwen2.5-72b", {"speculation": {"draft": "qwen2.5-0.5b", "gamma": 3, "acceptance": 0.7}, "tp": 8}, "ok"),
        ("mamba2-2.7b", {"speculation": MTP}, "no_layer_to_draft_with"),
        ("mamba2-2.7b", {"speculation": EAGLE}, "no_layer_to_draft_with"),
        ("qwen3-next-80b-a3b", {"speculation": EAGLE, "tp": 4}, "tree_on_recurrent_state"),
        ("qwen3-next-80b-a3b", {"speculation": MTP, "tp": 4}, "ok"),
        ("llama-3.1-8b", {"speculation": MTP}, "no_next_token_module"),
        ("llama-3.1-8b", {"speculation": TRAINED}, "ok"),
        ("kimi-k2", {"speculation": MTP, "tp": 8}, "no_next_token_module"),
        ("minimax-m2.5", {"speculation": MTP, "tp": 8}, "no_next_token_module"),
        ("mimo-7b", {"speculation": MTP}, "ok"),
        ("mimo-7b", {"speculation": {"mtp": 3, "accepted": 1.5}}, "ok"),
        ("llama-3.1-8b", {"speculation": TRAINED, "sampling": {"beams": 4}}, "beams_not_speculative"),
        ("llama-3.1-8b", {"speculation": TRAINED, "sampling": {"n": 4}}, "ok"),
        ("llama-3.1-8b", {"speculation": TRAINED, "offload": "lp", "batch": 4}, "not_with_offload"),
    ],
    ids=str,
)  # fmt: skip
def test_reasons_why_it_cannot_be(model, axes, reason):
    assert dse.evaluate(model, "h100-sxm", **axes)["status"].tolist() == [reason]


def test_a_draft_that_cannot_be_sharded_runs_whole_on_each_rank():
    """The 12 heads of the 68 M model do not go over 8 ranks."""
    found = point("llama-7b", DRAFT | {"draft": "llama-68m"})
    assert one(found.degrees.tp) == 8
    assert one(found.draft.degrees.tp) == 1
    assert one(Memory(found.draft).weights) > 2 * 60e6 / 2  # fp8


def test_a_speculation_reads_well_as_text():
    texts = [str(load_speculation(how)) for how in ("eagle-2", DRAFT, MTP, TRAINED, EAGLE, MEDUSA, LOOKUP)]
    assert texts == [
        "eagle-2", "llama-3.2-1b 4 tau 3.362", "mtp 1 tau 1.85", "mtp 1 trained tau 1.85", "eagle 5 tree 26 tau 3.6",
        "medusa 4 tree 64 tau 2.3", "lookup tree 11 tau 1.75",
    ]  # fmt: skip
    assert math.isnan(Speculation("lookup", 0, 4, (("llama-7b", 2.0),)).gained(dse.load_model("llama-13b")))
