"""The fleet program: cheapest for a demand, most for a budget, within limits, the same in any order."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from fleets import fleet_of, fleets
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dse.search.fleet import Device, Fleet, Option, pruned
from dse.search.fleet_distinct import best_distinct
from dse.search.fleet_program import cheapest, cheapest_serving, growth_left, most_served, multipliers

quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])

TABLE = {"small": (1.0, [2.0, 0.0]), "large": (3.0, [8.0, 4.0])}
"""Large costs as much per request of the first bucket, and alone serves the second."""


def loads(fleet: Fleet, answer) -> np.ndarray:
    """Replicas' worth of load on each option in use."""
    rates = np.array([option.rates for option in answer.options])
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(answer.shares > 0, answer.shares * fleet.demand / rates, 0.0).sum(axis=1)


def check(fleet: Fleet, answer) -> None:
    """Everything is served, and no replica is asked for more than it can."""
    assert answer.status == "optimal"
    np.testing.assert_allclose(answer.shares.sum(axis=0)[fleet.wanted], 1.0, atol=1e-6)
    usable = (answer.counts - fleet.spares) * (1 - fleet.headroom)
    assert np.all(loads(fleet, answer) <= usable * (1 + 1e-6) + 1e-6)
    paid = sum(fleet.devices[name].usd_per_hour * held for name, held in answer.devices.items())
    assert answer.usd_per_hour == pytest.approx(paid)


# -- what it answers ------------------------------------------------------------------------------------


def test_a_bucket_that_one_kind_serves_goes_there():
    fleet = fleet_of(TABLE, [4.0, 3.0])
    answer = cheapest(fleet)
    check(fleet, answer)
    # One large has a quarter of its time left for two requests of the first bucket; one small has the other two.
    assert answer.devices == {"large": 1, "small": 1}
    assert answer.usd_per_hour == 4.0
    assert answer.gap == 0.0


@pytest.mark.parametrize("rate", [1e-5, 1e-9])
@pytest.mark.parametrize("spares", [0, 1])
@pytest.mark.parametrize("slices", [None, 8])
def test_what_is_hardly_asked_for_has_a_replica_all_the_same(rate, spares, slices):
    """To a solver a millionth of a replica is none."""
    fleet = fleet_of({"chip": (1.0, [10.0, 0.0]), "other": (2.0, [0.0, 10.0])}, [25.0, rate], spares=spares,
                     slices=slices)  # fmt: skip
    assert cheapest(fleet).devices == {"chip": 3 + spares, "other": 1 + spares}
    tight = cheapest(replace(fleet, usd_per_hour=4.5 + 3 * spares))
    assert tight.status == "infeasible"


@pytest.mark.parametrize("rate", [1e-9, 1e-5, 1e5])
def test_the_most_is_served_of_little_and_of_much(rate):
    fleet = fleet_of({"chip": (1.0, [rate, 0.0]), "other": (2.0, [0.0, rate])}, [4 * rate, rate], usd_per_hour=5.0)
    answer = most_served(fleet)
    assert answer.devices == {"chip": 4}  # three and the other serve as much for five
    assert answer.served(fleet) == pytest.approx(4 * rate)
    assert answer.bound == pytest.approx(4 * rate)


def test_headroom_is_left_free():
    fleet = fleet_of({"chip": (1.0, [10.0])}, [8.0], headroom=0.2)
    assert cheapest(fleet).devices == {"chip": 1}
    assert cheapest(fleet.scaled(1.01)).devices == {"chip": 2}


def test_spares_stand_beside_what_is_needed():
    fleet = fleet_of({"chip": (1.0, [10.0])}, [25.0], spares=1)
    assert cheapest(fleet).devices == {"chip": 4}


def test_spares_favour_one_kind_over_a_mix():
    fleet = fleet_of({**TABLE, "small": (1.6, [2.0, 0.0])}, [4.0, 3.0])
    mixed, spared = cheapest(fleet), cheapest(replace(fleet, spares=1))
    check(replace(fleet, spares=1), spared)
    assert set(mixed.devices) == {"small", "large"}
    assert spared.devices == {"large": 3}  # a spare of either kind would be one replica more


