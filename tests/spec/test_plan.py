"""Plan files: what they may say, and every fault with its place."""

from __future__ import annotations

import math

import pytest

from dse.errors import InputError
from dse.run.planning import is_plan, resolve_plan
from dse.run.settings import set_values
from dse.spec.catalog import chip_names, hardware_names, load_hardware
from dse.spec.plan import HOURS_PER_MONTH, HOURS_PER_YEAR, PlanFile
from dse.spec.reading import Document, build, from_value, read
from dse.spec.slo import library_slos
from dse.spec.throughput import read_throughput

SIZE = {"input": 1024, "output": 256, "requests_per_s": 2.0}
PLAN = {
    "name": "chat",
    "models": [{"model": "llama-3.1-8b", "demand": {"buckets": [SIZE]}}],
    "slo": "standard",
    "candidates": {"hardware": ["h100-sxm", "l4"]},
}


def plan(**changes):
    return resolve_plan(from_value({**PLAN, **changes}))


def demand(**fields):
    return [{"model": "llama-3.1-8b", "demand": fields}]


def faults(text: str, tmp_path) -> list[str]:
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        resolve_plan(read(path))
    return [str(fault).removeprefix(f"{tmp_path}/") for fault in caught.value.faults]


# -- what it says ---------------------------------------------------------------------------------------


def test_a_plan_is_told_from_a_sweep():
    assert is_plan(PLAN)
    assert not is_plan({"models": ["llama-3.1-8b"], "hardware": ["h100-sxm"]})


def test_the_defaults():
    file = build(PlanFile, from_value(PLAN))
    assert (file.headroom, file.redundancy, file.objective, file.price.kinds) == (0.2, 0, "cost", ("on-demand",))
    assert file.candidates.runtime == "vllm"


def test_a_monthly_budget_is_an_hourly_one():
    file = build(PlanFile, from_value({**PLAN, "budget": {"usd_per_month": 730.5}}))
    assert file.budget.hourly == pytest.approx(730.5 / HOURS_PER_MONTH) == pytest.approx(1.0)


def test_buckets_of_equal_size_are_one_and_peaks_are_carried():
    found = plan(models=demand(buckets=[SIZE, SIZE, {**SIZE, "output": 32}], peak_factor=1.5)).buckets
    assert [(b.size, b.rate, b.peak) for b in found] == [("1024x32", 2.0, 3.0), ("1024x256", 4.0, 6.0)]


def test_a_bucket_without_requests_is_none():
    assert len(plan(models=demand(buckets=[SIZE, {**SIZE, "output": 1, "requests_per_s": 0}])).buckets) == 1


def test_a_trace_keeps_its_mean_lengths():
    found = plan(models=demand(trace="azure-conversation", requests_per_s=10)).buckets
    assert len(found) <= 16
    assert sum(b.rate for b in found) == pytest.approx(10)
    assert sum(b.rate * b.input for b in found) / 10 == pytest.approx(1155, rel=0.002)
    assert sum(b.rate * b.output for b in found) / 10 == pytest.approx(211, rel=0.003)


def test_a_job_with_a_deadline_is_a_rate(tmp_path):
    (tmp_path / "lengths.csv").write_text("input,output,weight\n512,32,1\n1024,64,3\n")
    path = tmp_path / "plan.yaml"
    path.write_text(
        "name: job\ncandidates: {hardware: [h100-sxm]}\n"
        "models: [{model: llama-3.1-8b, demand: {lengths: lengths.csv, requests: 7200, deadline_hours: 2}}]\n"
    )
    found = resolve_plan(read(path)).buckets
    assert [(b.size, b.rate) for b in found] == [("512x32", 0.25), ("1024x64", 0.75)]


def test_latencies_decide_how_deployments_are_judged():
    assert plan().models[0].sweep.axes.serving == ("open-loop",)
    assert plan(slo="batch").models[0].sweep.axes.serving == ("offline",)
    offloaded = plan(slo="batch", candidates={"hardware": ["l4"], "offload": ["none", "lp"]})
    assert offloaded.models[0].sweep.axes.serving == ("offline", "static")


def test_a_model_may_have_latencies_of_its_own():
    models = [*PLAN["models"], {"model": "llama-3.1-70b", "demand": {"buckets": [SIZE]}, "slo": "interactive"}]
    limits = [[limit.name for limit in model.slo.limits] for model in plan(models=models).models]
    assert limits == [["ttft_ms:p99", "tpot_ms:p99"]] * 2
    assert [model.slo.ttft_ms.p99 for model in plan(models=models).models] == [2000, 450]


