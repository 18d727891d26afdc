"""`dse validate` on the terminal: what it prints and writes, and whose fault a bad file is."""

from __future__ import annotations

import csv
import json
import re

HEADER = "source,model,hardware,framework,tp,weight_dtype,act_dtype,kv_dtype,input_len,output_len,"
HEADER += "batch_or_concurrency,scenario,metric,value\n"
FINE = "mine,Llama-3.1-8B,H100-80GB-SXM,vllm,1,bf16,bf16,bf16,1024,256,16,static_batch,e2e_s,4.0\n"
FILE = HEADER + FINE + FINE.replace("static_batch,e2e_s", "online_open_loop,output_tok_s") + FINE.replace("3.1-8B", "9")


def test_json_holds_what_was_promised(dse, tmp_path):
    (tmp_path / "m.csv").write_text(FILE)
    said = dse("validate", "m.csv", "--json", "--out", "p.csv", "--html", "v.html")
    assert said.code == 0
    time, throughput = json.loads(said.out)
    assert (time["source"], time["metric"], time["rows"], time["predicted_rows"]) == ("mine", "e2e_s", 2, 1)
    assert {"median_ape_pct", "mean_ape_pct", "median_ratio", "spearman"} <= time.keys()
    assert throughput["metric"] == "output_tok_s"
    assert (throughput["predicted_rows"], throughput["median_ape_pct"]) == (0, None)
    assert said.err == "wrote p.csv\nwrote v.html\n"
    with (tmp_path / "p.csv").open(newline="") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["ok", "not_modelled", "not_modelled"]


def test_the_terminal_shows_sources_accelerators_worst_rows_and_reasons(dse, tmp_path):
    (tmp_path / "m.csv").write_text(FILE)
    said = dse("validate", "m.csv")
    assert said.code == 0
    assert said.out.startswith("1 of 3 rows predicted; fidelity calibrated\n")
    for line in ("sources: 2", "accelerators: 2", "worst rows: 1", "not predicted:", "  1  request_rate is blank"):
        assert line in said.out


def test_rows_that_are_not_scored_are_named(dse, tmp_path):
    header, good, *_ = FILE.splitlines()
    columns = [*header.split(","), "quality"]
    fields = dict(zip(columns, good.split(","), strict=False))
    rows = [fields, {**fields, "value": "abc"}, *({**fields, "quality": "X"} for _ in range(25))]
    with (tmp_path / "m.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, columns)
        table.writeheader()
        table.writerows(rows)
    said = dse("validate", "m.csv")
    assert said.code == 0
    assert said.out.startswith("1 of 27 rows predicted, 26 not scored; fidelity calibrated\n")
    told = said.out.partition("\nnot scored:\n")[2].splitlines()
    assert told[0].startswith("  line 3")
    assert told[0].endswith(": value is not a number above zero: 'abc'")
    assert told[1].startswith("  line 4")
    assert told[1].endswith(": quality X: an anomaly, not to be scored")
    assert re.fullmatch(r"  and \d+ more \(--json and --out name all\)", told[-1])
    (source,) = json.loads(dse("validate", "m.csv", "--json").out)
    assert [row["line"] for row in source["not_scored"]] == list(range(3, 29))


def test_what_is_wrong_with_the_file_is_the_user_s_fault(dse, tmp_path):
    (tmp_path / "m.csv").write_text("a,b\n1,2\n")
    said = dse("validate", "m.csv")
    assert said.code == 2
    assert said.err.splitlines()[0] == "m.csv:1:1: source: missing column"
    assert dse("validate", "nowhere.csv").err == "nowhere.csv: no such file\n"
    (tmp_path / "n.csv").write_text(FILE)
    assert dse("validate", "n.csv", "--runtime", "vlm").err == "unknown runtime 'vlm'; did you mean 'vllm'?\n"


def test_the_page_is_whole_and_escapes_what_the_file_says(dse, tmp_path):
    hostile = "</script><img src=x onerror=alert(1)>"
    (tmp_path / "m.csv").write_text(HEADER + FINE.replace("mine", hostile) + FINE.replace("Llama-3.1-8B", hostile))
    assert dse("validate", "m.csv", "--html", "v.html").code == 0
    page = (tmp_path / "v.html").read_text()
    assert hostile not in page
    assert "<img src=x" not in page
    assert page.rstrip().endswith("</html>")


def test_fitted_engines_are_written(dse, tmp_path):
    (tmp_path / "m.csv").write_text(FILE)
    assert dse("validate", "m.csv", "--fit", "r.yaml").code == 0
    assert "fitted by dse validate to 1 rows of m.csv over calibrated kernels" in (tmp_path / "r.yaml").read_text()


RUN = {
    "backend": "vllm", "model_id": "meta-llama/Llama-3.1-8B-Instruct", "num_prompts": 160, "request_rate": "inf",
    "max_concurrency": 16, "duration": 26.0, "completed": 160, "total_input_tokens": 163840,
    "total_output_tokens": 40960, "output_throughput": 1575.4, "mean_ttft_ms": 50.0, "mean_tpot_ms": 10.0,
}  # fmt: skip


def test_a_benchmark_s_json_needs_only_what_it_ran_on(dse, tmp_path):
    (tmp_path / "b.json").write_text(json.dumps(RUN))
    said = dse("validate", "b.json", "--hardware", "h100-sxm", "--tp", "1", "--fit", "mine.yaml")
    assert said.code == 0
    assert said.out.startswith("3 of 3 rows predicted")
    again = dse("validate", "b.json", "--hardware", "h100-sxm", "--runtime", "./mine.yaml", "--json")
    assert [row["predicted_rows"] for row in json.loads(again.out)] == [1, 1, 1]
    assert dse("validate", "b.json").err == ("b.json: a benchmark does not say what it ran on: state it (--hardware)\n")


def test_what_a_benchmark_alone_needs_is_refused_for_rows(dse, tmp_path):
    (tmp_path / "m.csv").write_text(FILE)
    said = dse("validate", "m.csv", "--hardware", "h100-sxm", "--kv-cache", "fp8")
    assert (said.code, said.err) == (2, "m.csv: not a benchmark's JSON, which alone needs --hardware, --kv-cache\n")
    (tmp_path / "b.json").write_text(json.dumps(RUN)[:-3])
    said = dse("validate", "b.json", "--hardware", "h100-sxm")
    assert said.code == 2
    assert said.err.endswith("not valid JSON: the file ends in the middle of a value; it is truncated\n")