def test_whole_boxes_are_paid_for_whole():
    fleet = fleet_of({"chip": (1.0, [10.0])}, [25.0])
    boxed = replace(fleet, devices={"chip": Device("chip", 1.0, box=8)})
    answer = cheapest(boxed)
    assert (answer.devices, answer.usd_per_hour) == ({"chip": 8}, 8.0)


def test_models_share_a_box():
    """Two models, each of which needs three devices: one box of eight holds both."""
    options = (
        Option("a", "chip", 1, np.array([1.0, 0.0])),
        Option("b", "chip", 1, np.array([0.0, 1.0])),
    )
    fleet = Fleet(np.array([3.0, 3.0]), options, {"chip": Device("chip", 1.0, box=8)})
    answer = cheapest(fleet)
    assert answer.devices == {"chip": 8}
    assert answer.counts.tolist() == [3, 3]


def test_stock_sends_the_rest_elsewhere():
    fleet = fleet_of({"cheap": (1.0, [1.0]), "dear": (5.0, [1.0])}, [3.0])
    devices = {**fleet.devices, "cheap": Device("cheap", 1.0, stock=2)}
    assert cheapest(replace(fleet, devices=devices)).devices == {"cheap": 2, "dear": 1}


def test_a_power_limit_buys_efficiency():
    fleet = fleet_of({"hot": (1.0, [1.0]), "cool": (2.0, [1.0])}, [4.0])
    devices = {"hot": Device("hot", 1.0, watts=1000.0), "cool": Device("cool", 2.0, watts=400.0)}
    fleet = replace(fleet, devices=devices)
    assert cheapest(fleet).devices == {"hot": 4}
    assert cheapest(replace(fleet, watts=2800.0)).devices == {"hot": 2, "cool": 2}
    assert cheapest(replace(fleet, watts=1500.0)).status == "infeasible"


def test_each_site_has_its_own_power():
    fleet = fleet_of({"here": (1.0, [1.0]), "there": (2.0, [1.0])}, [4.0])
    devices = {
        "here": Device("here", 1.0, watts=500.0, site="a"),
        "there": Device("there", 2.0, watts=500.0, site="b"),
    }
    fleet = replace(fleet, devices=devices, site_watts={"a": 1100.0})
    assert cheapest(fleet).devices == {"here": 2, "there": 2}
    assert multipliers(fleet).limits["watts@a"] == pytest.approx(1 / 500)


def test_a_capital_limit():
    fleet = fleet_of({"bought": (1.0, [1.0]), "rented": (2.0, [1.0])}, [4.0])
    devices = {"bought": Device("bought", 1.0, capital_usd=100.0), "rented": Device("rented", 2.0)}
    answer = cheapest(replace(fleet, devices=devices, capital_usd=250.0))
    assert answer.devices == {"bought": 2, "rented": 2}
    assert answer.capital_usd == 200.0


def test_what_nothing_serves_is_infeasible_and_named():
    fleet = fleet_of({"chip": (1.0, [1.0, 0.0])}, [1.0, 1.0])
    assert fleet.unservable.tolist() == [1]
    assert cheapest(fleet).status == "infeasible"
    assert multipliers(fleet) is None


def test_a_bucket_without_demand_asks_for_nothing():
    assert cheapest(fleet_of({"chip": (1.0, [1.0, 0.0])}, [1.0, 0.0])).devices == {"chip": 1}


def test_the_most_for_a_budget():
    fleet = fleet_of(TABLE, [4.0, 3.0], usd_per_hour=3.0)
    assert cheapest(fleet).status == "infeasible"
    answer = most_served(fleet)
    assert answer.devices == {"large": 1}
    assert answer.served(fleet) == pytest.approx(4.0 + 2.0)  # four of the first in half of its time, two of the second


