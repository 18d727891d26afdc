"""Precision schemes: what a name or a mapping means, bits to the last digit, and where products run."""

from __future__ import annotations

import csv
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.errors import InputError
from dse.spec.formats import PLAIN, format_name, library_formats, parse_format, plain
from dse.spec.precision import (
    TENSORS,
    library_aliases,
    library_notes,
    library_precisions,
    parse_precision,
)
from dse.spec.reading import read


class TestBits:
    """Effective bits per element, scales included (techniques.md section 1)."""

    @pytest.mark.parametrize(
        ("written", "bits"),
        [
            ({"dtype": "int4", "group_size": 128}, 4.125),
            ({"dtype": "int4", "group_size": 128, "symmetric": True}, 4.125),
            ({"dtype": "int4", "group_size": 128, "zero_bits": 4}, 4.15625),
            ({"dtype": "int4", "group_size": 128, "symmetric": False}, 4.25),
            ({"dtype": "int4", "group_size": 64, "symmetric": False}, 4.5),
            ({"dtype": "int4", "group_size": 64, "scale_bits": 16, "zero_bits": 4}, 4.3125),
            ("mxfp4", 4.25),
            ("nvfp4", 4.5),
            ("fp8-block", 8 + 32 / 16384),
            ("kivi-2", 3.0),
            ("kivi-4", 5.0),
            ("q4_0", 4.5),
            ("q6_k", 6.5625),
            ("q8_0", 8.5),
        ],
    )
    def test_of_formats_with_scales(self, written, bits):
        assert parse_format(written).bits == bits

    @pytest.mark.parametrize("name", PLAIN)
    def test_of_plain_types(self, name):
        assert parse_format(name).bits == int("".join(filter(str.isdigit, name)))
        assert parse_format(name).bytes == parse_format(name).bits / 8

    @pytest.mark.parametrize("group_size", [0, -1])
    def test_one_scale_per_channel_does_not_count(self, group_size):
        assert parse_format({"dtype": "int4", "group_size": group_size}) == parse_format("int4")

    @given(st.integers(1, 16))
    def test_bits_alone_mean_integers(self, bits):
        assert parse_format({"bits": bits}) == PLAIN[f"int{bits}"]

    def test_average_bits_keep_the_type(self):
        form = parse_format({"dtype": "int4", "bits": 4.85})
        assert (form.dtype, form.bits) == ("int4", 4.85)
        assert parse_format({"bits": 4.85}).dtype == "int5"

    @given(st.integers(1, 16), st.integers(1, 4096), st.integers(0, 64), st.integers(0, 64))
    def test_scales_never_shrink_a_format(self, bits, group, scale, zero):
        form = parse_format({"bits": bits, "group_size": group, "scale_bits": scale, "zero_bits": zero})
        assert form.bits == bits + (scale + zero) / group


