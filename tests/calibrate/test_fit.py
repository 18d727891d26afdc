"""`dse calibrate`: what fifty timings settle, which rows cannot be true, and what is written."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from dse.calibrate.calibrate import calibrate
from dse.calibrate.timings import read_timings
from dse.cli import run
from dse.spec.calibration import MOST
from dse.spec.catalog import load_hardware
from dse.spec.reading import library_file

CHIP = "mi300x"
"""Nobody timed its kernels: all it has comes from the rows of a test."""
TRUTH = {"t0_us": 6.0, "compute": 0.5, "memory": 0.7, "tile": 0.2, "inputs": 2.0, "outputs": 1.0}
COLUMNS = ("dtype", "m", "n", "k", "latency_ms")


def seconds(m: float, n: float, k: float) -> float:
    """A bf16 product on the chip by the form of hardware/README.md, written out once more."""
    chip = load_hardware(CHIP)
    peak, bandwidth, cores = chip.peaks["bf16"], chip.bandwidth, chip.cores
    a = 2 * m * n * k / (peak * TRUTH["compute"])
    b = 2 * (n * k + m * k + m * n) / (bandwidth * TRUTH["memory"])
    tile = TRUTH["tile"] * 2 * 128 * 128 * k * cores / peak
    passes = (TRUTH["inputs"] * m * k + TRUTH["outputs"] * 2 * m * n) / bandwidth
    return TRUTH["t0_us"] * 1e-6 + 0.7 * max(a, b) + 0.3 * (a + b) + tile + passes


def products(count: int, noise: float = 0.05, seed: int = 1) -> list[dict[str, object]]:
    """Timings of products of the sizes models have."""
    rng = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        m, n, k = 2 ** rng.integers(0, 14), int(rng.choice([1024, 4096, 8192, 14336])), 2 ** rng.integers(10, 14)
        ms = seconds(m, n, k) * 1e3 * np.exp(rng.normal(0, noise))
        rows.append({"dtype": "bfloat16", "m": m, "n": n, "k": k, "latency_ms": ms})
    return rows


def written(folder: Path, rows: list[dict[str, object]], name: str = "gemm.csv") -> Path:
    path = folder / name
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, fieldnames=list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    return path


def test_fifty_timings_of_a_new_chip_predict_others_as_well_as_they_repeat(tmp_path):
    """Noise of 5 %: shapes the fit has not seen are within 10 % at the median, 30 % at most."""
    found = calibrate([written(tmp_path, products(50))], CHIP)
    (result,) = found.results
    assert (result.form, result.key, result.fitted.rows) == ("gemm", "bf16", 50)
    assert result.fitted.median_pct < 8
    fitted = result.fitted.values()
    errors = []
    rng = np.random.default_rng(7)
    chip = load_hardware(CHIP)
    for _ in range(300):
        m, n, k = 2 ** rng.integers(0, 14), int(rng.choice([2048, 5120, 28672])), 2 ** rng.integers(10, 14)
        a = 2 * m * n * k / (chip.peaks["bf16"] * fitted["compute"])
        b = 2 * (n * k + m * k + m * n) / (chip.bandwidth * fitted["memory"])
        passes = (fitted["inputs"] * m * k + fitted["outputs"] * 2 * m * n) / chip.bandwidth
        tile = fitted["tile"] * 2 * 128 * 128 * k * chip.cores / chip.peaks["bf16"]
        predicted = fitted["t0_us"] * 1e-6 + 0.7 * max(a, b) + 0.3 * (a + b) + tile + passes
        errors.append(abs(predicted / seconds(m, n, k) - 1))
    assert np.median(errors) < 0.10
    assert max(errors) < 0.30


def test_many_exact_timings_give_the_parameters_back(tmp_path):
    found = calibrate([written(tmp_path, products(400, noise=0.0))], CHIP)
    fitted = found.results[0].fitted.values()
    for name in ("t0_us", "compute", "memory"):
        assert fitted[name] == pytest.approx(TRUTH[name], rel=0.05), name
    assert found.results[0].fitted.mape_pct < 2


def test_defaults_are_the_errors_before(tmp_path):
    row = calibrate([written(tmp_path, products(60))], CHIP).rows()[0]
    assert row["fitted_mape_pct"] < row["datasheet_mape_pct"]
    assert row["datasheet_bias_pct"] < 0, "0.75 of the peak is more than the half this chip reaches"


def test_rows_that_cannot_be_true_are_named_and_left_out(tmp_path):
    good = products(60)
    bad = products(6, seed=2)
    bad[0]["latency_ms"] = float(bad[0]["latency_ms"]) * 1e-6  # seconds of another clock
    bad[1]["latency_ms"] = ""
    bad[2]["latency_ms"] = -1
    bad[3]["n"] = 16  # no model has it
    bad[4]["dtype"] = "fp3"
    bad[5] |= {"m": 16384, "n": 14336, "k": 16384, "latency_ms": 2.0}  # 3.8 PFLOP/s
    timings = read_timings([written(tmp_path, good + bad)], load_hardware(CHIP))
    assert timings.left_out.counts == {
        "no positive latency_ms": 2,
        "in another unit": 1,
        "a shape smaller than models run": 1,
        "a type or operation that is not fitted": 1,
        "faster than the peak": 1,
    }
    assert sum(map(len, timings.batches)) == 60


def test_each_row_left_out_is_named_with_its_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = products(60)
    rows[3]["latency_ms"] = float(rows[3]["latency_ms"]) * 1e3
    rows[10]["latency_ms"] = "-1"
    rows[59]["latency_ms"] = float(rows[59]["latency_ms"]) * 1e-3
    rows[20]["n"] = 16  # no model has it: of no use, but true
    rows[30]["m"] = 0
    data = written(tmp_path, rows)
    data.write_text(data.read_text().replace("\n", "\n\n", 1))  # a blank line, which moves all others
    assert run(["calibrate", "gemm.csv", "--hardware", CHIP, "--dry-run"]) == 0
    said = capsys.readouterr().out
    unit = "latency_ms is 300 times off the roofline or its kernel's other rows"
    assert [line for line in said.splitlines() if line.startswith("  gemm.csv")] == [
        f"  gemm.csv:6:1: in another unit; {unit}",
        "  gemm.csv:13:1: no positive latency_ms; expected milliseconds above zero",
        "  gemm.csv:33:1: a shape without m, n, k; expected whole numbers above zero",
        f"  gemm.csv:62:1: in another unit; {unit}",
    ]
    assert run(["calibrate", "gemm.csv", "--hardware", CHIP, "--dry-run", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["left_out_rows"] == [
        {"file": "gemm.csv", "line": 6, "reason": "in another unit"},
        {"file": "gemm.csv", "line": 13, "reason": "no positive latency_ms"},
        {"file": "gemm.csv", "line": 23, "reason": "a shape smaller than models run"},
        {"file": "gemm.csv", "line": 33, "reason": "a shape without m, n, k"},
        {"file": "gemm.csv", "line": 62, "reason": "in another unit"},
    ]


def test_a_file_in_another_unit_is_left_out_as_a_whole(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = products(40)
    for row in rows:
        row["latency_ms"] = float(row["latency_ms"]) * 1e3
    written(tmp_path, rows)
    assert run(["calibrate", "gemm.csv", "--hardware", CHIP]) == 2
    first, *named, last = capsys.readouterr().err.splitlines()
    assert first == (
        "no timing of mi300x in gemm.csv can be fitted (0 rows are of other accelerators, 40 left out: "
        "40: in another unit)"
    )
    assert [line.partition(";")[0] for line in named] == [
        f"gemm.csv:{line}:1: in another unit" for line in range(2, 22)
    ]
    assert last == "and 20 more such rows"
    assert not (tmp_path / f"{CHIP}.yaml").exists()


def test_too_few_good_rows_name_the_bad_ones(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = products(25)
    for row in rows[5:]:
        row["latency_ms"] = 0
    written(tmp_path, rows)
    assert run(["calibrate", "gemm.csv", "--hardware", CHIP]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said[0].startswith("too few timings of mi300x to fit: 5 of one class")
    assert said[1] == "gemm.csv:7:1: no positive latency_ms; expected milliseconds above zero"
    assert len(said) == 21


@pytest.mark.parametrize("folder", ["hardware", ""])
def test_a_fit_is_written_into_a_file_of_the_users_own(tmp_path, monkeypatch, capsys, folder):
    monkeypatch.chdir(tmp_path)
    (tmp_path / folder).mkdir(exist_ok=True)
    data = written(tmp_path, products(50))
    library = library_file(f"hardware/{CHIP}.yaml")
    before = library.read_bytes()
    assert run(["calibrate", str(data), "--hardware", "MI300X"]) == 0
    own = Path(folder) / f"{CHIP}.yaml"
    assert f"wrote {own}\n" in capsys.readouterr().out
    assert library.read_bytes() == before
    assert load_hardware(CHIP).calibration is not None  # the name now means the user's file
    # Again: the block of one's own file is replaced, and what else stands there is kept.
    own.write_text(own.read_text() + "# mine\n")
    assert run(["calibrate", str(data), "--hardware", CHIP, "--source", "again"]) == 0
    assert own.read_text().count("\ncalibration:") == 1
    assert own.read_text().endswith("# mine\n")
    assert load_hardware(CHIP).calibration.source == "again"


def test_a_dry_run_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = written(tmp_path, products(50))
    assert run(["calibrate", str(data), "--hardware", CHIP, "--dry-run"]) == 0
    assert list(tmp_path.iterdir()) == [data]


def test_the_library_itself_is_never_the_default(tmp_path, monkeypatch, capsys):
    data = written(tmp_path, products(50))
    monkeypatch.chdir(library_file("hardware"))
    assert run(["calibrate", str(data), "--hardware", CHIP]) == 2
    message = "the working folder is the library's own; name the file to write (--out)\n"
    assert capsys.readouterr().err == message


def test_other_accelerators_and_older_versions_do_not_count(tmp_path):
    rows = [{"gpu": CHIP, "fw": "a", "fw_version": "1.10", **row} for row in products(40)]
    rows += [{"gpu": CHIP, "fw": "a", "fw_version": "1.9", **row} for row in products(30, seed=3)]
    rows += [{"gpu": "b200_sxm", "fw": "a", "fw_version": "1.10", **row} for row in products(20, seed=4)]
    timings = read_timings([written(tmp_path, rows)], load_hardware(CHIP))
    assert timings.others == 20
    assert [(len(timed), timed.framework) for timed in timings.batches] == [(40, "a 1.10")]


def test_of_two_frameworks_the_faster_is_taken(tmp_path):
    slow = [{"fw": "slow", "fw_version": "1", **row} for row in products(60)]
    fast = [{"fw": "fast", "fw_version": "1", **row} for row in products(40, seed=5)]
    for row in slow:
        row["latency_ms"] = 2 * float(row["latency_ms"])
    path = written(tmp_path, slow + fast)
    assert calibrate([path], CHIP).results[0].fitted.framework == "fast 1"
    assert calibrate([path], CHIP, prefer=["gemm=slow"]).results[0].fitted.framework == "slow 1"


def test_the_file_written_is_the_chips_own_with_the_block(tmp_path):
    data, out = written(tmp_path, products(50)), tmp_path / f"{CHIP}.yaml"
    found = calibrate([data], CHIP, out=out, source="a test")
    chip, before = load_hardware(out), load_hardware(CHIP)
    assert chip.calibration is not None
    assert chip.calibration.find("gemm", "bf16") == found.results[0].fitted
    assert chip.calibration.source == "a test"
    assert chip.model_copy(update={"calibration": None}) == before.model_copy(update={"calibration": None})
    assert chip.calibration.stored == 6 <= MOST
    calibrate([data], CHIP, out=out, source="again", force=True)
    assert out.read_text().count("\ncalibration:") == 1


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"m": 1, "n": 2, "k": 3}], "gemm.csv: no column latency_ms (there are: m, n, k)"),
        ([{"a": 1, "latency_ms": 2}], "gemm.csv: no table of kernel timings: it has a, latency_ms; hardware/README.md "
         "lists the columns of each"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_timings_is_refused(tmp_path, monkeypatch, capsys, rows, message):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, rows)
    assert run(["calibrate", "gemm.csv", "--hardware", CHIP]) == 2
    assert capsys.readouterr().err == f"{message}\n"


def test_bad_input_is_said_plainly(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    written(tmp_path, products(10))
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    cases = {
        ("none.csv",): "no such file or folder: none.csv",
        ("gemm.csv",): "too few timings of mi300x to fit: 10 of one class, type and framework at most; expected at "
        "least 24",
        ("gemm.csv", "--framework", "x=y"): "--framework: expected NAME or CLASS=NAME with a class of gemm, prefill, "
        "decode, latent_prefill, latent_decode, moe, collective; got 'x=y'",
        ("gemm.csv", "--out", "gemm.csv"): "gemm.csv exists; --force overwrites it",
    }
    for arguments, message in cases.items():
        assert run(["calibrate", *arguments, "--hardware", CHIP]) == 2, arguments
        assert capsys.readouterr().err == f"{message}\n"
    assert run(["calibrate", "broken.parquet", "--hardware", CHIP]) == 2
    assert capsys.readouterr().err.startswith("broken.parquet: cannot be read as a table: ")


def test_as_json(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, products(50))
    assert run(["calibrate", str(path), "--hardware", CHIP, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == 6
    assert found["sets"][0]["parameters"].keys() == TRUTH.keys()
    assert found["path"] == f"{CHIP}.yaml"


def test_the_librarys_own_fit_comes_back_from_its_timings(shared_data):
    """What hardware/h100-sxm.yaml holds is what the command fits to all timings of the chip."""
    tables = [shared_data / "kernels"]
    stored = load_hardware("h100-sxm").calibration
    assert stored is not None
    for result in calibrate(tables, "h100-sxm").results:
        kept = stored.find(result.form, result.key)
        assert kept is not None
        assert (result.fitted.framework, result.fitted.rows) == (kept.framework, kept.rows)
        assert result.fitted.mape_pct == pytest.approx(kept.mape_pct, abs=0.5)