def test_weights_say_what_is_worth_serving():
    fleet = fleet_of({"chip": (1.0, [1.0, 1.0])}, [1.0, 1.0], usd_per_hour=1.0, weights=np.array([1.0, 2.0]))
    np.testing.assert_allclose(most_served(fleet).shares, [[0.0, 1.0]])


def test_slices_round_shares_up():
    toy = fleet_of({"A10G": (1.01, [2, 1, 5, 2]), "A100": (3.67, [20, 20, 40, 20])}, [6, 3, 15, 6])
    costs = [cheapest(replace(toy, slices=slices)).usd_per_hour for slices in (1, 2, None)]
    assert costs == pytest.approx([6.70, 5.69, 4.68])


# -- what else could be had, and what limits cost -------------------------------------------------------


def test_distinct_fleets_each_lack_a_kind_of_those_before():
    table = {"a": (1.0, [2.0, 1.0]), "b": (1.1, [1.0, 2.0]), "c": (2.0, [3.0, 3.0]), "d": (9.0, [3.0, 3.0])}
    fleet = fleet_of(table, [7.0, 7.0])
    first = cheapest(fleet)
    found = [first, *best_distinct(fleet, first, 3)]
    assert len(found) == 4
    kinds = [set(answer.devices) for answer in found]
    assert all(not kinds[j] >= kinds[i] for i in range(4) for j in range(i + 1, 4))
    costs = [answer.usd_per_hour for answer in found]
    assert costs == sorted(costs)


@given(fleets())
@quick
def test_the_second_best_is_the_best_that_lacks_a_kind(fleet):
    first = cheapest(fleet)
    names = {option.device for option in fleet.options}
    lacking = [
        cheapest(fleet.of([option for option in fleet.options if option.device != name])) for name in first.devices
    ]
    best = min((answer.usd_per_hour for answer in lacking if answer.found), default=None)
    found = best_distinct(fleet, first, 1)
    assert [round(a.usd_per_hour, 6) for a in found] == ([] if best is None else [pytest.approx(best, rel=2e-3)])
    assert names


def test_multipliers_are_what_a_little_more_costs():
    fleet = fleet_of(TABLE, [40.0, 30.0])
    found = multipliers(fleet)
    step = 1e-3
    for bucket in range(2):
        more = replace(fleet, demand=fleet.demand + step * np.eye(2)[bucket])
        assert found.demand[bucket] == pytest.approx((multipliers(more).bound - found.bound) / step, rel=1e-4)


def test_the_multiplier_of_a_stock():
    fleet = fleet_of({"cheap": (1.0, [1.0]), "dear": (5.0, [1.0])}, [10.0])
    fleet = replace(fleet, devices={**fleet.devices, "cheap": Device("cheap", 1.0, stock=4)})
    assert multipliers(fleet).limits["stock:cheap"] == pytest.approx(4.0)


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "a100_sxm_80gb", "a100@eu-west", "t4", "a [b] -> c/d"])
def test_the_multiplier_of_a_stock_whatever_its_name(name):
    """PuLP makes `_` of `-+[] ->/`: a row that is looked for by the name of what it limits is not found."""
    fleet = fleet_of({"h100-sxm": (3.0, [10.0]), name: (1.0, [6.0])}, [60.0])
    fleet = replace(fleet, devices={**fleet.devices, name: Device(name, 1.0, stock=5)})
    assert multipliers(fleet).limits == {f"stock:{name}": pytest.approx(0.8)}  # 0.6 of a card for $3 less, $1 more


def test_names_that_differ_in_a_dash_have_rows_of_their_own():
    fleet = fleet_of({"a-b": (1.0, [1.0]), "a_b": (2.0, [1.0]), "dear": (5.0, [1.0])}, [10.0])
    stocked = {name: Device(name, fleet.devices[name].usd_per_hour, stock=3) for name in ("a-b", "a_b")}
    found = multipliers(replace(fleet, devices={**fleet.devices, **stocked}))
    assert found.limits == {"stock:a-b": pytest.approx(4.0), "stock:a_b": pytest.approx(3.0)}


