"""The number type in which a chip multiplies two operands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dse.errors import InputError
from dse.spec.compute import operand_type, supported_type
from dse.spec.formats import PLAIN, parse_format


def _type(weights: str, activations: str) -> str:
    return operand_type(parse_format(weights), parse_format(activations))


class TestOperandType:
    """Per product: the type that holds both operands exactly."""

    @pytest.mark.parametrize(
        ("weights", "activations", "wanted"),
        [
            ("int4", "int4", "int4"),
            ("int3", "int4", "int4"),
            ("int4", "int8", "int8"),
            ("int8", "int8", "int8"),
            ("nvfp4", "nvfp4", "fp4"),
            ("mxfp4", "mxfp8", "fp8"),
            ("fp6", "fp4", "fp6"),
            ("fp8", "fp8", "fp8"),
            ("int4", "fp8", "fp8"),
            ("int8", "fp8", "bf16"),
            ("fp8", "int8", "bf16"),
            ("int12", "int8", "bf16"),
            ("int12", "fp16", "fp16"),
            ("int4", "bf16", "bf16"),
            ("q4_k_m", "fp16", "fp16"),
            ("mxfp4", "bf16", "bf16"),
            ("fp16", "bf16", "bf16"),
            ("bf16", "fp8", "bf16"),
            ("int4", "fp32", "fp32"),
            ("fp32", "bf16", "fp32"),
        ],
    )
    def test_of_operands(self, weights, activations, wanted):
        assert _type(weights, activations) == wanted

    @given(st.sampled_from(sorted(PLAIN)), st.sampled_from(sorted(PLAIN)))
    def test_is_never_narrower_than_an_operand(self, weights, activations):
        wanted = PLAIN[_type(weights, activations)]
        assert wanted.bits >= max(PLAIN[weights].bits, PLAIN[activations].bits)


TYPES = ("fp32", "tf32", "fp16", "bf16", "fp8", "fp6", "fp4", "int8", "int4")
H100 = dict.fromkeys(("tf32", "fp16", "bf16", "fp8", "int8"), 1.0)
A100 = dict.fromkeys(("tf32", "fp16", "bf16", "int8", "int4"), 1.0)
T4 = dict.fromkeys(("fp16", "int8", "int4"), 1.0)
chips = st.sets(st.sampled_from(TYPES)).filter(lambda types: types & {"fp32", "tf32", "fp16", "bf16"})


class TestSupportedType:
    """A type the chip lacks computes in the next one it has."""

    @pytest.mark.parametrize(
        ("chip", "wanted", "found"),
        [
            (H100, "int4", "int8"),  # 2402.16363 section 3.1.1
            (H100, "fp4", "fp8"),
            (H100, "fp32", "tf32"),
            (A100, "fp8", "bf16"),
            (A100, "int4", "int4"),
            (T4, "fp8", "fp16"),
            (T4, "bf16", "fp16"),
            ({"bf16": 1.0}, "fp16", "bf16"),
            ({"bf16": 1.0, "fp16": 2.0}, "fp8", "fp16"),  # MI100: the faster 16-bit type
            ({"bf16": 1.0, "fp16": 2.0}, "bf16", "bf16"),
            ({"fp32": 1.0}, "int4", "fp32"),
        ],
    )
    def test_of_chips(self, chip, wanted, found):
        assert supported_type(wanted, chip) == found

    @given(chips, st.sampled_from(TYPES))
    def test_is_in_the_chip_and_stable(self, types, wanted):
        peaks = dict.fromkeys(types, 1.0)
        found = supported_type(wanted, peaks)
        assert found in peaks
        assert supported_type(found, peaks) == found
        assert found == wanted or wanted not in peaks

    @given(chips, st.sampled_from([kind for kind in TYPES if kind not in ("fp32", "tf32")]))
    def test_is_never_narrower_than_wanted(self, types, wanted):
        """On a chip whose wider types are no faster, a fallback is thus never faster than the wanted type."""
        bits = {"tf32": 19, **{name: form.bits for name, form in PLAIN.items()}}
        assert bits[supported_type(wanted, dict.fromkeys(types, 1.0))] >= bits[wanted]

    def test_a_chip_without_floats_is_a_fault(self):
        with pytest.raises(InputError, match=r"no type to compute bf16 in \(given: int8\); expected"):
            supported_type("bf16", {"int8": 1.0})
