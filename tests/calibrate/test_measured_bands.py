"""`dse validate --bands`: the file of error bands, from errors that are known because they were made here."""

from __future__ import annotations

import math
from itertools import product

import pytest
import yaml
from rows import COLUMNS, ROW, write

from dse.calibrate.bands import Row, band, measure_bands, shares, write_bands
from dse.calibrate.validate import validate
from dse.errors import CannotRun
from dse.spec.bands import _File
from dse.spec.reading import build, read
from dse.spec.runtime import IDEAL

BLANK = dict.fromkeys(COLUMNS, "")


def row(ratio: float, metric: str = "throughput", **fields: str) -> Row:
    return Row(metric, fields.get("source", "mine"), {**BLANK, **ROW, **fields}, ratio)


def test_a_band_is_the_90th_percentile_and_sources_count_alike():
    rows = [row(1 + error / 100) for error in range(101)] + [row(1.3, source="theirs")]
    assert band(rows) == {"error_pct": 60, "rows": 102, "sources": {"mine": 90, "theirs": 30}}


def test_an_error_of_the_chip_alone_is_told_as_one():
    """Chips off by +-20 %, whatever else differs: pairs of two chips differ by that, pairs of one by nothing.

    Two of three other chips are off the other way, by (0.4 ** 2 / 2) / 0.2 ** 2 = 2: more than the whole, on average.
    """
    rows = [
        row(math.exp(0.2 if chip in "ab" else -0.2), hardware=chip, tp=tp, model=model, batch_or_concurrency=batch)
        for chip, tp, model, batch in product("abcd", "12", ["Llama-2-7B", "Mixtral-8x7B"], ["1", "16"])
    ]
    found = shares(rows)
    assert found.pop("chip") == 1
    assert set(found.values()) == {0}


def test_shares_are_of_the_whole_variance():
    """Half of the chips are right: of two thirds of the pairs one is off by all there is, of the others none."""
    rows = [
        row(math.exp({"a": 0.3, "b": 0.3, "c": 0.3, "d": 0.2}[chip]), hardware=chip, tp=tp, batch_or_concurrency=batch)
        for chip, tp, batch in product("abcd", "12", ["1", "2", "4", "8"])
    ]
    mean_square = (3 * 0.3**2 + 0.2**2) / 4
    assert shares(rows)["chip"] == pytest.approx((0.1**2 / 2) / 2 / mean_square, abs=0.01)


def test_an_error_that_grows_with_the_batch_is_one_of_its_doublings():
    rows = [row(1.1 ** (index % 2), batch_or_concurrency=str(2 ** (index % 2))) for index in range(20)]
    found = shares(rows)
    assert found["octave"] == pytest.approx(1.0, abs=0.01)
    assert found["chip"] == 0


def test_too_few_rows_tell_no_shares():
    assert shares([row(1.1), row(1.2)]) is None


def test_the_file_that_is_written_can_be_read_and_says_what_was_measured(tmp_path):
    """Rows measured 20 % and 40 % faster than `datasheet` predicts, so that its errors are known."""
    plain = [{"model": model, "tp": tp} for model in ("Llama-2-7B", "Llama-3.1-8B") for tp in ("1", "2")]
    first = validate(write(tmp_path / "m.csv", *plain), "datasheet", IDEAL)
    measured = [
        {**fields, "value": str(one.predicted * (1.2 if fields["tp"] == "1" else 1.4))}
        for fields, one in zip(plain, first.predictions, strict=True)
    ]
    path = write(tmp_path / "m.csv", *measured, {"quality": "X", "value": "1000"}, {"scenario": "online_closed_loop"})
    write_bands(tmp_path / "bands.yaml", "m.csv", measure_bands(path))
    content = build(_File, read(tmp_path / "bands.yaml"))
    assert content.classes["datasheet"].throughput.model_dump() == {
        "error_pct": 40, "rows": 4, "sources": {"mine": 40},
    }  # fmt: skip
    assert content.classes["datasheet"].tpot is None
    assert content.classes["ideal"].throughput.error_pct > 40
    assert "dse validate m.csv --bands" in yaml.safe_load((tmp_path / "bands.yaml").read_text())["source"]


def test_a_file_that_tells_nothing_is_said_to(tmp_path):
    path = write(tmp_path / "m.csv", {"scenario": "online_closed_loop"})
    with pytest.raises(CannotRun, match=r"m\.csv: no row of a static batch or a single stream could be predicted"):
        measure_bands(path)