def test_the_multiplier_of_a_budget_is_what_one_dollar_more_serves():
    fleet = fleet_of({"big": (3.0, [20.0, 0.0]), "small": (0.5, [0.0, 5.0])}, [100.0, 4.0], usd_per_hour=13.5)
    found = multipliers(fleet, serving=True)
    assert found.limits["usd_per_hour"] == pytest.approx(20 / 3)
    more = multipliers(replace(fleet, usd_per_hour=14.5), serving=True)
    assert more.bound - found.bound == pytest.approx(20 / 3)
    assert found.bound >= most_served(fleet).served(fleet)


def test_devices_of_one_chip_share_its_stock():
    fleet = fleet_of({"t4": (1.0, [1.0]), "t4-box": (1.1, [1.0]), "dear": (5.0, [1.0])}, [6.0])
    devices = {
        "t4": Device("t4", 1.0, stock=4),
        "t4-box": Device("t4-box", 1.1, stock=4, counted_as="t4"),
        "dear": Device("dear", 5.0),
    }
    fleet = replace(fleet, devices=devices)
    assert cheapest(fleet).devices == {"dear": 2, "t4": 4}
    assert multipliers(fleet).limits == {"stock:t4": pytest.approx(4.0)}
    none = {name: replace(device, stock=0 if device.stock else None) for name, device in devices.items()}
    assert cheapest(replace(fleet, devices=none)).devices == {"dear": 6}


def test_two_boxes_of_one_chip_are_not_two_kinds_of_fleet():
    fleet = fleet_of({"t4": (1.0, [1.0]), "t4-box": (1.1, [1.0]), "dear": (5.0, [1.0])}, [6.0])
    fleet = replace(fleet, devices={**fleet.devices, "t4-box": Device("t4-box", 1.1, counted_as="t4")})
    (second,) = best_distinct(fleet, cheapest(fleet), 3)
    assert second.devices == {"dear": 6}


def test_what_serves_as_much_for_less_is_the_answer_to_roughly_as_well():
    """A budget is no aim: a solver that is not told so fills it."""
    fleet = fleet_of({"h100": (3.0, [10.0, 37.0]), "l4": (0.3, [0.7, 3.3])}, [60.0, 90.0], usd_per_hour=500.0)
    exact, rough = most_served(fleet), most_served(fleet, rough=True)
    assert exact.usd_per_hour == cheapest(fleet).usd_per_hour
    assert rough.usd_per_hour <= exact.usd_per_hour * 1.01


def test_what_is_served_in_full_is_one():
    fleet = fleet_of({"a": (1.0, [0.7, 3.3]), "b": (1.7, [6.0, 17.0])}, [60.0, 90.0], usd_per_hour=500.0)
    for answer in (cheapest(fleet), most_served(fleet), most_served(fleet, rough=True)):
        np.testing.assert_allclose(answer.shares.sum(axis=0), 1.0, atol=1e-14)


def test_the_cheapest_that_serves_so_much():
    fleet = fleet_of(TABLE, [4.0, 3.0])
    assert cheapest_serving(fleet, 4.0).devices == {"small": 2}
    assert cheapest_serving(fleet, 7.0).usd_per_hour == cheapest(fleet).usd_per_hour
    assert cheapest_serving(replace(fleet, usd_per_hour=1.0), 4.0).status == "infeasible"


@given(fleets(), st.floats(1.0, 40))
@quick
def test_the_second_most_is_the_most_that_lacks_a_kind(fleet, budget):
    fleet = replace(fleet, usd_per_hour=budget)
    first = most_served(fleet)
    lacking = [
        most_served(fleet.of([option for option in fleet.options if option.device != name])) for name in first.devices
    ]
    most = max((answer.served(fleet) for answer in lacking if answer.devices), default=None)
    found = best_distinct(fleet, first, 1, serving=True) if first.devices else []
    assert [answer.served(fleet) for answer in found] == ([] if most is None else [pytest.approx(most, rel=2e-3)])
    assert all(answer.usd_per_hour <= budget + 1e-6 for answer in found)


