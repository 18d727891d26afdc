"""Each command does what its help says, prints it, and leaves with the right code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SWEEP = """
name: tiny
models: llama-3.1-8b
hardware: [h100-sxm, mi300x]
workload: 1024x256
parallel: {tp: [1, 2]}
batch: [1, 16]
"""


@pytest.fixture
def folder(dse, tmp_path) -> Path:
    """The folder of a finished run."""
    (tmp_path / "tiny.yaml").write_text(SWEEP)
    said = dse("sweep", "tiny.yaml", "--out", "out")
    assert said.code == 0
    (found,) = (tmp_path / "out").iterdir()
    return found.relative_to(tmp_path)


def test_sweep_writes_its_files_and_prints_a_summary(dse, folder) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "manifest.json", "frontier.parquet", "frontier.csv", "top.parquet", "report.html",
    }  # fmt: skip
    again = dse("sweep", "tiny.yaml", "--out", "out")
    assert again.code == 0
    assert again.out.startswith("tiny: 8 points, 8 feasible")
    assert again.err == f"already complete: {folder} (--fresh runs it again)\n"


def test_sweep_says_where_it_runs(dse, tmp_path) -> None:
    (tmp_path / "tiny.yaml").write_text(SWEEP)
    assert dse("sweep", "tiny.yaml").err == "executor: local (done in an instant)\n"
    assert dse("sweep", "tiny.yaml", "--fresh", "--executor", "local").err == "executor: local (asked for)\n"


def test_options_change_the_sweep(dse, folder) -> None:
    said = dse("sweep", "tiny.yaml", "--set", "batch=[1]", "--set", "parallel.tp=2", "--fidelity", "ideal",
               "--keep", "all", "--out", "other")  # fmt: skip
    assert said.code == 0
    (other,) = Path("other").iterdir()
    manifest = json.loads((other / "manifest.json").read_text())
    assert manifest["points"] == 2
    assert manifest["evidence"].keys() <= {"ideal", "ideal+recalled"}
    assert list((other / "points").iterdir())


def test_dry_run_prints_the_plan_and_writes_nothing(dse, tmp_path) -> None:
    (tmp_path / "tiny.yaml").write_text(SWEEP)
    said = dse("sweep", "tiny.yaml", "--dry-run")
    assert said.code == 0
    assert said.out.splitlines() == [
        "tiny: 8 points, 1 part",
        "  plain: 1 model x 2 layout x 2 hardware x 1 precision x 1 fidelity x 1 workload x 2 batch = 8",
        "groups: 1 by model, workload",
        "estimate: less than a second on one core",
        "writes: fronts and a report",
        "executor: local (done in an instant)",
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.yaml"]


def test_no_feasible_point_exits_with_1_and_says_why(dse, tmp_path) -> None:
    (tmp_path / "big.yaml").write_text(SWEEP.replace("llama-3.1-8b", "kimi-k2"))
    said = dse("sweep", "big.yaml", "--out", "out")
    assert said.code == 1
    assert "0 feasible" in said.out
    assert "8 exceeds_memory; nearest: kimi-k2, mi300x" in " ".join(said.out.split())
    (folder,) = (tmp_path / "out").iterdir()
    assert (folder / "report.html").is_file()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ("objectives: [usd_per_hour]\nprice: {kind: spot}", "or give a price.override; spot is missing for mi300x"),
        ("objectives: [tpot_ms]\nworkload: 64x1", "a request of one output token has no decode step"),
    ],
)
def test_an_objective_that_does_not_exist_says_why(dse, tmp_path, changes, reason) -> None:
    text = SWEEP.replace("workload: 1024x256\n", "") if "workload" in changes else SWEEP
    (tmp_path / "none.yaml").write_text(f"{text.replace('h100-sxm, ', '')}{changes}\n")
    said = dse("sweep", "none.yaml", "--out", "out")
    assert said.code == 1
    assert reason in " ".join(said.out.split())


@pytest.mark.parametrize(
    ("address", "code", "message"),
    [
        ("127.0.0.1:9", 1, "Ray cannot reach 127.0.0.1:9: Connection refused; is the cluster running?"),
        ("ray://127.0.0.1:9", 1, "Ray cannot reach ray://127.0.0.1:9: Connection refused; is the cluster running?"),
        ("head", 2, "ray-address: expected HOST:PORT, ray://HOST:PORT or auto, got 'head'"),
    ],
)
def test_a_ray_address_that_leads_nowhere(dse, tmp_path, address, code, message) -> None:
    (tmp_path / "tiny.yaml").write_text(SWEEP)
    said = dse("sweep", "tiny.yaml", "--executor", "ray", "--ray-address", address)
    assert (said.code, said.err.splitlines()[-1]) == (code, message)


def test_the_estimate_counts_what_is_kept(dse, tmp_path) -> None:
    """Writing a point costs a dozen times as much as scoring it."""
    (tmp_path / "wide.yaml").write_text(SWEEP.replace("[1, 16]", "{from: 1, to: 100000}"))
    few, every = (dse("sweep", "wide.yaml", "--dry-run", "--keep", keep).out for keep in ("frontier", "all"))
    assert "estimate: less than a second on one core" in few
    assert "estimate: about 1.7 s on one core" in every
    assert "400,000 points, 1 part\n" in few
    assert "400,000 points, 3 parts\n" in every


def test_explain_of_a_run_is_explain_of_its_axes(dse, folder) -> None:
    of_run = json.loads(dse("explain", folder, 5, "--json").out)
    of_axes = json.loads(
        dse("explain", "--model", "llama-3.1-8b", "--hardware", "h100-sxm", "--tp", 2, "--batch", 16, "--json").out
    )
    of_run["point"].pop("number")
    of_axes["point"].pop("number")
    assert of_run == of_axes


POOLS = "{prefill: {hardware: h200-sxm, parallel: {tp: 2}, batch: 2}, devices: 8}"
PAIR = (
    "explain", "--model", "llama-3.1-8b", "--hardware", "h100-sxm", "--batch", 64, "--serving", "disaggregated",
    "--disaggregated", POOLS,
)  # fmt: skip


def test_explain_tells_both_pools_apart(dse) -> None:
    found = json.loads(dse(*PAIR, "--json").out)
    prefill, decode = found["pools"]
    said = dse(*PAIR)
    assert said.code == 0
    lines = [line.split() for line in said.out.splitlines()]
    devices = prefill["workers"] * 2 + decode["workers"]
    assert said.out.startswith(f"llama-3.1-8b on {devices} × h200-sxm and h100-sxm, bf16, 1024x256\n")
    assert ["prefill", str(prefill["workers"]), "h200-sxm", "bf16", "tp", "2", "2"] in [line[:7] for line in lines]
    assert ["decode", str(decode["workers"]), "h100-sxm", "bf16", "tp", "1", "64"] in [line[:7] for line in lines]
    place = said.out.splitlines().index("memory of the fullest device, GB")
    assert lines[place + 1] == ["prefill", "decode"]
    assert [line[0] for line in lines[place + 2 : place + 5]] == ["weights", "kv", "state"]


def test_explain_of_pools_refuses_what_a_sweep_would(dse) -> None:
    said = dse(*PAIR[:-1], "{devices: 0}")
    assert (said.code, said.err) == (2, "disaggregated.devices: must be >= 1, got 0\n")


def test_the_fields_of_pools_are_listed(dse) -> None:
    rows = {row["name"]: row["default"] for row in json.loads(dse("list", "axes", "--json").out)}
    assert rows["disaggregated.prefill.batch"] == "1"
    assert rows["disaggregated.decode.batch"] == "the sweep's"
    assert rows["disaggregated.max_workers"] == "32"
    assert "disaggregated" not in rows


def test_explain_prints_operators_memory_and_totals(dse) -> None:
    said = dse("explain", "--model", "llama-3.1-8b", "--hardware", "h100-sxm")
    assert said.code == 0
    words = said.out.split()
    assert {"q_proj", "lm_head", "ttft_ms", "weights"} <= set(words) or "head" in words
    assert "prefill: " in said.out
    assert "decode: " in said.out


def test_explain_of_one_token_has_no_decode(dse) -> None:
    said = dse("explain", "--model", "llama-3.1-8b", "--hardware", "h100-sxm", "--output", 1, "--json")
    assert json.loads(said.out)["phases"]["decode"] == {
        "seconds": 0.0, "tokens": 1.0, "bound": "none", "operators": [], "time_by": {}, "engine": {}, "beside": {},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--tp", 3], "cannot run: heads_not_divisible: tp must divide the number of heads"),
        (["--pp", 64], "cannot run: too_few_layers: "),
        (["--batch", 100_000], "cannot run: exceeds_memory: needs "),
        (["--disaggregated", "{prefill: {batch: 5000}}", "--serving", "disaggregated"],
         "cannot run: exceeds_memory: needs "),
        (["--offload", "lp", "--batch", 1_000_000], "cannot run: exceeds_memory: needs "),
    ],
)  # fmt: skip
@pytest.mark.parametrize("how", [[], ["--json"], ["--html", "page.html"]], ids=["text", "json", "html"])
def test_explain_of_a_point_that_cannot_run_leaves_with_1_and_its_reason(dse, options, reason, how) -> None:
    said = dse("explain", "--model", "llama-3.1-8b", "--hardware", "h100-sxm", *options, *how)
    assert said.code == 1
    assert said.err.startswith(reason)
    assert said.err.count("\n") == 1
    if how == ["--json"]:
        assert json.loads(said.out)["point"]["status"] in reason
    else:
        assert said.out


def test_explain_of_a_run_says_which_constraint_a_point_does_not_meet(dse, tmp_path) -> None:
    (tmp_path / "tight.yaml").write_text(f"{SWEEP}\nconstraints: {{ttft_ms: {{max: 20}}}}\nkeep: all\n")
    dse("sweep", "tight.yaml", "--out", "out")
    (run,) = (tmp_path / "out").iterdir()
    said = dse("explain", run, 3)
    assert (said.code, said.err) == (1, "does not meet what is asked for: constraint:ttft_ms\n")


def test_explain_writes_a_page(dse, tmp_path) -> None:
    said = dse("explain", "--model", "llama-3.1-8b", "--hardware", "h100-sxm", "--html", "page.html")
    assert said == (0, "wrote page.html\n", "")
    assert "<html" in (tmp_path / "page.html").read_text()
    said = dse("explain", "--model", "llama-3.1-8b", "--hardware", "h100-sxm", "--html", "nowhere/page.html")
    assert said == (1, "", "nowhere/page.html: cannot be written: No such file or directory\n")


def test_report_writes_the_report_again(dse, folder) -> None:
    (folder / "report.html").unlink()
    assert dse("report", folder) == (0, f"wrote {folder / 'report.html'}\n", "")
    assert (folder / "report.html").is_file()


def test_diff_of_a_run_and_itself(dse, folder) -> None:
    said = dse("diff", folder, folder)
    assert said.code == 0
    assert said.out.splitlines()[-1] == "nothing changed"


def test_diff_tells_inputs_and_fronts(dse, folder) -> None:
    dse("sweep", "tiny.yaml", "--set", "price.kind=spot", "--set", "batch=[1, 32]", "--out", "other")
    (other,) = Path("other").iterdir()
    changes = json.loads(dse("diff", folder, other, "--json").out)
    assert ["batch", [1, 16], [1, 32]] in changes["inputs"]
    assert ["settings.price_kind", "on-demand", "spot"] in changes["inputs"]
    assert {point["batch"] for point in changes["front"]["joined"]} == {32}
    assert {point["batch"] for point in changes["front"]["left"]} == {16}


@pytest.mark.parametrize(
    ("what", "known"),
    [
        ("models", "llama-3.1-8b"), ("hardware", "h100-sxm"), ("precisions", "bf16"), ("runtimes", "ideal"),
        ("speculations", "eagle-2"),
        ("objectives", "tpot_ms"), ("axes", "batch"), ("sweeps", "quickstart"),
    ],
)  # fmt: skip
def test_list_names_what_a_sweep_may_name(dse, what, known) -> None:
    said = dse("list", what)
    rows = json.loads(dse("list", what, "--json").out)
    assert said.code == 0
    assert said.out.splitlines()[0] == f"{what}: {len(rows)}"
    lines = said.out.splitlines()[-len(rows) :]  # below the heads of the columns
    assert [line.split()[0] for line in lines] == [row["name"].split()[0] for row in rows]
    assert known in {row["name"] for row in rows}


def test_check_says_what_each_file_is(dse, tmp_path) -> None:
    (tmp_path / "tiny.yaml").write_text(SWEEP)
    (tmp_path / "chip.yaml").write_text("base: h100-sxm\nmemory.capacity_gb: 90\n")
    said = dse("check", "tiny.yaml", "chip.yaml")
    assert said == (0, "tiny.yaml: sweep 'tiny', 8 points\nchip.yaml: hardware chip, 90 GB\n", "")


def test_help_imports_nothing_heavy() -> None:
    program = "import sys; from dse.cli import run; run(['--help']); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    heavy = {"numpy", "pydantic", "pyarrow", "pandas", "yaml", "rich", "jinja2", "ray"}
    assert not heavy & set(done.stdout.split())


def test_a_sweep_in_parts_imports_nothing_it_can_do_without(tmp_path) -> None:
    """Pandas is 40 MB and half a second, which `pa.array` imports; `np.unique` imports numpy.ma."""
    (tmp_path / "tiny.yaml").write_text(SWEEP)
    program = (
        "import sys; from dse.run.sweep import run_sweep; "
        "run_sweep(sys.argv[1], sys.argv[2], executor='local', part_points=2); print(*sorted(sys.modules))"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "tiny.yaml"), str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert not {"pandas", "numpy.ma", "moocore", "ray"} & set(done.stdout.split())


PROGRAM = f"{sys.executable} -c 'from dse.cli import main; main()'"


def shell(command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)


def test_a_reader_that_has_gone_is_no_error() -> None:
    done = shell(f"{PROGRAM} list models | head -1")
    assert (done.returncode, done.stderr) == (0, "")


def test_a_closed_output_is_no_error() -> None:
    done = shell(f"{PROGRAM} list models >&-")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("options", ["", "--json"])
def test_an_output_that_cannot_be_written_is_one_line(options: str) -> None:
    done = shell(f"{PROGRAM} list models {options} >/dev/full")
    assert (done.returncode, done.stderr) == (1, "the output cannot be written: No space left on device\n")
