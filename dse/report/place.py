"""A placement on the terminal: what lies where, how long each stream takes, what binds and what more would be worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dse.report.columns import number_text
from dse.report.listing import aligned

TIERS = ("accelerator", "host", "disk")
ROWS = 6
"""Blocks of the frontier that are shown."""


def print_place(found: Mapping[str, Any]) -> None:
    """Print what `dse.run.place.place` found."""
    machine = f"{found['devices']} × {found['hardware']}"
    print(f"{found['model']} on {machine}, {found['precision']}, {found['workload']}, overlap {found['overlap']}")
    if found["status"] != "ok":
        print(found["status"] + _lacking(found))
    if "shares" not in found:
        return
    print(
        f"{number_text(found['output_tokens_per_s'])} tokens/s, {number_text(found['latency_s'])} s per block of "
        f"{found['batch']} sequences: {found['num_batches']} GPU batches of {found['gpu_batch']}, "
        f"the host computes {found['host_computes']}"
    )
    print(f"TTFT {number_text(found['ttft_ms'] / 1e3)} s", end="")
    print("" if found["tpot_ms"] is None else f", {number_text(found['tpot_ms'] / 1e3)} s per token")
    _shares(found)
    _times(found["times"])
    _memory(found["memory"])
    _limits(found)
    _frontier(found.get("frontier", ()))


def _lacking(found: Mapping[str, Any]) -> str:
    if "least_latency_s" in found:
        return f": the fastest block takes {number_text(found['least_latency_s'])} s"
    over = found.get("needed_over_available")
    if over is None:
        return ""
    if over <= 1:
        return ": no placement fits all tiers at once, though each alone has room"
    return f": needs {number_text(over)} times what the scarcest tier has, at least"


def _shares(found: Mapping[str, Any]) -> None:
    shares, whole = found["shares"], found["rounded"]
    rows = [["share", *TIERS]]
    rows += [[name.replace("_", " "), *(f"{on[tier]:.1%}" for tier in TIERS)] for name, on in shares.items()]
    print()
    _table(rows)
    if whole is None:
        print("  in whole layers: nothing near this fits")
    else:
        speed = number_text(whole["output_tokens_per_s"])
        block = f"{whole['num_batches']} x {whole['gpu_batch']}"
        print(f"  in whole layers: {speed} tokens/s, {max(whole['loss_pct'], 0.0):.1f} % less ({block} sequences)")


def _times(times: Mapping[str, Mapping[str, float]]) -> None:
    streams = list(times["prefill"])
    rows = [["seconds of a pass", *times]]
    rows += [[name.replace("_", " "), *(number_text(times[phase][name]) for phase in times)] for name in streams]
    print()
    _table(rows)


def _memory(memory: Mapping[str, Mapping[str, float]]) -> None:
    uses = list(dict.fromkeys(name for used in memory.values() for name in used))
    rows = [["GB per device", *memory]]
    rows += [[name.removesuffix("_gb"), *(number_text(of.get(name, 0.0)) for of in memory.values())] for name in uses]
    print()
    _table(rows)


def _limits(found: Mapping[str, Any]) -> None:
    print("\nlimits: " + ", ".join(name.replace("_", " ") for name in found["binding"]))
    for name, value in found["shadow_prices"].items():
        if value > 0:
            tier = name.partition("_")[0]
            what = {"accelerator": "accelerator memory", "host": "host memory", "disk": "disk"}[tier]
            print(f"  1 GB more of {what} is worth {number_text(value)} tokens/s")
    if found["disk_written_tb_per_day"] > 0:
        print(f"  disks take {number_text(found['disk_written_tb_per_day'])} TB of writes a day")
    if "note" not in found:
        return
    plain = found["without_offloading"]
    line = found["note"]
    if plain is not None:
        line += f" ({number_text(plain['output_tokens_per_s'])} tokens/s at batch {plain['batch']})"
    print(line)


def _frontier(frontier: Sequence[Mapping[str, Any]]) -> None:
    """A few blocks from the fastest answer to the highest throughput."""
    if len(frontier) < 2:
        return
    shown = [frontier[round(i)] for i in _spread(len(frontier))]
    print("\nfrontier of blocks: latency against throughput")
    rows = [["s", "tokens/s", "blocks of", "the host computes"]]
    for one in shown:
        speed, block = number_text(one["output_tokens_per_s"]), f"{one['num_batches']} x {one['gpu_batch']}"
        rows.append([number_text(one["latency_s"]), speed, block, one["host_computes"]])
    _table(rows)


def _spread(count: int) -> list[float]:
    """At most `ROWS` places among `count`, both ends among them."""
    rows = min(count, ROWS)
    return [i * (count - 1) / (rows - 1) for i in range(rows)]


def _table(rows: list[list[str]]) -> None:
    for line in aligned(rows, [False, *(True for _ in rows[0][1:])]):
        print(f"  {line}")