class TestInline:
    """A mapping says what is quantised; the rest is 16 bit."""

    def test_example_of_the_design(self):
        scheme = parse_precision(
            {"weights": "int4", "group_size": 128, "activations": "bf16", "kv_cache": "fp8"}
        )
        assert scheme.weights.bits == 4.125
        assert scheme.kv_cache == PLAIN["fp8"]
        assert scheme.activations == scheme.embeddings == scheme.attention == PLAIN["bf16"]

    @pytest.mark.parametrize("wide", ["bf16", "fp16", "fp32"])
    def test_defaults_follow_wide_activations(self, wide):
        scheme = parse_precision({"weights": "int4", "activations": wide})
        assert {scheme.kv_cache, scheme.embeddings, scheme.attention} == {PLAIN[wide]}

    @pytest.mark.parametrize("narrow", ["fp8", "int8", "nvfp4", "int12"])
    def test_defaults_are_bf16_beside_narrow_activations(self, narrow):
        scheme = parse_precision({"weights": narrow, "activations": narrow})
        assert {scheme.kv_cache, scheme.embeddings, scheme.attention} == {PLAIN["bf16"]}

    def test_attention_is_fp8_only_if_stated(self):
        assert parse_precision("fp8-kv8").attention == PLAIN["bf16"]
        assert parse_precision({"weights": "fp8", "attention": "fp8"}).attention == PLAIN["fp8"]

    def test_nested_tensors(self):
        scheme = parse_precision(
            {
                "weights": {"dtype": "int4", "group_size": 64, "scale_bits": 16, "zero_bits": 4},
                "kv_cache": {"bits": 2, "group_size": 32, "symmetric": False},
                "embeddings": "int8",
            }
        )
        assert scheme.weights.bits == 4.3125
        assert scheme.kv_cache.bits == 3.0
        assert scheme.embeddings.bits == 8

    def test_group_beside_weights_describes_only_the_weights(self):
        scheme = parse_precision({"weights": "int4", "activations": "int4", "group_size": 32})
        assert (scheme.weights.group_size, scheme.activations.group_size) == (32, 0)

    def test_equal_to_a_library_scheme_takes_its_name(self):
        written = {"weights": {"bits": 4, "group_size": 128}, "kv_cache": "fp8"}
        assert parse_precision(written) == library_precisions()["w4a16-g128-kv8"]

    def test_another_is_named_after_its_formats(self):
        assert parse_precision({"weights": "int3", "kv_cache": "fp8"}).name == "w-int3_a-bf16_kv-fp8"
        assert parse_precision({"name": "mine", "weights": "int3"}).name == "mine"

    @given(st.sampled_from(sorted(PLAIN)), st.sampled_from(sorted(PLAIN)), st.sampled_from(sorted(PLAIN)))
    def test_different_schemes_have_different_names(self, weights, activations, kv_cache):
        scheme = parse_precision({"weights": weights, "activations": activations, "kv_cache": kv_cache})
        other = parse_precision({"weights": activations, "activations": weights, "kv_cache": kv_cache})
        assert (scheme.name == other.name) == (scheme == other)

    def test_base_gives_what_is_not_stated(self):
        scheme = parse_precision({"base": "int4", "activations": "fp16", "kv_cache": "int8"})
        assert scheme.weights == library_precisions()["w4a16-g128"].weights
        assert (scheme.activations, scheme.kv_cache) == (PLAIN["fp16"], PLAIN["int8"])
        assert parse_precision({"base": "fp8", "kv_cache": "fp8"}).name == "fp8-kv8"

    def test_a_precision_stays_what_it_is(self):
        scheme = library_precisions()["fp8"]
        assert parse_precision(scheme) is scheme


class TestLibrary:
    """Every scheme has a note, a source, and a name that says all it quantises."""

    def test_holds_the_names_of_the_design(self):
        names = (
            "fp32", "fp16", "bf16", "fp8", "fp8-kv8", "fp8-block", "w8a8-int8", "w8a8-int8-kv8", "w8a16",
            "w4a16-g128", "w4a16-g128-kv8", "w4a16-g64", "w3a16-g128", "w2a16-g64", "w4a8kv4-g128", "nvfp4",
            "nvfp4-kv8", "mxfp4", "mxfp4-a8", "q2_k", "q3_k_m", "q4_0", "q4_k_m", "q5_k_m", "q6_k", "q8_0",
            "kivi-2", "kivi-4",
        )  # fmt: skip
        assert set(names) <= library_precisions().keys()

    @pytest.mark.parametrize("name", library_precisions())
    def test_notes_and_name(self, name):
        scheme = library_precisions()[name]
        assert scheme.name == name
        assert all(library_notes()[name])
        quantises_kv = not scheme.kv_cache.wide
        assert quantises_kv == ("kv" in name or name.startswith("kivi"))

    def test_no_two_schemes_are_the_same(self):
        contents = [tuple(getattr(s, tensor) for tensor in TENSORS) for s in library_precisions().values()]
        assert len(set(contents)) == len(contents)

    def test_aliases_point_at_schemes_and_shadow_none(self):
        aliases = library_aliases()
        assert set(aliases.values()) <= library_precisions().keys()
        names = [plain(name) for name in (*aliases, *library_precisions())]
        assert len(set(names)) == len(names)

    @pytest.mark.parametrize("spelling", ["Q4_K_M", "q4-k-m", "gguf q4_k_m"])
    def test_case_and_separators_do_not_matter(self, spelling):
        assert parse_precision(spelling).name == "q4_k_m"

    def test_bare_integers_mean_weight_only(self):
        assert parse_precision("int4").name == "w4a16-g128"
        assert parse_precision("int8").name == "w8a16"

    def test_every_measured_spelling_resolves(self, shared_data):
        with (shared_data / "measured" / "names.csv").open(newline="") as stream:
            rows = list(csv.DictReader(stream))
        spellings = {column: [row["spelling"] for row in rows if row["column"] == column]
                     for column in ("weight_dtype", "act_dtype", "kv_dtype")}  # fmt: skip
        assert all(spellings.values())
        for spelling in spellings["weight_dtype"]:
            parse_precision(spelling)
        for weights, activations, kv_cache in itertools.product(*spellings.values()):
            parse_precision({"weights": weights, "activations": activations, "kv_cache": kv_cache})

    def test_format_names_are_read_back(self):
        for form in library_formats().values():
            name = format_name(form)
            assert name in library_formats() or name.startswith("int")
            if name in library_formats():
                assert library_formats()[name] == form