def test_a_class_may_be_changed():
    slo = plan(slo={"base": "standard", "tpot_ms": {"mean": 30}}).models[0].slo
    assert {limit.name: limit.most for limit in slo.limits} == {"ttft_ms:p99": 2000, "tpot_ms:mean": 30}


def test_every_class_says_whose_it_is():
    assert all(slo.source for slo in library_slos().values())
    assert not library_slos()["batch"].limits
    assert library_slos()["interactive"].scaled(2).ttft_ms.p99 == 900


def test_layouts_of_a_dense_model_split_it_those_of_experts_spread_them():
    dense = plan().models[0].sweep.axes.layout
    assert {layout.devices for layout in dense} == {1, 2, 4, 8}
    assert all(layout.dp == 1 for layout in dense)
    experts = plan(models=[{"model": "mixtral-8x7b", "demand": {"buckets": [SIZE]}}]).models[0].sweep.axes.layout
    assert max(layout.dp for layout in experts) == 8
    assert max(layout.devices for layout in experts) == 8


def test_techniques_are_axes():
    found = plan(candidates={"hardware": ["h100-sxm"], "techniques": {"chunk_tokens": ["none", 512]}})
    assert found.models[0].sweep.axes.chunk_tokens == ("none", 512)


def test_prices_say_their_kind_and_source():
    found = plan(price={"kind": ["on-demand", "neocloud"], "override": {"l4": 0.5}}).devices
    assert found["l4"].plain()["source"] == "set by the user"
    assert (found["h100-sxm"].price.kind, bool(found["h100-sxm"].price.date)) == ("on-demand", True)


def test_a_purchase_is_spread_over_years_and_pays_its_power():
    changes = {"price": {"kind": "purchase", "purchase": {"l4": 2500}}, "candidates": {"hardware": ["l4"]}}
    economics = {"amortisation_years": 4, "usd_per_kwh": 0.1, "pue": 1.5, "host_share": 1.0}
    found = plan(**changes, economics=economics).devices["l4"]
    assert found.energy_usd_per_hour == pytest.approx(0.072 * 2 * 1.5 * 0.1)
    assert found.device.usd_per_hour == pytest.approx(2500 / (4 * 8766) + found.energy_usd_per_hour)
    assert found.device.capital_usd == 2500


def test_what_has_no_price_is_left_out_and_named():
    found = plan(candidates={"hardware": ["h100-sxm", "mi210"]})
    assert (list(found.devices), found.unpriced) == (["h100-sxm"], ("mi210",))


def test_boxes_are_those_of_the_hardware_file():
    assert plan(whole_boxes=True).devices["h100-sxm"].device.box == 8
    assert plan().devices["h100-sxm"].device.box == 1


def test_a_region_has_prices_and_limits_of_its_own():
    regions = {"us": {"stock": {"l4": 4}, "only": True}, "eu": {"price_factor": 1.5, "power_kw": 20}}
    found = plan(budget={"regions": regions}).devices
    assert list(found) == ["h100-sxm@eu", "l4@us", "l4@eu"]
    assert found["l4@eu"].device.usd_per_hour == pytest.approx(1.5 * found["l4@us"].device.usd_per_hour)
    assert (found["l4@us"].device.stock, found["l4@eu"].device.stock, found["l4@eu"].device.site) == (4, None, "eu")


def test_a_region_has_its_price_of_what_is_bought_and_pays_energy_as_all_do():
    """The factor is on the accelerator: dollars paid at once, spread over the years, beside the same energy."""
    price = {"kind": "purchase", "purchase": {"h100-sxm": 25_000}}
    regions = {"us": {}, "eu": {"price_factor": 2.0}}
    found = plan(price=price, candidates={"hardware": ["h100-sxm"]}, budget={"regions": regions}).devices
    us, eu = found["h100-sxm@us"], found["h100-sxm@eu"]
    assert (us.device.capital_usd, eu.device.capital_usd) == (25_000, 50_000)
    assert (us.plain()["usd_purchase"], eu.plain()["usd_purchase"]) == (25_000, 50_000)
    assert us.energy_usd_per_hour == eu.energy_usd_per_hour > 0
    for each in (us, eu):
        spread = each.device.capital_usd / (4 * HOURS_PER_YEAR)
        assert each.device.usd_per_hour == pytest.approx(spread + each.energy_usd_per_hour)


