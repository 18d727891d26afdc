"""Names, aliases and paths: the user's own first, near misses named, chips derived in a few lines."""

from __future__ import annotations

import csv
import os
from collections import Counter
from pathlib import Path

import pytest

from dse.errors import InputError
from dse.spec import shelf
from dse.spec.catalog import (
    expand_hardware,
    hardware_names,
    load_hardware,
    load_model,
    load_precision,
    model_names,
    precision_names,
)
from dse.spec.reading import Document, library_file, read

CHIP = """\
name: x1
vendor: Acme
kind: gpu
aliases: [Acme X1, X1-80GB]
peak_tflops: {bf16: 100, fp8: 200}
memory: {type: HBM3, capacity_gb: 80, bandwidth_gb_per_s: 2000}
prices:
  - {kind: on-demand, usd_per_hour: 4, date: 2025-01}
sources: {peak_tflops: datasheet, memory: recalled}
"""


@pytest.fixture
def desk(tmp_path, monkeypatch) -> Path:
    """A working folder of the user's own, with one chip."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hardware").mkdir()
    (tmp_path / "hardware" / "x1.yaml").write_text(CHIP)
    return tmp_path


def fault_lines(call, *arguments) -> list[str]:
    with pytest.raises(InputError) as caught:
        call(*arguments)
    return str(caught.value).splitlines()


def sweep(folder: Path, text: str) -> Document:
    (folder / "s.yaml").write_text(text)
    return read("s.yaml")


# --- names ------------------------------------------------------------------------------------


SPELLINGS = ["x1", "X1", "acme x1", "ACME_X1", "x1 80gb", "hardware/x1.yaml", "./hardware/x1.yaml"]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_name(desk, spelling):
    assert load_hardware(spelling).name == "x1"


@pytest.mark.parametrize("spelling", ["h100-sxm", "H100 SXM", "H100_SXM", "H100"])
def test_the_library_is_there_in_any_folder(desk, spelling):
    assert load_hardware(spelling).name == "h100-sxm"


def test_the_users_own_file_wins_over_the_library(desk):
    own = CHIP.replace("name: x1", "name: h100-sxm").replace("Acme X1", "mine")
    (desk / "hardware" / "h100-sxm.yaml").write_text(own)
    assert load_hardware("h100-sxm").vendor == "Acme"
    assert "x1" in hardware_names()


def test_ones_own_file_of_a_library_name_can_build_on_the_library(desk):
    (desk / "h100-sxm.yaml").write_text("base: h100-sxm\npower.tdp_w: 500\n")
    found = load_hardware("h100-sxm")
    assert found.name == "h100-sxm"
    assert found.power.tdp_w == 500
    assert found.vendor == "NVIDIA"


def test_a_changed_file_is_read_again(desk):
    assert load_hardware("x1").memory.capacity_gb == 80
    path = desk / "hardware" / "x1.yaml"
    path.write_text(CHIP.replace("capacity_gb: 80", "capacity_gb: 96"))
    os.utime(path, ns=(1, 1))
    assert load_hardware("x1").memory.capacity_gb == 96


def test_a_name_is_found_without_reading_other_files(desk, monkeypatch):
    monkeypatch.setattr(shelf, "_index", lambda *_: pytest.fail("read the aliases of the whole library"))
    assert load_hardware("h100-sxm").name == "h100-sxm"


def test_a_broken_neighbour_does_not_break_a_lookup(desk):
    (desk / "hardware" / "broken.yaml").write_text("aliases: [unclosed\n")
    assert load_hardware("X1-80GB").name == "x1"


@pytest.mark.parametrize(
    ("call", "name", "message"),
    [
        (load_hardware, "h100-smx",
         "unknown hardware 'h100-smx'; did you mean 'h100-sxm'? 'dse list hardware' shows all"),
        (load_hardware, "zzzzzz", "unknown hardware 'zzzzzz'; 'dse list hardware' shows all"),
        (load_model, "lama-3.1-8b",
         "unknown model 'lama-3.1-8b'; did you mean 'llama-3.1-8b'? 'dse list models' shows all"),
        (load_hardware, "./x11.yaml", "no such file or folder: ./x11.yaml; did you mean 'x1'?"),
        (load_model, "./gone/config.json", "no such file or folder: ./gone/config.json"),
        (load_model, "acme/zzz",
         "no such file or folder: acme/zzz, and no model of that name in the library"),
        (load_hardware, 3, "expected the name or the path of a hardware file, got 3"),
        (load_model, "", "expected the name or the path of a model file, got ''"),
        (load_hardware, "hardware/", "hardware is a folder; expected a hardware file"),
        (load_hardware, "a\0b", "unknown hardware 'a\\x00b'; 'dse list hardware' shows all"),
    ],
)  # fmt: skip
def test_what_is_not_found(desk, call, name, message):
    assert fault_lines(call, name) == [message]


def test_a_fault_stands_where_the_name_was_written(desk):
    document = sweep(desk, "hardware:\n  - x1\n  - h100-smx\n")
    assert fault_lines(load_hardware, document.value["hardware"][1], document, ["hardware", 1])[0].startswith(
        "s.yaml:3:5: hardware[1]: unknown hardware 'h100-smx'; did you mean 'h100-sxm'?"
    )


def test_a_folder_that_holds_no_specification_is_told_where_it_was_written(desk):
    (desk / "empty").mkdir()
    document = sweep(desk, "models: [./empty]\nhardware:\n  - ./empty\n")
    assert fault_lines(load_model, "./empty", document, ["models", 0]) == [
        "s.yaml:1:10: models[0]: the folder empty has no config.json; expected the folder of a model, or a file"
    ]
    assert fault_lines(load_hardware, "./empty", document, ["hardware", 0]) == [
        "s.yaml:3:5: hardware[0]: empty is a folder; expected a hardware file"
    ]


def test_a_path_is_taken_beside_the_file_that_names_it(desk):
    (desk / "sweeps").mkdir()
    (desk / "sweeps" / "mine.yaml").write_text(CHIP.replace("name: x1", "name: beside"))
    assert load_hardware("./mine.yaml", Document("sweeps/s.yaml", None)).name == "beside"


def test_aliases_are_unique_and_hide_no_name():
    for shelf_ in (shelf.MODELS, shelf.HARDWARE):
        folder = library_file(shelf_.folder)
        files = shelf._files(shelf_, folder)
        if shelf_ is shelf.MODELS:
            aliases = [alias for entry in read(folder / "aliases.yaml").value.values() for alias in entry]
        else:
            aliases = [alias for path in files for alias in read(path).value.get("aliases", [])]
        spellings = [shelf.plain_name(path.stem) for path in files]
        spellings += map(shelf.plain_name, aliases)
        assert [name for name, count in Counter(spellings).items() if count > 1] == []


def test_every_alias_of_a_model_names_a_file():
    folder = library_file("configs/models")
    assert set(read(folder / "aliases.yaml").value) <= {path.stem for path in folder.glob("*.json")}


def test_every_spelling_in_the_measurements_resolves(shared_data):
    with (shared_data / "measured" / "names.csv").open() as file:
        rows = list(csv.DictReader(file))
    unknown = []
    for row in rows:
        load = {"hardware": load_hardware, "model": load_model}.get(row["column"])
        if load is None and row["column"].endswith("_dtype"):
            load = load_precision
        try:
            if load is not None:
                load(row["spelling"])
        except InputError as error:
            unknown.append(str(error))
    assert unknown == []


def test_lists_of_names_are_sorted_and_whole(desk):
    assert {"h100-sxm", "mi300x", "x1"} <= set(hardware_names())
    assert {"llama-3.1-8b", "deepseek-v3"} <= set(model_names())
    assert {"bf16", "fp8"} <= set(precision_names())
    assert hardware_names() == sorted(hardware_names())


# --- derivation -------------------------------------------------------------------------------


def test_dotted_and_nested_keys_derive_alike(desk):
    dotted = load_hardware({"base": "x1", "memory.capacity_gb": 256, "name": "big"})
    nested = load_hardware({"base": "x1", "memory": {"capacity_gb": 256}, "name": "big"})
    assert dotted == nested
    assert dotted.memory.capacity_gb == 256
    assert dotted.memory.bandwidth_gb_per_s == 2000
    assert dotted.aliases == ()


def test_an_overridden_number_is_no_longer_recalled(desk):
    found = load_hardware({"base": "x1", "memory.capacity_gb": 256})
    assert found.source("memory.capacity_gb") == "override"
    assert found.recalled == ("memory.bandwidth_gb_per_s",)


def test_a_source_of_ones_own_stays(desk):
    own = {"memory.capacity_gb": "quote"}
    found = load_hardware({"base": "x1", "memory.capacity_gb": 256, "sources": own})
    assert found.source("memory.capacity_gb") == "quote"


def test_null_removes_and_a_new_part_can_be_added(desk):
    found = load_hardware({"base": "x1", "peak_tflops.fp8": None, "scale_up": {"gb_per_s": 450, "domain": 8}})
    assert found.peak("fp8") is None
    assert found.domain == 8


def test_lists_multiply_out_with_names_of_their_own(desk):
    found = expand_hardware({"base": "x1", "memory.capacity_gb": [96, 192], "power": {"tdp_w": [500, 700.5]}})
    assert [spec.name for spec, _ in found] == [
        f"x1[memory.capacity_gb={gb},power.tdp_w={w}]" for gb in (96, 192) for w in (500, 700.5)
    ]
    assert found[1][1] == {"memory.capacity_gb": 96, "power.tdp_w": 700.5}
    assert [spec.memory.capacity_gb for spec, _ in found] == [96, 96, 192, 192]


@pytest.mark.parametrize(
    "entry",
    [
        {"base": "x1", "memory.capacity_gb": {"from": 80, "to": 160, "step": 40}},
        {"base": "x1", "memory": {"capacity_gb": {"from": 80, "to": 160, "step": 40}}},
        {"base": "x1", "memory.capacity_gb": [80, {"from": 120, "to": 160, "step": 40}]},
    ],
)
def test_a_range_of_a_number_is_the_list_of_its_values(desk, entry):
    listed = expand_hardware({"base": "x1", "memory.capacity_gb": [80, 120, 160]})
    assert expand_hardware(entry) == listed
    assert [chip.name for chip, _ in listed] == [f"x1[memory.capacity_gb={size}]" for size in (80, 120, 160)]


def test_a_range_may_double_and_have_fractions(desk):
    doubled = expand_hardware({"base": "x1", "memory.capacity_gb": {"from": 20, "to": 80, "scale": "log2"}})
    assert [changed["memory.capacity_gb"] for _, changed in doubled] == [20, 40, 80]
    halves = expand_hardware({"base": "x1", "power.tdp_w": {"from": 0.5, "to": 1.5, "step": 0.5}})
    assert [changed["power.tdp_w"] for _, changed in halves] == [0.5, 1, 1.5]


def test_a_given_name_is_kept_and_told_apart_by_the_lists_only(desk):
    found = expand_hardware({"base": "x1", "name": "big", "memory.capacity_gb": [96, 192], "cores": 4})
    assert [spec.name for spec, _ in found] == ["big[memory.capacity_gb=96]", "big[memory.capacity_gb=192]"]
    assert load_hardware({"base": "x1", "name": "big", "cores": 4}).name == "big"


def test_prices_are_one_list_not_a_choice(desk):
    prices = [{"kind": "spot", "usd_per_hour": 1}, {"kind": "reserved", "usd_per_hour": 2}]
    assert len(load_hardware({"base": "x1", "prices": prices}).prices) == 2


def test_a_file_may_derive_from_one_beside_it(desk):
    (desk / "hardware" / "x2.yaml").write_text("base: ./x1.yaml\nmemory.capacity_gb: 160\n")
    (desk / "hardware" / "x3.yaml").write_text("name: X-three\nbase: x2\nbox.devices: 4\n")
    assert load_hardware("x2").name == "x2"
    third = load_hardware("x3")
    assert (third.name, third.memory.capacity_gb, third.box.devices) == ("X-three", 160, 4)


@pytest.mark.parametrize(
    ("entry", "messages"),
    [
        ("{base: x1, memory.capcity_gb: 256}",
         ["s.yaml:1:23: hardware[0].memory.capcity_gb: unknown field; did you mean 'capacity_gb'?"]),
        ("{base: x1, memory: {capacity_gb: -1}, cores: many}",
         ["s.yaml:1:45: hardware[0].memory.capacity_gb: must be > 0, got -1",
          "s.yaml:1:57: hardware[0].cores: expected a whole number, got 'many'"]),
        ("{base: x1, memory.capacity_gb: [96, 0]}",
         ["s.yaml:1:48: hardware[0].memory.capacity_gb[1]: must be > 0, got 0"]),
        ("{base: x1, memory.capacity_gb: []}",
         ["s.yaml:1:43: hardware[0].memory.capacity_gb: an empty list; give at least one value"]),
        ("{base: x1, cores: [1, 2, 1]}", ["s.yaml:1:37: hardware[0].cores[2]: 1 is given twice"]),
        ("{base: x1, memory.capacity_gb: {from: 160, to: 80, step: 8}}",
         ["s.yaml:1:43: hardware[0].memory.capacity_gb: the range is empty: from 160 to 80"]),
        ("{base: x1, memory.capacity_gb: {from: 80, to: 160}}",
         ["s.yaml:1:43: hardware[0].memory.capacity_gb: give a range of numbers either 'step' or 'scale: log2'"]),
        ("{base: x1, memory.capacity_gb: {from: 80, to: 160, stepp: 40}}",
         ["s.yaml:1:63: hardware[0].memory.capacity_gb.stepp: unknown field; did you mean 'step'?"]),
        ("{base: x1, cores: {from: 1, to: 20000, step: 1}}",
         ["s.yaml:1:12: hardware[0]: 20000 variants of one chip; at most 10000"]),
        ("{base: x1, memory.capacity_gb: 1, memory: {capacity_gb: 2}}",
         ["s.yaml:1:55: hardware[0].memory.capacity_gb: given twice, as a dotted key and nested; "
          "keep one of them"]),
        ("{base: x1, scale_up.gb_per_s: 450}", ["s.yaml:1:23: hardware[0].scale_up: missing field 'domain'"]),
        ("{base: x1, name.first: a}", ["s.yaml:1:23: hardware[0].name.first: name has no parts"]),
        ("{base: x11, cores: 2}",
         ["s.yaml:1:19: hardware[0].base: unknown hardware 'x11'; did you mean 'x1'? "
          "'dse list hardware' shows all"]),
        ("{base: [x1], cores: 2}",
         ["s.yaml:1:19: hardware[0].base: expected the name or the path of a hardware file, got a list"]),
    ],
)  # fmt: skip
def test_what_a_derivation_refuses(desk, entry, messages):
    document = sweep(desk, f"hardware: [{entry}]\n")
    assert fault_lines(expand_hardware, document.value["hardware"][0], document, ["hardware", 0]) == messages


def test_a_chip_cannot_derive_from_itself(desk):
    (desk / "hardware" / "a.yaml").write_text("base: b\n")
    (desk / "hardware" / "b.yaml").write_text("base: a\n")
    message = "hardware/b.yaml:1:7: base: derives from itself: a.yaml -> b.yaml -> a.yaml"
    assert fault_lines(load_hardware, "a") == [message]


def test_one_chip_is_expected_where_one_is_asked_for(desk):
    assert fault_lines(load_hardware, {"base": "x1", "cores": [1, 2]}) == ["stands for 2 chips; expected one"]


def test_too_many_variants_are_refused_before_they_are_built(desk):
    entry = {"base": "x1", "cores": list(range(1, 1001)), "memory.capacity_gb": list(range(1, 1001))}
    assert fault_lines(expand_hardware, entry) == ["1000000 variants of one chip; at most 10000"]


# --- models -----------------------------------------------------------------------------------


def test_a_model_by_name_alias_file_and_folder(desk):
    library = library_file("configs/models/llama-3.1-8b.json")
    (desk / "mine").mkdir()
    (desk / "mine" / "config.json").write_text(library.read_text())
    known = load_model("llama-3.1-8b")
    assert load_model("meta-llama/Llama-3.1-8B") == known
    assert load_model(library) == known
    for spelling in ("./mine", "./mine/config.json", "mine/"):
        assert load_model(spelling).parameters() == known.parameters()


def test_a_truncated_config_says_so(desk):
    (desk / "config.json").write_text('{"model_type": "llama", "hidden_size": 40')
    assert fault_lines(load_model, "./config.json") == [
        "config.json:1:42: not valid JSON: the file ends in the middle of a value; it is truncated"
    ]