class TestFaults:
    """What is wrong and what would be right, all at once."""

    @pytest.mark.parametrize(
        ("written", "message"),
        [
            ({"weigths": "int4"}, "weigths: unknown field; did you mean 'weights'?"),
            ({"weights": "int44"}, "weights: no number format is named 'int44'; did you mean 'int4'?"),
            ({"weights": "quux"}, "weights: no number format is named 'quux'; expected int1 ... int16, fp32"),
            ("w4a16-g12", "no precision is named 'w4a16-g12'; did you mean 'w4a16-g128'?"),
            ("fp6", "for that format of weights write {weights: fp6}"),
            ({}, "says nothing of any tensor; expected one of weights,"),
            (7, "expected a precision's name or a mapping with weights, got 7"),
            ({"weights": 4}, "weights: expected a number format such as int4 or {bits: 4}, got 4"),
            ({"weights": {"group_size": 64}}, "weights: says neither dtype nor bits"),
            ({"weights": {"bits": 17}}, "weights.bits: no int has 17 bits; expected 1 to 16"),
            ({"weights": {"bits": 5, "kind": "float"}}, "weights.bits: no float has 5 bits; expected 4, 6"),
            ({"weights": {"bits": True}}, "weights.bits: expected a number from 1 to 32, got true"),
            ({"weights": {"dtype": "int4", "kind": "float"}}, "weights.kind: int4 is of kind int, not float"),
            ({"weights": {"dtype": "int4", "kind": 3}}, "weights.kind: 3 is not one of int, float"),
            ({"weights": "int4", "group_size": "128"}, "group_size: expected a whole number from -1 to"),
            ({"weights": "int4", "group_size": 0.5}, "group_size: expected a whole number"),
            ({"weights": "int4", "scale_bits": 8}, "scale_bits: scale_bits needs group_size"),
            ({"weights": "mxfp4", "group_size": 64}, "group_size: mxfp4 has groups of 32 by definition"),
            ({"weights": "fp16", "group_size": 64}, "group_size: fp16 is not quantised; leave group_"),
            ({"kv_cache": "fp8", "group_size": 64}, "group_size: describes the weights"),
            ({"weights": {"bits": 4, "group_size": 64}, "group_size": 64}, "group_size: also stated in"),
            ({"weights": {"bits": 4, "group_size": 64, "symmetric": True, "zero_bits": 4}}, "no zero point"),
            ({"weights": {"bits": 4, "group_size": 64, "symmetric": 1}}, "symmetric: expected true or false"),
            ({"base": "fp9"}, "base: no precision is named 'fp9'; did you mean 'fp"),
            ({"base": {"weights": "fp8"}}, "base: expected a precision's name, got a mapping"),
            ({"weights": "int4", "name": 4}, "name: expected text, got 4"),
        ],
    )  # fmt: skip
    def test_message(self, written, message):
        with pytest.raises(InputError) as error:
            parse_precision(written)
        assert message in str(error.value)
        assert len(error.value.faults) == 1

    def test_all_at_once_with_positions(self, tmp_path):
        file = tmp_path / "sweep.yaml"
        file.write_text("precision:\n  - weights: int44\n    kv_cahce: fp8\n    activations: {bits: 99}\n")
        document = read(file)
        with pytest.raises(InputError) as error:
            parse_precision(document.value["precision"][0], document, ("precision", 0))
        places = {(fault.field, fault.line, fault.column) for fault in error.value.faults}
        assert places == {
            ("precision[0].weights", 2, 14),
            ("precision[0].kv_cahce", 3, 5),
            ("precision[0].activations.bits", 4, 25),
        }