def test_a_box_of_a_chip_is_that_chip():
    """T4s are T4s: in the machine of a paper they come out of the same stock, at the same price."""
    stated = {"candidates": {"hardware": ["t4", "t4-flexgen", "b200"]}, "budget": {"stock": {"t4": 3}}}
    found = plan(**stated, price={"override": {"t4": 0.03}}).devices
    assert [found[name].device.kind for name in ("t4", "t4-flexgen", "b200")] == ["t4", "t4", "b200"]
    assert [found[name].device.stock for name in ("t4", "t4-flexgen", "b200")] == [3, 3, None]
    assert [found[name].device.usd_per_hour for name in ("t4", "t4-flexgen")] == [0.03, 0.03]
    there = plan(**{**stated, "budget": {"regions": {"eu": {"stock": {"t4": 2}, "only": True}}}}).devices
    assert {name: (each.device.stock, each.device.kind) for name, each in there.items()} == {
        "t4@eu": (2, "t4@eu"), "t4-flexgen@eu": (2, "t4@eu"),
    }  # fmt: skip


def test_a_box_of_a_chip_is_none_of_all():
    boxes = [name for name in hardware_names() if load_hardware(name).box_of is not None]
    assert "t4-flexgen" in boxes
    assert not set(boxes) & set(chip_names())
    assert {load_hardware(name).box_of for name in boxes} <= set(chip_names())


def test_accelerators_go_by_every_spelling_that_the_axis_takes(tmp_path):
    """Names, aliases, other cases and paths, in every mapping that is keyed by them."""
    (tmp_path / "mine.yaml").write_text("base: l4\nname: my-l4\n")
    text = (
        "name: chat\nmodels: [{model: llama-3.1-8b, demand: {buckets: [{input: 9, output: 9, requests_per_s: 1}]}}]\n"
        "candidates: {hardware: [H100, ./mine.yaml]}\n"
        "price: {kind: purchase, override: {./mine.yaml: 0.5}, purchase: {H100 SXM5: 30000}}\n"
        "budget: {stock: {H100_SXM: 16, my-l4: 3}, regions: {eu: {stock: {NVIDIA H100 80GB HBM3: 8}}}}\n"
    )
    (tmp_path / "plan.yaml").write_text(text)
    found = resolve_plan(read(tmp_path / "plan.yaml")).devices
    assert list(found) == ["h100-sxm@eu", "my-l4@eu"]
    assert (found["h100-sxm@eu"].price.usd, found["my-l4@eu"].price.usd_per_hour) == (30000, 0.5)
    assert (found["h100-sxm@eu"].device.stock, found["my-l4@eu"].device.stock) == (8, 3)


