"""FlexGen's linear program, rebuilt and solved in lockstep, gives what its own solver gave.

`lp_golden.csv` holds solutions of the unmodified `solve_lp` (PuLP with CBC, whose text output is good to 4e-8). The
best placement is often not unique, so objectives are compared, and the csv's own placements give its times and peaks.
"""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace

import flexgen
import numpy as np
import pytest
from flexgen import GIB, OPT, SHARES, Case

from dse.cost.simplex import Solutions, solve

ACCURACY = 1e-6
STREAMS = ("ctogp", "gtocp", "dtocp", "ctodp", "compp", "ctogg", "gtocg", "dtocg", "ctodg", "compg")
PEAKS = {
    "gpu_p": "gpu_peak_p_gib",
    "gpu_g": "gpu_peak_g_gib",
    "cpu_p": "cpu_peak_p_gib",
    "cpu_g": "cpu_peak_g_gib",
    "disk": "nvme_peak_gib",
}
FORCED = ("wg", "wc", "cg", "cc", "hg")
"""Of `--percent`; the sixth, hc, is one minus hg."""

Row = dict[str, str]


@pytest.fixture(scope="module")
def rows(shared_data: Path) -> list[Row]:
    with (shared_data / "flexgen/lp_golden.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def case_of(rows: list[Row]) -> Case:
    def column(name: str) -> np.ndarray:
        return np.array([float(row[name]) for row in rows])

    alpha = np.array([[float(part) for part in row["alpha"].split("/")] for row in rows]).T
    usable = (
        GIB * share * column(name)
        for share, name in zip(alpha, ("gpu_mem_gib", "cpu_mem_gib", "nvme_mem_gib"), strict=True)
    )
    return Case(
        *np.array([OPT[row["model"]] for row in rows], dtype=float).T,
        *(column(name) for name in ("prompt_len", "gen_len", "gbs", "num_gb")),
        *usable,
        compressed=1 + 3 * column("compress_w"),
    )


def solved(rows: list[Row]) -> Solutions:
    forced = {}
    if rows[0]["forced_percent"]:
        percent = np.array([row["forced_percent"].split() for row in rows], dtype=float).T
        forced = dict(zip(FORCED, percent / 100, strict=False))
    return solve(flexgen.programs(case_of(rows), forced))


def kinds(rows: list[Row]) -> list[list[Row]]:
    """Free and forced problems: they differ in the number of rows."""
    return [[row for row in rows if bool(row["forced_percent"]) == forced] for forced in (False, True)]


def test_every_golden_row_is_reproduced(rows):
    assert len(rows) == 53
    for kind in kinds(rows):
        found = solved(kind)
        assert found.finished.all()
        for row, feasible, objective in zip(kind, found.feasible, found.objective, strict=True):
            assert ("optimal" if feasible else "infeasible") == row["status"], row["case"]
            if feasible:
                assert objective == pytest.approx(float(row["objective_s_per_seq"]), rel=ACCURACY), row["case"]


def test_forced_shares_are_kept(rows):
    _, forced = kinds(rows)
    found = solved(forced)
    for row, feasible, x in zip(forced, found.feasible, found.x.T, strict=True):
        if feasible:
            np.testing.assert_allclose(x[:5], [float(row[name]) for name in FORCED], rtol=0, atol=1e-12)


def test_times_and_peaks_of_every_golden_placement(rows):
    solved_rows = [row for row in rows if row["status"] == "optimal"]
    case = case_of(solved_rows)

    def column(name: str) -> np.ndarray:
        return np.array([float(row[name]) for row in solved_rows])

    placement = SimpleNamespace(**{name: column(name) for name in SHARES})
    times, peaks = flexgen.times(case, placement), flexgen.peaks(case, placement)
    for name in STREAMS:
        np.testing.assert_allclose(getattr(times, name), column(name), rtol=ACCURACY, atol=1e-9, err_msg=name)
    for ours, theirs in PEAKS.items():
        np.testing.assert_allclose(getattr(peaks, ours) / GIB, column(theirs), rtol=ACCURACY, atol=2e-5, err_msg=ours)
    prefill, decode = (np.max(terms, axis=0) for terms in flexgen.pairs(times))
    np.testing.assert_allclose(prefill, column("Tpre_layer_s"), rtol=ACCURACY)
    np.testing.assert_allclose(decode, column("Tgen_layer_s"), rtol=ACCURACY)
    total = case.l * (prefill + (case.n - 1) * decode)
    np.testing.assert_allclose(total, column("T_s"), rtol=ACCURACY)
    np.testing.assert_allclose(total / case.bls, column("objective_s_per_seq"), rtol=ACCURACY)
    np.testing.assert_allclose(case.bls * case.n / total, column("throughput_tok_s"), rtol=ACCURACY)


def test_the_worked_example_of_its_docstring():
    """OPT-30B, 512 + 32 tokens, 48 x 3, weights 20/80, cache and hidden states on the CPU; measured 7.32 tokens/s."""
    sizes = [np.array([float(value)]) for value in (*OPT["opt-30b"], 512, 32, 48, 3)]
    case = Case(*sizes, gmem=1.2 * 16 * GIB, cmem=1.2 * 200 * GIB, nmem=1.2 * 1500 * GIB)
    forced = {"wg": 0.2, "wc": 0.8, "cg": 0.0, "cc": 1.0, "hg": 0.0}
    found = solve(flexgen.programs(case, forced))
    wg, wc, cg, cc, hg, tpre, tgen = found.x[:, 0]
    v = SimpleNamespace(wg=wg, wc=wc, wn=1 - wg - wc, cg=cg, cc=cc, cn=1 - cg - cc, hg=hg, hc=1 - hg, hn=0.0)
    times, peaks = flexgen.times(case, v), flexgen.peaks(case, v)
    seconds = found.objective[0] * 144
    printed = {
        "compp 4.3890": times.compp, "Tpre 4.3890": tpre, "Tpre*l 210.670": tpre * 48,
        "ctogg 0.0714": times.ctogg, "compg 0.2210": times.compg, "Tgen 0.2924": tgen,
        "Tgen*l*31 435.094": tgen * 48 * 31,
        "gpu peak 18.769": peaks.gpu_p / GIB, "gpu peak 12.870": peaks.gpu_g / GIB,
        "cpu peak 144.512": np.maximum(peaks.cpu_p, peaks.cpu_g) / GIB,
        "T 645.764": seconds, "tokens/s 7.136": 144 * 32 / seconds,
    }  # fmt: skip
    for text, value in printed.items():
        figure = text.split()[-1]
        assert f"{float(np.squeeze(value)):.{len(figure.partition('.')[2])}f}" == figure, text


def test_pulp_and_highs_agree_on_random_problems():
    """The original's nine shares and equalities, solved by HiGHS within PuLP, against the reduced problem."""
    import pulp

    case = flexgen.population(60, seed=3)
    found = solve(flexgen.programs(case))
    assert 10 < found.feasible.sum() < 60
    for k in range(60):
        one = Case(*(float(getattr(case, name)[k]) for name in case.__dataclass_fields__))
        problem = flexgen.pulp_problem(one)
        status = pulp.LpStatus[problem.solve(pulp.HiGHS(msg=False))]
        assert (status == "Optimal") == found.feasible[k]
        if found.feasible[k]:
            assert found.objective[k] == pytest.approx(pulp.value(problem.objective), rel=1e-9)
