"""How far the figures can be trusted, in words: what the timing rests on, and the error that was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dse.report.columns import number_text
from dse.report.thinning import group_keys

CLASSES = {
    "calibrated": "efficiencies fitted on measurements of this accelerator",
    "transferred": "efficiencies fitted on a related accelerator",
    "datasheet": "datasheet peaks with default efficiencies",
    "ideal": "pure roofline: no efficiency losses at all",
}
"""What a row's timing rests on, strongest first (contract 6 of the design)."""

RECALLED = "recalled"
"""Added to the class of a row whose accelerator has a number that could only be recalled."""

ERRORS = {"ttft_error_pct": "TTFT", "tpot_error_pct": "TPOT", "throughput_error_pct": "throughput"}

BAND_OF = {
    "ttft_ms": "ttft_error_pct",
    "tpot_ms": "tpot_error_pct",
    **dict.fromkeys(
        ("output_tokens_per_s", "output_tokens_per_s_per_device", "requests_per_s"), "throughput_error_pct"
    ),
}
"""Which band holds for a metric."""


CHANCE = "front_probability"

SURE = 0.9
"""Probability of being on the front from which a point leads by more than the error of prediction: the bands hold nine
cases in ten."""


def leads(manifest: Mapping[str, Any], columns: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """Per comparison group with frontier points of known probability: `key`, and in `text` how many lead for sure.

    Args:
        manifest: The run's manifest.
        columns: The frontier by columns.
    """
    members: dict[tuple[Any, ...], list[int]] = {}
    for row, key in enumerate(group_keys(columns, manifest)):
        members.setdefault(key, []).append(row)
    chances, numbers = columns.get(CHANCE, ()), columns.get("number", ())
    found = []
    for key, rows in members.items():
        known = {row: float(chances[row]) for row in rows if chances and _known(chances[row])}
        if known:
            found.append({"key": list(key), "text": _lead(known, len(rows) - len(known), numbers)})
    return found


def _lead(chances: Mapping[int, float], unknown: int, numbers: Sequence[Any]) -> str:
    """How many of some frontier rows lead by more than the error, and which leads most surely."""
    total, close = len(chances), sum(chance < SURE for chance in chances.values())
    points = "frontier point leads" if total == 1 else "frontier points lead"
    if close:
        surest = max(chances, key=lambda row: chances[row])
        text = (
            f"{close:,} of {total:,} {points} by less than the error of prediction (probability of being on the front "
            f"below {SURE:g}); surest is point {numbers[surest]}, {number_text(chances[surest], 2)}"
        )
    else:
        text = f"{'The only' if total == 1 else f'All {total:,}'} {points} by more than the error of prediction"
    return f"{text}; not computed of {unknown:,} more." if unknown else f"{text}."


def meaning(evidence: str) -> str:
    """What an evidence class stands for."""
    name, *marks = evidence.split("+")
    words = CLASSES.get(name, "a class this version does not know")
    return f"{words}; a number of the chip could only be recalled" if RECALLED in marks else words


def sentences(manifest: Mapping[str, Any], columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """What the head of a report and the end of a summary say of the frontier's evidence.

    Args:
        manifest: The run's manifest.
        columns: The frontier by columns.
    """
    counts = manifest.get("evidence") or {}
    rests = "; ".join(
        f"{name} for {count:,} {'point' if count == 1 else 'points'} ({meaning(name)})"
        for name, count in counts.items()
    )
    found = [f"Timing rests on {rests}."] if rests else []
    bands = [f"±{band}\u00a0% ({word})" for name, word in ERRORS.items() if (band := _band(columns.get(name, ())))]
    if bands:
        found.append(
            f"Checked against published measurements, nine predictions in ten were within {', '.join(bands)} of "
            "the measured value; none of the measurements was used for fitting. Designs that differ by less may "
            "rank the other way round: measure the short list before buying."
        )
    chances = columns.get(CHANCE, ())
    if known := sum(map(_known, chances)):
        text = (
            "The probability of being on the front (p front) weighs each point's lead over the others, and over the "
            "front of every other accelerator, against these errors, less what the points have in common."
        )
        if known < len(chances):
            text += (
                f" Of so many frontier points it was computed for {known:,}, the best of each group and an even spread "
                f"of the rest; {len(chances) - known:,} were left without to save time."
            )
        found.append(text)
    return [*found, *_placement(manifest, columns)]


def _placement(manifest: Mapping[str, Any], columns: Mapping[str, Sequence[Any]]) -> list[str]:
    """Of offloaded points: whether they had to be, and how their placements were found."""
    placed = [row for row, offload in enumerate(columns.get("offload", ())) if offload == "lp"]
    solved = (manifest.get("programs") or {}).get("solved", 0)
    found = []
    if placed and "offload_speedup" in columns:
        gains = [columns["offload_speedup"][row] for row in placed]
        fits = [gain for gain in gains if gain is not None and gain == gain]
        text = f"Of {len(placed):,} offloaded points on the frontier {len(placed) - len(fits):,} fit in no other way"
        if fits:
            faster = sum(gain > 1 for gain in fits)
            text += f"; {len(fits):,} would fit without offloading, which makes {faster:,} of them faster"
        found.append(f"{text}.")
    if solved:
        by_highs = manifest["programs"].get("by_highs", 0)
        found.append(
            f"Placements: {solved:,} linear programs, {by_highs:,} of them finished by HiGHS. Host and disk rates are "
            "those of the box; offloading was checked against FlexGen on one T4 (README)."
        )
    return found


def _known(value: Any) -> bool:
    return value is not None and value == value


def _band(values: Sequence[Any]) -> str:
    known = [value for value in values if _known(value)]
    if not known:
        return ""
    low, high = number_text(min(known), 2), number_text(max(known), 2)
    return low if low == high else f"{low} to {high}"