def test_a_table_may_use_another_spelling_than_the_prices(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("input,output,hardware,requests_per_s\n1024,256,H100,5\n")
    bare = {key: value for key, value in PLAN.items() if key != "candidates"} | {"throughput": str(table)}
    found = resolve_plan(from_value({**bare, "price": {"override": {"h100-sxm": 2.0}}}))
    assert found.devices["H100"].device.usd_per_hour == 2.0


def test_settings_change_it():
    document = set_values(from_value(PLAN), ["headroom=0.1", "budget.usd_per_hour=5"])
    assert resolve_plan(document).file.headroom == 0.1


# -- what is wrong --------------------------------------------------------------------------------------

BAD = """\
name: bad
models:
  - model: llama-3.1-8b
    demand: {buckets: [{input: 512, output: 128, requests_per_s: -1}], peak_factor: 0.5}
  - model: llama-3.1-70b
    demand: {trace: azure-code}
slo: standard
budget: {usd_per_hour: 10, usd_per_month: 10}
candidates: {hardwar: [h100-sxm]}
"""


def test_every_fault_of_the_shape_at_once(tmp_path):
    assert faults(BAD, tmp_path) == [
        "plan.yaml:4:66: models[0].demand.buckets[0].requests_per_s: must be >= 0, got -1",
        "plan.yaml:4:85: models[0].demand.peak_factor: must be >= 1, got 0.5",
        "plan.yaml:6:13: models[1].demand: a trace needs a rate: either 'requests_per_s', or 'requests' and "
        "'deadline_hours'",
        "plan.yaml:8:9: budget: give either usd_per_hour or usd_per_month, not both",
        "plan.yaml:9:14: candidates.hardwar: unknown field; did you mean 'hardware'?",
    ]


MEANINGLESS = """\
name: bad
models:
  - model: llama-3.1-8
    demand: {trace: azure-conversatio, requests_per_s: 3}
slo: interactiv
candidates: {hardware: [h100-sx, l4], precision: [bf1], serving: open, batch: [0]}
"""


def test_every_fault_of_the_meaning_at_once(tmp_path):
    found = faults(MEANINGLESS, tmp_path)
    assert found[0].startswith("plan.yaml:3:12: models[0].model: unknown model 'llama-3.1-8'; did you mean 'llama-3")
    assert found[1] == (
        "plan.yaml:4:21: models[0].demand.trace: unknown trace 'azure-conversatio'; did you mean 'azure-conversation'?"
    )
    assert found[2] == "plan.yaml:5:6: slo: unknown class 'interactiv'; did you mean 'interactive'?"
    assert found[3].startswith("plan.yaml:6:25: candidates.hardware[0]: unknown hardware 'h100-sx'; did you mean")
    assert found[4].startswith("plan.yaml:6:51: candidates.precision[0]: no precision is named 'bf1'; did you mean")
    assert found[5].startswith("plan.yaml:6:66: candidates.serving[0]: this version knows static, ")
    assert found[6] == "plan.yaml:6:80: candidates.batch[0]: must be at least 1, got 0"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": []}, "models: needs at least one model with its demand"),
        ({"models": [{"demand": {"buckets": [SIZE]}}]}, "models[0]: missing field 'model'"),
        ({"models": demand(buckets=[])}, "models[0].demand.buckets: needs at least one bucket"),
        ({"models": demand(buckets=[{**SIZE, "requests_per_s": 0}])},
         "models[0].demand: asks for nothing: every rate is 0"),
        ({"models": demand(buckets=[SIZE], requests_per_s=3)},
         "models[0].demand: buckets bring their own rates; leave out requests_per_s, requests and deadline_hours"),
        ({"models": demand(requests_per_s=3)},
         "models[0].demand: expected exactly one of buckets, lengths and trace, got none"),
        ({"models": demand(buckets=[{**SIZE, "requests_per_s": 1e300}])},
         "models[0].demand: at most 1e+09 requests/s at the peak, got 1e+300"),
        ({"models": demand(trace="azure-code", requests=5, deadline_hours=1e-300)},
         "models[0].demand: at most 1e+09 requests/s at the peak, got 1.389e+297"),
        ({"models": demand(trace="azure-code", requests_per_s=1, growth_per_year=1e300)},
         "models[0].demand.growth_per_year: must be <= 100, got 1e+300"),
        ({"headroom": 1}, "headroom: must be <= 0.99, got 1"),
        ({"headroom": 1e9}, "headroom: must be <= 0.99, got 1000000000.0"),
        ({"headroom": -0.1}, "headroom: must be >= 0, got -0.1"),
        ({"headroom": math.nan}, "headroom: expected a finite number, got nan"),
        ({"headroom": 20}, "headroom: must be <= 0.99, got 20; 20 % is 0.2"),
        ({"headroom": "20%"}, "headroom: expected a number, got '20%'; 20 % is 0.2"),
        ({"models": demand(buckets=[SIZE], growth_per_year="50 %")},
         "models[0].demand.growth_per_year: expected a number, got '50 %'; 50 % is 0.5"),
        ({"models": demand(buckets=[SIZE], growth_per_year=-1)},
         "models[0].demand.growth_per_year: must be > -1, got -1"),
        ({"models": demand(buckets=[SIZE], peak_factor=0.5)}, "models[0].demand.peak_factor: must be >= 1, got 0.5"),
        ({"models": demand(buckets=[{**SIZE, "requests_per_s": -1}])},
         "models[0].demand.buckets[0].requests_per_s: must be >= 0, got -1"),
        ({"models": demand(buckets=[{**SIZE, "requests_per_s": 1e12}])},
         "models[0].demand: at most 1e+09 requests/s at the peak, got 1e+12"),
        ({"economics": {"pue": 0.9}}, "economics.pue: must be >= 1, got 0.9"),
        ({"economics": {"pue": 158}}, "economics.pue: must be <= 10, got 158"),
        ({"economics": {"amortisation_years": 0}}, "economics.amortisation_years: must be >= 0.1, got 0"),
        ({"economics": {"usd_per_kwh": 1e300}}, "economics.usd_per_kwh: must be <= 1000, got 1e+300"),
        ({"economics": {"host_share": 1e300}}, "economics.host_share: must be <= 100, got 1e+300"),
        ({"price": {"override": {"l4": 1e300}}}, "price.override.l4: must be <= 1e+09, got 1e+300"),
        ({"price": {"purchase": {"l4": 0}}}, "price.purchase.l4: must be > 0, got 0"),
        ({"budget": {"usd_per_hour": 0}}, "budget.usd_per_hour: must be > 0, got 0"),
        ({"budget": {"power_kw": 0}}, "budget.power_kw: must be > 0, got 0"),
        ({"budget": {"regions": {"eu": {"price_factor": 1e300}}}},
         "budget.regions.eu.price_factor: must be <= 1000, got 1e+300"),
        ({"redundancy": 10**15}, "redundancy: must be <= 10000, got 1000000000000000"),
        ({"candidates": {"hardware": ["l4"], "memory_utilization": 90}},
         "candidates.memory_utilization: must be <= 1, got 90; 90 % is 0.9"),
        ({"price": {"kind": []}}, "price.kind: needs at least one kind"),
        ({"slo": {"ttft_ms": 200}}, "slo.ttft_ms: expected a mapping, got 200"),
        ({"slo": 3}, "slo: expected a name or limits such as ttft_ms: {p99: 2000}, got 3"),
        ({"objective": "served_rate"},
         "objective served_rate needs a budget: usd_per_hour, usd_per_month, capital_usd, power_kw or stock"),
        ({"budget": {"capital_usd": 5}}, "budget.capital_usd: nothing is bought; add price: {kind: purchase}"),
        ({"budget": {"stock": {"l40s": 5}}}, "budget.stock.l40s: 'l40s' is not among this plan's hardware"),
        ({"candidates": {"hardware": ["t4-flexgen"]}, "budget": {"stock": {"t4-flexgen": 1}}},
         "budget.stock.t4-flexgen: 't4-flexgen' is a box of t4; give the stock of t4"),
        ({"candidates": {"hardware": ["l4"], "techniques": {"chunk_token": 512}}},
         "candidates.techniques.chunk_token: unknown technique; did you mean 'chunk_tokens'?"),
        ({"candidates": {"hardware": ["l4"], "techniques": {"chunk_tokens": "some"}}},
         "candidates.techniques.chunk_tokens: "),
        ({"candidates": {"hardware": ["l4"], "serving": "disaggregated", "offload": "lp"}},
         "candidates.offload: workers of disaggregated serving hold all of their weights; add 'none' to 'offload', or "
         "leave it out"),
        ({"candidates": {"hardware": ["l4"], "serving": "disaggregated", "disaggregated": {"devices": 1}}},
         "candidates.disaggregated.devices: a prefill and a decode worker are 2 accelerators at least, got 1"),
        ({"candidates": {"hardware": ["l4"], "serving": "disaggregated",
                         "disaggregated": {"devices": 4, "fill": True}}},
         "candidates.disaggregated.fill: a plan counts accelerators of whole fleets, not of one deployment; leave "
         "'fill' out"),
        ({"candidates": {"hardware": ["l4"], "serving": "disaggregated"}, "budget": {"stock": {"l4": 1}}},
         "budget.stock: disaggregated serving needs 2 accelerators at least, one for prompts and one to decode; there "
         "is 1"),
        ({"candidates": {"hardware": ["l4"], "disaggregated": {"devices": 4}}},
         "candidates.disaggregated: only disaggregated serving has pools; add it to 'serving' (open-loop), or leave "
         "them out"),
        ({"candidates": {"hardware": ["l4"], "serving": "disaggregated",
                         "disaggregated": {"prefill": {"hardware": "h100"}}}, "price": {"override": {"h200-sxm": 5}}},
         "price.override.h200-sxm: 'h200-sxm' is not among this plan's hardware; did you mean 'h100-sxm'?"),
        ({"candidates": {"hardware": ["l4"], "serving": ["open-loop", "disagregated"]}},
         "candidates.serving[1]: this version knows static, offline, closed-loop, open-loop and disaggregated, got "
         "'disagregated'; did you mean 'disaggregated'?"),
        ({"budget": {"regions": {"eu": {"stock": {"h100-pcie": 1}}}}},
         "budget.regions.eu.stock.h100-pcie: 'h100-pcie' is not among this plan's hardware"),
        ({"price": {"override": {"h10-sxm": 5}}},
         "price.override.h10-sxm: 'h10-sxm' is not among this plan's hardware; did you mean 'h100-sxm'?"),
        ({"price": {"purchase": {"H100": 5, "L4": 3, "h100-sxm": 6}}},
         "price.purchase.h100-sxm: 'h100-sxm' and 'H100' are one accelerator (h100-sxm); keep one"),
        ({"constraints": {"ttft_ms": {"max": 5}}},
         "constraints.ttft_ms: a plan knows only accuracy_drop_pct; latencies stand under 'slo', costs under 'budget'"),
        ({"current": [{"hardware": "h100-sxm", "model": "llama-3.1-70b"}]},
         "current[0].model: 'llama-3.1-70b' is no model of this plan"),
    ],
)  # fmt: skip
def test_a_fault_and_what_would_be_right(changes, message):
    with pytest.raises(InputError) as caught:
        plan(**changes)
    assert str(caught.value.faults[0]).startswith(message)