def test_growth_left_is_what_the_replicas_carry():
    fleet = fleet_of({"chip": (1.0, [10.0])}, [12.0], headroom=0.2)
    answer = cheapest(fleet)
    assert answer.devices == {"chip": 2}
    assert growth_left(fleet, answer) == pytest.approx(16 / 12)


# -- properties -----------------------------------------------------------------------------------------


@given(fleets())
@quick
def test_a_mix_is_never_dearer_than_the_best_single_kind(fleet):
    answer = cheapest(fleet)
    if len(fleet.wanted):
        check(fleet, answer)
    for option in fleet.options:
        single = cheapest(fleet.of([option]))
        if single.found:
            assert answer.usd_per_hour <= single.usd_per_hour * (1 + 1e-6)


@given(fleets(), st.floats(1.0, 3.0), st.floats(0.3, 1.0))
@quick
def test_cost_grows_with_demand_and_falls_with_throughput(fleet, more, slower):
    cost = cheapest(fleet).usd_per_hour
    assert cheapest(fleet.scaled(more)).usd_per_hour >= cost * (1 - 1e-6)
    assert cheapest(fleet.slower(slower)).usd_per_hour >= cost * (1 - 1e-6)


@given(fleets())
@quick
def test_the_relaxed_program_is_a_bound(fleet):
    answer, margins = cheapest(fleet), multipliers(fleet)
    assert margins.bound <= answer.usd_per_hour * (1 + 1e-6) + 1e-9
    assert answer.bound <= answer.usd_per_hour * (1 + 1e-6) + 1e-9


@given(fleets(), st.floats(0.5, 40))
@quick
def test_a_budget_is_never_exceeded_and_more_money_serves_more(fleet, budget):
    within = [most_served(replace(fleet, usd_per_hour=each)) for each in (budget, 1.5 * budget)]
    for answer, limit in zip(within, (budget, 1.5 * budget), strict=True):
        assert answer.usd_per_hour <= limit + 1e-6
    served = [answer.served(fleet) for answer in within]
    assert served[1] >= served[0] - 1e-6 * max(served[0], 1)
    cost = cheapest(replace(fleet, usd_per_hour=budget))
    assert not cost.found or cost.usd_per_hour <= budget + 1e-6


@given(fleets(), st.randoms(use_true_random=False))
@quick
def test_the_order_of_the_input_does_not_matter(fleet, random):
    options = list(fleet.options)
    random.shuffle(options)
    names = list(fleet.devices)
    random.shuffle(names)
    shuffled = replace(fleet, options=tuple(options), devices={name: fleet.devices[name] for name in names})
    one, other = cheapest(fleet), cheapest(shuffled)
    assert (one.devices, one.counts.tolist()) == (other.devices, other.counts.tolist())
    np.testing.assert_array_equal(one.shares, other.shares)


@given(fleets())
@quick
def test_what_is_pruned_was_of_no_use(fleet):
    from dse.search.fleet_program import _cheapest

    whole, few = _cheapest(fleet, 30.0, rough=False), _cheapest(pruned(fleet), 30.0, rough=False)
    assert few.usd_per_hour == pytest.approx(whole.usd_per_hour, rel=1e-5, abs=1e-9)


@given(fleets())
@quick
def test_parts_are_as_good_as_the_whole(fleet):
    """Two copies of a problem side by side, each with options of its own: the sum of their answers."""
    width = len(fleet.demand)
    none = np.zeros(width)
    options = [
        Option(f"{side} {option.name}", option.device, 1, np.concatenate(parts))
        for option in fleet.options
        for side, parts in (("left", (option.rates, none)), ("right", (none, option.rates)))
    ]
    both = Fleet(np.concatenate([fleet.demand, fleet.demand]), tuple(options), fleet.devices, fleet.headroom)
    assert cheapest(both).usd_per_hour == pytest.approx(2 * cheapest(fleet).usd_per_hour, rel=1e-5, abs=1e-9)


