"""What serving benchmarks write -> measured rows, so that a user's own runs validate and fit the engines.

Two programs write nearly one format, a flat object per run (fields as in the versions named):

    vLLM 0.6 to 0.11, `vllm bench serve` or benchmark_serving.py, --save-result or --append-result: a file per run, or
        a line each. date, backend, model_id, num_prompts, request_rate (a number or "inf"), max_concurrency (or null),
        duration, completed, total_input_tokens, total_output_tokens, output_throughput, mean_ttft_ms, mean_tpot_ms ...
    SGLang 0.4 and 0.5, `sglang.bench_serving --output-file`: a line per run. backend, dataset_name, request_rate
        (Infinity), max_concurrency, the same results, mean_e2e_latency_ms, concurrency, accept_length.

Objects may follow one another in any way, so `cat runs/*.json > all.json` is a file of several runs. Neither says what
it ran on: hardware, layout and precision are the user's to state (`Deployment`). Lengths are the means of the requests
that were answered. `duration` is in s; times are in ms, throughputs in tokens per s.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dse.calibrate.measured import OPTIONAL, REQUIRED, Measured
from dse.errors import Fault, InputError
from dse.spec.catalog import load_hardware, load_model, load_precision
from dse.spec.reading import json_int, json_syntax, text_of
from dse.spec.runtime import load_runtime

COLUMNS = (*REQUIRED, *OPTIONAL)

NEEDED = ("duration", "completed", "total_input_tokens", "total_output_tokens", "output_throughput")
"""Fields without which a run means nothing; all positive."""

TIMES = {"ttft_ms": "mean_ttft_ms", "tpot_ms": "mean_tpot_ms"}
"""Metric of a row -> the field it is read from; vLLM leaves out what --percentile-metrics does not name."""

ENGINES = {
    "vllm": "vllm", "vllm-chat": "vllm", "sglang": "sglang", "sglang-native": "sglang", "sglang-oai": "sglang",
    "sglang-oai-chat": "sglang", "lmdeploy": "lmdeploy", "lmdeploy-chat": "lmdeploy", "trt": "tensorrt-llm",
    "tensorrt-llm": "tensorrt-llm",
}  # fmt: skip
"""Field `backend` -> engine, where it tells; `openai` and the like only name the protocol."""

SGLANG_ONLY = ("total_output_tokens_retokenized", "mean_e2e_latency_ms")

MAX_BYTES = 200_000_000
"""--save-detailed and --output-details add every request's times and text."""

SPECULATIVE = 1.02
"""Tokens accepted per step beyond which a run decoded speculatively."""

SLACK = 1.1
"""Sums and means of one run agree this far, or one of them is in another unit."""

IDLE = 50.0
"""A closed loop is this many times fuller than its slots seem, or a time is in another unit."""


@dataclass(frozen=True)
class Deployment:
    """What ran, as the user states it."""

    hardware: str
    model: str = ""
    """Empty: the `model_id` of each run."""
    precision: str = "bf16"
    kv_cache: str = ""
    """Empty: what the engine takes."""
    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 0
    runtime: str = ""
    """Empty: the engine that each run's `backend` names, or else that of the program that wrote it."""

    def check(self) -> None:
        """Names that mean nothing are told once, not in every row.

        Raises:
            InputError: unknown model, hardware, precision or engine.
        """
        load_hardware(self.hardware)
        load_precision(self.precision)
        if self.model:
            load_model(self.model)
        if self.runtime:
            load_runtime(self.runtime)


