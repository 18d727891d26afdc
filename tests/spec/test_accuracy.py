"""What quantisation costs in quality: from measurements, with what each figure rests on."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass

import pytest

from dse.spec.accuracy import NEAR, accuracy_drop, accuracy_facts
from dse.spec.precision import library_precisions, parse_precision


@dataclass(frozen=True)
class Model:
    name: str
    billions: float = 7.0

    def parameters(self) -> int:
        return round(self.billions * 1e9)


def drop(name, precision, billions=7.0):
    return accuracy_drop(Model(name, billions), parse_precision(precision))


class TestMeasured:
    """This model under this scheme."""

    @pytest.mark.parametrize(
        ("model", "precision", "pct"),
        [
            ("llama-2-7b", "w4a16-g128", 2.38),  # AWQ, not GPTQ-R's 2.93
            ("llama-3-8b", "w4a16-g128", 6.51),
            ("llama-2-70b", "w4a16-g128", 2.71),
            ("llama-7b", {"weights": "int3"}, 42.08),  # GPTQ, not round-to-nearest's 350
            ("llama-7b", "w3a16-g128", 16.37),
            ("llama-2-7b", "w4a8kv4-g128", 4.20),
            ("llama-3-8b", "w4a8kv4-g128", 10.10),
            ("llama-2-7b", "w4a4kv4", 13.16),
            ("llama-3-8b", "w4a4kv4", 35.67),
            ("llama-3-70b", "w8a8-int8", 4.38),
            ("llama-2-7b", "w8a8-int8-kv8", 1.28),
            ("mistral-7b", "kivi-2", 2.55),
            ("llama-2-7b", "q4_k_m", 1.42),
            ("llama-3-70b", "q2_k", 68.73),
            ("llama-3.3-70b", "w8a8-int8", 0.60),
        ],
    )
    def test_golden(self, model, precision, pct):
        found = drop(model, precision)
        assert found.pct == pytest.approx(pct, abs=0.011)
        assert found.evidence == "measured"

    def test_task_scores_go_before_perplexity_and_the_larger_loss_first(self):
        assert drop("llama-3.1-70b", "fp8").pct == pytest.approx(100 * 0.14 / 79.84)
        found = drop("llama-3.1-8b", "w4a16-g128")
        assert found.pct == pytest.approx(1.1)
        assert found.source.startswith("OpenLLM v1 recovery % 100 -> 98.9")
        assert "also Arena-Hard recovery % 100 -> 93" in found.source

    def test_the_source_names_the_metric_the_figures_and_the_publisher(self):
        source = drop("llama-2-7b", "w4a16-g128").source
        assert source == (
            "WikiText2 perplexity (2048 tokens) 5.47 -> 5.6, AWQ; mit-han-lab/omniserve README.md @02b2925"
        )

    def test_an_inline_scheme_has_the_figure_of_its_equal(self):
        inline = {"weights": {"bits": 4, "group_size": 128}, "activations": "int8", "kv_cache": "int4"}
        assert drop("llama-2-7b", inline).pct == drop("llama-2-7b", "w4a8kv4-g128").pct

    def test_16_bit_types_are_one_class(self):
        inline = {"weights": "int4", "group_size": 128, "activations": "fp16"}
        assert drop("llama-2-7b", inline) == drop("llama-2-7b", "w4a16-g128")

    def test_gains_are_noise_and_count_as_nothing(self):
        found = drop("llama-2-13b", "w8a8-int8", 13)
        assert found.pct == 0
        assert "a gain of 0.42 %, counted as 0" in found.source


class TestBaseline:
    """What loses nothing by definition."""

    @pytest.mark.parametrize("precision", ["bf16", "fp16", "fp32", {"weights": "bf16", "kv_cache": "fp16"}])
    def test_16_bit(self, precision):
        found = drop("whatever", precision)
        assert (found.pct, found.evidence) == (0, "measured")

    @pytest.mark.parametrize(
        ("model", "precision"),
        [("deepseek-v3", "fp8-block"), ("deepseek-r1", "fp8"), ("gpt-oss-20b", "mxfp4"), ("kimi-k2", "fp8"),
         ("kimi-k2.5", {"weights": "int4", "group_size": 32})],
    )  # fmt: skip
    def test_the_precision_a_model_was_trained_for(self, model, precision):
        found = drop(model, precision)
        assert (found.pct, found.evidence) == (0, "measured")
        assert found.source.startswith("published in this precision only")

    def test_but_nothing_narrower(self):
        assert math.isnan(drop("gpt-oss-20b", "mxfp4-a8").pct)
        assert math.isnan(drop("kimi-k2.5", "fp8-block").pct)


class TestFamily:
    """A relative, or the same bits in coarser groups: never silently."""

    def test_nearest_size_of_the_family(self):
        found = drop("llama-3.1-70b", "w8a16", 70.6)
        assert found.pct == pytest.approx(100 * 1.28 / 79.18)
        assert found.evidence == "family"
        assert found.source.startswith("on its relative llama-3-70b: ")

    def test_only_within_reach_in_size(self):
        near, far = 7.0 * NEAR * 0.9, 41.84 * NEAR * 1.1
        assert drop("falcon-new", "w8a8-int8", near).evidence == "family"
        assert drop("falcon-new", "w8a8-int8", far).evidence == "unknown"

    def test_families_do_not_mix(self):
        assert "llama-3" in drop("llama-3.2-3b", "w8a8-int8", 3.2).source
        assert drop("llama-4-scout", "w8a8-int8", 8).evidence == "unknown"
        assert drop("mistral-small-24b", "w8a8-int8", 8).evidence == "unknown"

    def test_coarser_groups_bound_finer_ones(self):
        found = drop("llama-2-70b", "w4a16-g64", 69)
        assert found.evidence == "family"
        assert found.source.startswith("with groups of 128: ")
        assert found.pct == drop("llama-2-70b", "w4a16-g128", 69).pct

    def test_finer_groups_say_nothing_of_coarser_ones(self):
        assert drop("llama-2-7b", {"weights": "int4"}).evidence == "unknown"
        assert drop("mistral-7b", {"kv_cache": {"bits": 2, "group_size": 64}}).evidence == "unknown"

    def test_the_own_model_in_coarser_groups_goes_before_a_relative(self):
        found = drop("llama-3.1-70b", "w4a16-g128", 70.6)
        assert found.pct == pytest.approx(100 * 0.13 / 78.67)
        assert found.evidence == "family"


class TestUnknown:
    """No figure rather than a guess."""

    @pytest.mark.parametrize(
        ("model", "precision"),
        [
            ("opt-30b", "w4a16-g128"),
            ("llama-2-7b", {"weights": "int5"}),  # no interpolation over bits
            ("llama-2-7b", {"weights": "int4", "group_size": 128, "kv_cache": "fp8"}),
            ("llama-2-7b", {"weights": "int4", "group_size": 128, "embeddings": "int8"}),
            ("llama-3-70b", {"base": "fp8", "attention": "fp8"}),
            ("llama-3-70b", {"base": "w8a8-int8", "kv_cache": "fp8"}),  # int8 measured, fp8 asked
        ],
    )
    def test_is_nan_with_the_reason(self, model, precision):
        found = drop(model, precision)
        assert math.isnan(found.pct)
        assert found.evidence == "unknown"
        assert found.source.startswith("no measurement of ")

    def test_never_satisfies_a_limit(self):
        assert not drop("opt-30b", "w4a16-g128").pct <= 1e9


class TestFacts:
    """The file itself."""

    def test_every_scheme_and_model_finds_its_first_fact(self):
        for fact in accuracy_facts():
            found = accuracy_drop(Model(fact.model), fact.precision)
            assert found.evidence == "measured"
            assert math.isfinite(found.pct)
            assert found.pct >= 0

    def test_fewer_bits_lose_more_where_one_source_measured_both(self):
        by_source: dict[tuple[str, str, str], list[tuple[float, float]]] = {}
        for fact in accuracy_facts():
            if fact.precision.activations.wide and fact.precision.weights.group_size == 0:
                key = fact.model, fact.metric, fact.source
                by_source.setdefault(key, []).append((-fact.precision.weights.bits, fact.loss_pct))
        several = [sorted(pairs) for pairs in by_source.values() if len(pairs) > 1]
        assert several
        for pairs in several:
            losses = [loss for _, loss in pairs]
            assert losses == sorted(losses)

    def test_agree_with_the_collection_they_come_from(self, shared_data):
        """Each fact of the collection that is kept has its two figures there."""
        with (shared_data / "techniques" / "accuracy_tables.csv").open(newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if row["status"] == "verified"]
        pairs = {(round(float(row["baseline"]), 6), float(row["value"])) for row in rows}
        elsewhere = ("Llama-3-8B-Instruct-FP8", "Mixtral", "Llama-3.2-3B", "ISTA-DASLab")
        collected = [f for f in accuracy_facts() if not any(name in f.source for name in elsewhere)]
        assert len(collected) > 90
        unlike = [fact for fact in collected if (fact.baseline, fact.value) not in pairs]
        assert unlike == []

    def test_golden_rows_of_the_collection(self, shared_data):
        """The scheme, model and percentage of every row whose method is the preferred one."""
        schemes = {
            ("W4A16", "AWQ"): "w4a16-g128",
            ("W4A4", "QuaRot"): "w4a4kv4",
            ("W4A4", "Atom"): "w4a4kv4-g128",
            ("W8A8", "SmoothQuant"): "w8a8-int8-kv8",
            ("KV quant", "KIVI-2"): "kivi-2",
        }
        with (shared_data / "techniques" / "accuracy_tables.csv").open(newline="") as stream:
            rows = [row for row in csv.DictReader(stream) if (row["technique"], row["method"]) in schemes]
        compared = 0
        for row in rows:
            model = row["model"].lower().replace(" ", "-")
            found = drop(model, schemes[row["technique"], row["method"]])
            if found.evidence == "measured":
                assert found.pct == pytest.approx(abs(float(row["rel_pct"])), abs=0.02)
                compared += 1
        assert compared > 30

    def test_every_library_scheme_has_an_answer_in_words(self):
        for precision in library_precisions().values():
            assert accuracy_drop(Model("llama-3-8b", 8.03), precision).source