def test_another_solver_of_the_process_may_have_had_threads_of_its_own():
    """HiGHS keeps one pool of threads per process (`dse place` solves with as many as there are)."""
    import highspy

    other = highspy.Highs()
    other.setOptionValue("output_flag", False)
    other.setOptionValue("threads", 2)
    other.addVar(0.0, 1.0)
    other.run()
    assert cheapest(fleet_of({"chip": (1.0, [1.0])}, [3.5])).status == "optimal"


# -- options of two kinds of device -----------------------------------------------------------------------


@st.composite
def of_two_kinds(draw: st.DrawFn) -> Fleet:
    """Options that hold a, b, or both, under limits that bind now and then."""
    count = st.integers(1, 4)
    rates = st.lists(st.one_of(st.just(0.0), st.floats(0.5, 8)), min_size=2, max_size=2)
    options = [Option("a", "a", 1, np.array([1.0, 0.5])), Option("b", "b", 1, np.array([0.5, 1.0]))]
    options += [
        Option(f"pair-{place}", "a", draw(count), np.array(draw(rates)), {"b": draw(count)})
        for place in range(draw(st.integers(1, 3)))
    ]
    limit = st.one_of(st.none(), st.integers(0, 12))
    devices = {
        name: Device(name, draw(st.floats(0.5, 4)), 100.0, 10.0, draw(st.sampled_from([1, 1, 4])), draw(limit))
        for name in ("a", "b")
    }
    watts = draw(st.one_of(st.none(), st.floats(200, 2000)))
    usd = draw(st.one_of(st.none(), st.floats(2, 30)))
    demand = np.array(draw(st.lists(st.floats(0.1, 6), min_size=2, max_size=2)))
    return Fleet(demand, tuple(options), devices, usd_per_hour=usd, watts=watts)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(of_two_kinds())
def test_what_holds_two_kinds_takes_of_both(fleet):
    for answer in (cheapest(fleet), most_served(fleet)):
        if not answer.found:
            continue
        held = {"a": 0, "b": 0}
        for option, count in zip(answer.options, answer.counts, strict=True):
            for name, each in option.held.items():
                held[name] += each * int(count)
        for name, most in held.items():
            device, paid = fleet.devices[name], answer.devices.get(name, 0)
            assert most <= paid < most + device.box
            assert paid <= (np.inf if device.stock is None else device.stock)
        assert answer.usd_per_hour <= (np.inf if fleet.usd_per_hour is None else fleet.usd_per_hour) + 1e-6
        assert answer.watts <= (np.inf if fleet.watts is None else fleet.watts) + 1e-6
        assert answer.watts == pytest.approx(100.0 * sum(answer.devices.values()))


@quick
@given(of_two_kinds())
def test_what_is_ruled_out_costs_nothing_with_two_kinds(fleet):
    one, other = (cheapest(each) for each in (fleet, pruned(fleet)))
    assert one.found == other.found
    if one.found:
        assert one.usd_per_hour == pytest.approx(other.usd_per_hour, rel=2e-3)


def test_an_unlike_pair_is_worth_its_two_prices():
    pair = Option("pair", "decode", 1, np.array([10.0]), {"prefill": 2})
    devices = {"decode": Device("decode", 3.0), "prefill": Device("prefill", 1.0), "all": Device("all", 6.0)}
    fleet = Fleet(np.array([10.0]), (pair, Option("all", "all", 1, np.array([10.0]))), devices)
    answer = cheapest(fleet)
    assert (answer.devices, answer.usd_per_hour) == ({"decode": 1, "prefill": 2}, 5.0)
    others = best_distinct(fleet, answer, 2)
    assert [each.devices for each in others] == [{"all": 1}]