def is_benchmark(path: str | Path) -> bool:
    """Whether a file begins as JSON does, and no CSV header can."""
    try:
        with Path(path).open("rb") as file:
            return file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[")
    except (OSError, ValueError):
        return False  # whoever reads it says why it cannot be read


def read_benchmarks(path: str | Path, ran: Deployment) -> tuple[list[str], list[Measured]]:
    """Columns and rows of a file of benchmark results: mean TTFT, mean TPOT and output throughput of every run.

    Args:
        path: JSON of vLLM's or SGLang's serving benchmark.
        ran: what they do not say.

    Raises:
        InputError: no such file, not JSON, a field is missing or contradicts another, a name is unknown.
    """
    ran.check()
    name = str(path)
    rows: list[Measured] = []
    faults: list[Fault] = []
    for line, run in _objects(text_of(name, MAX_BYTES), name):
        if wrong := dict(_faults(run)):
            faults += [Fault(message, field, name, line, 1) for field, message in wrong.items()]
        else:
            rows += _rows(run, ran, name, line)
    if faults:
        raise InputError(faults)
    if not rows:
        raise InputError(Fault("has no results", file=name))
    return list(COLUMNS), rows


def _objects(text: str, file: str) -> Iterator[tuple[int, Any]]:
    """Every object of the file with the line it begins in."""
    decoder = json.JSONDecoder(parse_int=json_int)
    at = _skip(text, 0)
    while at < len(text):
        line = text.count("\n", 0, at) + 1
        try:
            value, end = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            raise InputError(Fault(json_syntax(error, text), "", file, error.lineno, error.colno)) from None
        except RecursionError:
            raise InputError(Fault("not a benchmark's result: nested too deep", "", file, line, 1)) from None
        for one in value if isinstance(value, list) else [value]:
            yield line, one
        at = _skip(text, end)


def _skip(text: str, at: int) -> int:
    """The next character that is no space (nor a comma between objects)."""
    while at < len(text) and text[at] in " \t\r\n,":
        at += 1
    return at


def _number(run: Mapping[str, Any], name: str) -> float | None:
    """A number above zero; None where there is none."""
    value = run.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return None
    return float(value) if math.isfinite(value) and value > 0 else None


def _faults(run: Any) -> Iterator[tuple[str, str]]:
    """Field -> what is wrong with it."""
    if not isinstance(run, Mapping):
        yield "", f"expected an object with the results of a run, got {type(run).__name__}"
        return
    if run.get("completed") == 0:
        yield "completed", "no request was answered: there is nothing to compare"
        return
    missing = [name for name in NEEDED if name not in run]
    bad = [name for name in NEEDED if name in run and _number(run, name) is None]
    yield from ((name, "missing field") for name in missing)
    yield from ((name, f"expected a number above 0, got {str(run[name])[:40]!r}") for name in bad)
    if not any(_number(run, name) for name in TIMES.values()):
        yield TIMES["ttft_ms"], f"missing field, and {TIMES['tpot_ms']} as well"
    elif not (missing or bad):
        yield from list(_limits(run)) or _contradictions(run)


def _limits(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What was asked of the load generator must be understood."""
    concurrency = run.get("max_concurrency")
    if concurrency is not None and not (_number(run, "max_concurrency") or 0.5).is_integer():
        yield "max_concurrency", f"expected a whole number of at least 1 or null, got {str(concurrency)[:40]!r}"
    rate = run.get("request_rate", "inf")
    if rate not in ("inf", "trace") and not (isinstance(rate, (int, float)) and rate > 0):
        yield "request_rate", f"expected a number above 0 or 'inf', got {str(rate)[:40]!r}"


def _contradictions(run: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Figures of one run that cannot all be true: a unit is off."""
    seconds, answered = float(run["duration"]), float(run["completed"])
    rate = run["total_output_tokens"] / seconds
    if not 1 / SLACK <= run["output_throughput"] / rate <= SLACK:
        told = f"{run['output_throughput']:.6g} is not total_output_tokens / duration = {rate:.6g} tokens/s"
        yield "output_throughput", f"{told}: is a unit off?"
        return
    latency = _latency(run)
    if latency > SLACK * seconds:
        told = f"with the tokens of a request it makes {latency:.4g} s, longer than the whole run ({seconds:.4g} s)"
        yield _longest(run), f"{told}: expected milliseconds"
    slots = _in_flight(run)
    if slots is not None and latency * answered / seconds < slots / IDLE and len(_known(run)) == len(TIMES):
        told = f"requests of {latency:.3g} s keep {latency * answered / seconds:.2g} of {slots:,} slots busy"
        yield _longest(run), f"{told}: expected milliseconds"


def _known(run: Mapping[str, Any]) -> dict[str, float]:
    """The times of a run, ms."""
    return {metric: value for metric, field in TIMES.items() if (value := _number(run, field))}


def _latency(run: Mapping[str, Any]) -> float:
    """Seconds of a mean request as far as the times are there."""
    known, steps = _known(run), max(float(run["total_output_tokens"]) / run["completed"] - 1, 0.0)
    found: float = 1e-3 * (known.get("ttft_ms", 0.0) + steps * known.get("tpot_ms", 0.0))
    return found


def _longest(run: Mapping[str, Any]) -> str:
    """The time that most of a request goes into."""
    known, steps = _known(run), run["total_output_tokens"] / run["completed"] - 1
    return TIMES["ttft_ms" if known.get("ttft_ms", 0.0) > steps * known.get("tpot_ms", 0.0) else "tpot_ms"]


def _in_flight(run: Mapping[str, Any]) -> int | None:
    """Requests that are in flight together; None where they come at a rate of their own."""
    rate = run.get("request_rate", "inf")
    if rate == "trace" or (isinstance(rate, (int, float)) and math.isfinite(rate)):
        return None
    return int(min(run.get("max_concurrency") or math.inf, run["completed"]))


def _scenario(run: Mapping[str, Any]) -> str:
    if (_number(run, "accept_length") or 1.0) > SPECULATIVE:
        return "online_speculative"
    slots = _in_flight(run)
    if slots is None:
        return "online_open_loop"
    if slots >= run["completed"]:  # as many slots as requests: all are sent at once, and none follows
        return "online_at_once"
    return "online_equal_lengths" if _equal_lengths(run) else "online_closed_loop"


def _equal_lengths(run: Mapping[str, Any]) -> bool:
    """Whether all requests have one length: SGLang says the range, vLLM lists them with --save-detailed."""
    listed = run.get("output_lens")
    if isinstance(listed, list) and listed:
        return all(length == listed[0] for length in listed)
    return run.get("random_range_ratio") == 1.0 and str(run.get("dataset_name", "")).startswith("random")


def _rows(run: Mapping[str, Any], ran: Deployment, file: str, line: int) -> Iterator[Measured]:
    """One row per metric of a run."""
    answered = run["completed"]
    asked = _number(run, "num_prompts")
    failed = f"{asked - answered:.0f} of {asked:.0f} requests failed" if asked and asked > answered else ""
    shared = {
        "source": Path(file).name,
        "model": ran.model or _model(run, file, line),
        "hardware": ran.hardware,
        "framework": ran.runtime or _engine(run),
        "date": _date(str(run.get("date", ""))),
        "n_gpus": str(ran.tp * ran.pp * ran.dp),
        **{name: str(getattr(ran, name) or "") for name in ("tp", "pp", "dp", "ep")},
        "weight_dtype": ran.precision,
        "kv_dtype": ran.kv_cache,
        "input_len": f"{run['total_input_tokens'] / answered:.6g}",
        "output_len": f"{run['total_output_tokens'] / answered:.6g}",
        "batch_or_concurrency": str(_in_flight(run) or run.get("max_concurrency") or ""),
        "scenario": _scenario(run),
        "notes": failed,
        **_arrivals(run),
    }
    for metric, value in {**_known(run), "output_tok_s": float(run["output_throughput"])}.items():
        own = {"row_id": f"{line}:{metric}", "metric": metric, "value": repr(value)}
        yield Measured({**dict.fromkeys(COLUMNS, ""), **shared, **own}, line)


def _date(text: str) -> str:
    """`20251101-101500` as 2025-11-01."""
    return f"{text[:4]}-{text[4:6]}-{text[6:8]}" if text[:8].isdigit() else text[:10]


def _arrivals(run: Mapping[str, Any]) -> dict[str, str]:
    """The columns of an open loop.

    vLLM draws the times between requests from a gamma distribution whose shape is its `burstiness` b
    (`get_request` in vllm/benchmarks/serve.py), of coefficient of variation b^(-1/2); SGLang from an exponential one.
    """
    if _in_flight(run) is not None or not (rate := _number(run, "request_rate")):
        return {}
    shape = _number(run, "burstiness") or 1.0
    return {"request_rate": repr(rate), "burstiness": f"{shape**-0.5:.6g}"}


def _engine(run: Mapping[str, Any]) -> str:
    said = str(run.get("backend") or run.get("endpoint_type") or "")
    return ENGINES.get(said, "sglang" if any(name in run for name in SGLANG_ONLY) else "vllm")


def _model(run: Mapping[str, Any], file: str, line: int) -> str:
    """The model a run names, in the library's words."""
    said = run.get("model_id")
    if not isinstance(said, str) or not said:
        raise InputError(Fault("does not say which model ran: state it (--model)", "model_id", file, line, 1))
    for name in dict.fromkeys((said, said.rsplit("/", 1)[-1])):
        try:
            return load_model(name).name
        except InputError:
            continue
    raise InputError(Fault(f"{said[:80]!r} is no model of the library: state it (--model)", "model_id", file, line, 1))
