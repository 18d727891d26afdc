"""The terminal tells the same facts as the report, in eighty columns."""

from __future__ import annotations

import io

import fake_run
import pytest

from dse.report.summary import print_summary


def printed(manifest, frontier, width=80, **options) -> str:
    out = io.StringIO()
    print_summary(manifest, frontier, width=width, out=out, **options)
    return out.getvalue()


@pytest.fixture(scope="module")
def run():
    return fake_run.make()


def test_it_fits_eighty_columns_and_is_plain_text(run):
    text = printed(*run)
    assert max(len(line) for line in text.splitlines()) <= 80
    assert "\x1b" not in text


def test_it_says_how_many_points_were_scored_and_what_they_cost(run):
    text = printed(*run)
    assert "1,228,800 points, 401,312 feasible (32.7%)" in text
    assert "5,770,000 points/s, executor local" in text


def test_it_says_why_points_fell_and_how_close_the_nearest_came(run):
    text = " ".join(printed(*run).split())
    assert (
        "800,000 exceeds_memory; nearest: llama-3.1-70b, h100-sxm, bf16, 1024x256, tp 1, batch 1: needs 79.1 GB of"
        in text
    )
    assert text.index("exceeds_memory") < text.index("constraint:ttft_ms") < text.index("heads_not_divisible")


def test_every_group_shows_its_best_of_every_objective(run):
    manifest, frontier = run
    text = printed(manifest, frontier, width=120)
    for group in manifest["groups"]:
        rows = [row for row in frontier if all(row[name] == value for name, value in group["key"].items())]
        assert f"{group['key']['model']}, {group['key']['workload']}: {len(rows)} on the frontier" in text
        for objective in manifest["objectives"]:
            best = max if objective["sense"] == "max" else min
            number = best(rows, key=lambda row: row[objective["name"]])["number"]
            assert f"\n {number:>5} " in text or f"\n {number} " in text or f"\n{number:>5} " in text, number
        assert f"and {len(rows) - 8} more" in text


def test_the_measured_error_is_stated_and_where_it_comes_from(run):
    text = " ".join(printed(*run).split())
    assert "nine predictions in ten were within ±50 % (TTFT), ±53 % (TPOT), ±53 % (throughput)" in text
    assert "none of the measurements was used for fitting" in text


def test_a_band_nobody_measured_is_not_stated(run):
    manifest, frontier = run
    text = " ".join(printed(manifest, [row | {"ttft_error_pct": None} for row in frontier]).split())
    assert "within ±53 % (TPOT), ±53 % (throughput)" in text


def test_recalled_numbers_are_explained(run):
    manifest, frontier = run
    text = " ".join(printed(manifest | {"evidence": {"datasheet+recalled": 1}}, frontier).split())
    assert "datasheet+recalled for 1 point (datasheet peaks" in text
    assert "a number of the chip could only be recalled" in text


def test_what_is_the_same_for_all_points_is_shown_all_the_same(run):
    manifest, frontier = run
    text = printed(manifest, frontier[:1])
    row = frontier[0]
    for word in ("Hardware", "Precision", "Layout", "Batch", row["hardware"], row["precision"], f"tp {row['tp']}"):
        assert word in text


def test_today_stands_under_its_group_with_what_moving_would_gain(run):
    text = " ".join(printed(*run).split())
    assert text.count("Today: 8 × h100-sxm, bf16, tp 8, batch 32: Throughput per device") == 2
    assert "Other hardware: point " in text


def test_names_are_never_markup(run):
    manifest, frontier = run
    name = "[bold red]x[/nothing]"
    text = printed(manifest | {"name": name}, [row | {"hardware": name, "model": name} for row in frontier])
    assert text.startswith(name)
    assert f"{name}, 1024x256" in text


def test_a_narrow_terminal_loses_columns_not_objectives(run):
    text = printed(*run, width=50)
    assert max(len(line) for line in text.splitlines()) <= 50
    assert "TPOT" in text


def test_what_tells_points_apart_comes_before_a_name_they_share(run):
    """Which point it is does not follow from the accelerator that all of them have."""
    manifest, frontier = run
    chosen = ("none", "mtp 1 tau 1.85", "llama-3.2-1b 4 tau 3.36")
    rows = [row | {"hardware": "h200-sxm", "speculation": chosen[i % 3]} for i, row in enumerate(frontier)]
    text = printed({**manifest, "axes": [*(manifest.get("axes") or ()), "speculation"]}, rows, width=90)
    head = next(line for line in text.splitlines() if line.startswith("Point"))
    assert "Speculation" in head
    assert "Hardware" not in head
    assert "Hardware" in printed(manifest, rows, width=90)


def test_an_empty_frontier_is_no_error(run):
    manifest, _ = run
    assert "0 feasible (0.0%)" in printed(manifest | {"feasible": 0}, [])


def test_many_groups_are_cut_short_and_counted(run):
    manifest, frontier = run
    rows = [frontier[0] | {"model": f"model-{place}"} for place in range(40)]
    assert "and 28 more groups" in printed(manifest, rows)


def test_the_report_path_is_never_broken_over_lines(run):
    folder = "/very/long" * 12
    assert f"Report: {folder}/report.html\n" in printed(*run, folder=folder)