def test_a_model_twice():
    with pytest.raises(InputError, match=r"models\[1\].model: 'llama-3.1-8b' stands twice on this axis; keep one"):
        plan(models=PLAN["models"] * 2)


TABLE = """\
input,output,hardware,requests_per_s
0,1,h100-sxm,3
1,1,,x
64,64,chip,3
64,64,chip,4
64,65,chip,1,5
64,66,chip,1e300
64
"""


def test_every_fault_of_a_table(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text(TABLE)
    with pytest.raises(InputError) as caught:
        read_throughput(str(table))
    assert [str(fault).removeprefix(f"{tmp_path}/") for fault in caught.value.faults] == [
        "table.csv:2:1: input must be a whole number of at least 1, got '0'",
        "table.csv:3:1: hardware must not be empty",
        "table.csv:3:1: requests_per_s must be a number of at least 0, got 'x'",
        "table.csv:5:1: 64x64 on chip stands twice; keep one",
        "table.csv:6:1: has more fields than the header; is a decimal comma in it?",
        "table.csv:7:1: requests_per_s must be 0, or from 1e-09 to 1e+09, got '1e300'",
        "table.csv:8:1: output must be a whole number of at least 1, got ''",
        "table.csv:8:1: hardware must not be empty",
        "table.csv:8:1: requests_per_s must be a number of at least 0, got ''",
    ]


def test_a_table_that_is_no_csv(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("input,output,hardware,requests_per_s\n1,1," + "x" * 200_000 + ",1\n")
    with pytest.raises(InputError, match=r"table.csv:1:1: cannot be read as CSV: field larger than field limit"):
        read_throughput(str(table))


def test_a_table_of_other_models_than_the_plans(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("model,input,output,hardware,requests_per_s\nmine,1024,256,h100-sxm,5\n")
    bare = {key: value for key, value in PLAN.items() if key != "candidates"} | {"throughput": str(table)}
    with pytest.raises(InputError, match=r"expected one of llama-3.1-8b in its column 'model', got 'mine'"):
        resolve_plan(from_value(bare))


def test_a_column_of_a_table_is_missing(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("input,output,gpu,requests_per_s\n1,1,l4,1\n")
    with pytest.raises(InputError, match="missing column 'hardware'; it has input, output, gpu, requests_per_s"):
        read_throughput(str(table))


def test_a_name_in_a_table_that_the_library_does_not_know_needs_a_price(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("input,output,hardware,requests_per_s\n1024,256,my-chip,5\n")
    bare = {key: value for key, value in PLAN.items() if key != "candidates"} | {"throughput": str(table)}
    with pytest.raises(InputError, match="price: 'my-chip' is not in the library; give its price under override"):
        resolve_plan(from_value(bare))
    priced = resolve_plan(from_value({**bare, "price": {"override": {"my-chip": 2.0}}}))
    assert priced.devices["my-chip"].device.usd_per_hour == 2.0


def test_a_document_without_a_file_names_the_field():
    with pytest.raises(InputError, match=r"headroom: must be <= 0.99, got 1"):
        resolve_plan(Document("", {**PLAN, "headroom": 1.0}))
