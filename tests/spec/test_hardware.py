"""An accelerator file: units, fallbacks, prices, sources, and what is refused."""

from __future__ import annotations

import pickle

import pytest

from dse.errors import InputError
from dse.spec.catalog import hardware_names, load_hardware
from dse.spec.hardware import HardwareSpec

LEAST = {
    "name": "x1",
    "vendor": "Acme",
    "kind": "gpu",
    "peak_tflops": {"bf16": 160, "fp8": 320},
    "memory": {"capacity_gb": 80, "bandwidth_gb_per_s": 2000},
}
SOURCES = {"peak_tflops": "datasheet", "memory": "recalled, about right", "memory.capacity_gb": "datasheet"}


def chip(**more: object) -> HardwareSpec:
    return load_hardware({**LEAST, **more})


def faults(**more: object) -> list[str]:
    with pytest.raises(InputError) as caught:
        chip(**more)
    return [str(fault) for fault in caught.value.faults]


def test_properties_are_si():
    found = chip(vector_tflops=40)
    assert found.memory_bytes == 80e9
    assert found.bandwidth == 2e12
    assert found.peak("bf16") == 160e12
    assert found.peak("fp16") is None
    assert found.vector == 40e12


@pytest.mark.parametrize(
    ("peaks", "vector"),
    [
        ({"fp32": 20, "fp16": 160}, 20e12),
        ({"fp16": 160, "bf16": 80}, 10e12),
        ({"bf16": 80}, 5e12),
        ({"int8": 16}, 1e12),
    ],
)
def test_vector_peak_falls_back(peaks, vector):
    assert chip(peak_tflops=peaks).vector == vector


def test_the_domain_is_the_scale_up_link_else_the_box_else_the_device():
    box, host = {"devices": 4}, {"gb_per_s": 32}
    linked = chip(scale_up={"gb_per_s": 450, "domain": 8}, host_link=host, box=box)
    assert (linked.domain, linked.domain_bandwidth) == (8, 450e9)
    boxed = chip(host_link=host, box=box)
    assert (boxed.domain, boxed.domain_bandwidth) == (4, 32e9)
    alone = chip(box=box)
    assert (alone.domain, alone.domain_bandwidth) == (1, alone.bandwidth)


def test_no_scale_out_link_means_none():
    assert chip().scale_out_bandwidth is None
    assert chip(scale_out={"gb_per_s": 50}).scale_out_bandwidth == 50e9


PRICES = [
    {"kind": "on-demand", "usd_per_hour": 4, "date": "2024-Q4", "provider": "a"},
    {"kind": "on-demand", "usd_per_hour": 3, "date": "2025-06", "provider": "b"},
    {"kind": "on-demand", "usd_per_hour": 2, "date": "2025-Q2", "provider": "c"},
    {"kind": "on-demand", "usd_per_hour": 1, "date": 2025, "provider": "d"},
    {"kind": "purchase", "usd": 30000, "source": "recalled"},
]


def test_the_latest_quote_wins_and_of_equal_dates_the_cheapest():
    quote = chip(prices=PRICES).price("on-demand")
    assert quote is not None
    assert quote.provider == "c"


def test_a_purchase_is_no_hourly_price_and_a_missing_kind_is_none():
    assert chip(prices=PRICES).price("purchase") is None
    assert chip(prices=PRICES).price("spot") is None


def test_the_users_price_goes_before_every_quote():
    quote = chip(prices=PRICES).price("on-demand", override=2.4)
    assert quote is not None
    assert (quote.usd_per_hour, quote.source) == (2.4, "set by the user")


def test_sources_cover_by_longest_prefix_and_recalled_numbers_are_listed():
    found = chip(sources=SOURCES, prices=PRICES, cores=100)
    assert found.source("memory.capacity_gb") == "datasheet"
    assert found.source("peak_tflops.fp8") == "datasheet"
    assert found.recalled == ("memory.bandwidth_gb_per_s", "prices[4]")
    assert "cores" in found.unsourced
    assert "memory.capacity_gb" not in found.unsourced


def test_a_spec_travels_to_other_processes():
    found = chip(prices=PRICES, sources=SOURCES)
    assert pickle.loads(pickle.dumps(found)) == found


@pytest.mark.parametrize(
    ("field", "value", "messages"),
    [
        ("peak_tflops", {"bf17": 1},
         ["peak_tflops.bf17: 'bf17' is not one of fp32, tf32, fp16, bf16, fp8, fp6, fp4, int8, int4; "
          "did you mean 'bf16'?"]),
        ("peak_tflops", {"bf16": 0}, ["peak_tflops.bf16: must be > 0, got 0"]),
        ("peak_tflops", {}, ["peak_tflops: needs at least 1, got 0"]),
        ("memory", {"capacity_gb": -80, "bandwith_gb_per_s": 2},
         ["memory.bandwith_gb_per_s: unknown field; did you mean 'bandwidth_gb_per_s'?",
          "memory.capacity_gb: must be > 0, got -80"]),
        ("memory", 80, ["memory: expected a mapping, got 80"]),
        ("kind", "gpus", ["kind: 'gpus' is not one of gpu, asic, soc, cpu; did you mean 'gpu'?"]),
        ("name", "", ["name: must not be empty"]),
        ("box", {"devices": 0}, ["box.devices: must be >= 1, got 0"]),
        ("box", {"devices": True}, ["box.devices: expected a whole number, got true"]),
        ("cores", "132", ["cores: expected a whole number, got '132'"]),
        ("vector_tflops", float("nan"), ["vector_tflops: expected a finite number, got nan"]),
        ("cores", 10**30, ["cores: the number is too large; expected at most 2^63"]),
        ("sources", {"memry": "a"}, ["sources: 'memry' is not a field; did you mean 'memory'?"]),
        ("prices", [{"kind": "spot", "usd": 3}], ["prices[0]: a price of kind spot needs 'usd_per_hour'"]),
        ("prices", [{"kind": "spott", "usd_per_hour": 3}],
         ["prices[0].kind: 'spott' is not one of on-demand, neocloud, reserved, spot, rental-3y, "
          "tco-hyperscaler, tco-neocloud, purchase, assumed; did you mean 'spot'?"]),
        ("prices", [{"kind": "spot", "usd_per_hour": 3, "date": "last May"}],
         ["prices[0].date: expected a date such as 2025-03-01, 2025-03, 2025-Q1 or 2025, got 'last May'"]),
    ],
)  # fmt: skip
def test_what_is_refused(field, value, messages):
    assert faults(**{field: value}) == messages


def test_missing_fields_are_all_named():
    with pytest.raises(InputError) as caught:
        load_hardware({"name": "x"})
    assert [fault.message for fault in caught.value.faults] == [
        f"missing field '{name}'" for name in ("kind", "memory", "peak_tflops", "vendor")
    ]


@pytest.mark.parametrize("name", hardware_names())
def test_every_library_file_is_whole(name):
    """It validates, is named as its file, and every number has a source."""
    found = load_hardware(name)
    assert found.name == name
    assert found.unsourced == ()
