"""The `calibration:` block of a hardware file: written beside what stands there, whole or not at all."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import yaml

from dse.calibrate.fit import Result
from dse.errors import InputError
from dse.run.store import write_whole
from dse.spec.calibration import FORMS, Basis, Calibration, Fitted
from dse.spec.catalog import load_hardware
from dse.spec.hardware import HardwareSpec

_BLOCK = re.compile(r"^calibration:.*\n(?:[ \t#].*\n|\n)*", re.MULTILINE)
_WIDE: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 10**6}


def calibration_of(chip: HardwareSpec, results: Sequence[Result], source: str, when: str = "") -> Calibration:
    """What was fitted, with the numbers it rests on."""
    links = any(result.form == "collective" for result in results)
    basis = Basis(
        chip=chip.name,
        peak_tflops={str(dtype): tflops for dtype, tflops in chip.peak_tflops.items() if dtype not in ("fp32", "tf32")},
        bandwidth_gb_per_s=chip.memory.bandwidth_gb_per_s,
        cores=chip.cores or 1,
        link_gb_per_s=chip.domain_bandwidth / 1e9 if links else None,
    )
    sets: dict[str, dict[str, Fitted]] = {}
    for result in results:
        sets.setdefault(result.form, {})[result.key] = result.fitted
    return Calibration(source=source, date=when or date.today().isoformat(), basis=basis, **sets)  # type: ignore[arg-type]


def text(block: Calibration) -> str:
    """The block as YAML: a line per set."""
    assert block.basis is not None, "a fit rests on numbers of its chip"
    head = {"source": block.source, "date": block.date}
    lines = ["calibration:\n", *(f"  {line}\n" for line in yaml.safe_dump(head, **_WIDE).splitlines())]
    lines.append(f"  basis: {_flow(block.basis.model_dump(exclude_none=True))}\n")
    for form in FORMS:
        sets: dict[str, Fitted] = getattr(block, form)
        if sets:
            lines.append(f"  {form}:\n")
        for key, fitted in sets.items():
            about = fitted.model_dump(include=set(Fitted.model_fields), exclude={"inherited"})
            lines.append(f"    {key}: {_flow({**fitted.values(), **about})}\n")
    return "".join(lines)


def _flow(value: dict[str, Any]) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True, **_WIDE)).strip()


def with_block(content: str, block: Calibration) -> str:
    """The text of a hardware file with this block: in place of an older one, else above `sources:`."""
    new = text(block)
    content = content if content.endswith("\n") else f"{content}\n"
    if _BLOCK.search(content):
        return _BLOCK.sub(lambda _: new, content, count=1)
    before, sources, after = content.partition("\nsources:")
    return f"{before}\n{new}{sources.lstrip()}{after}" if sources else content + new


def write(chip: HardwareSpec, source_file: Path, block: Calibration, out: Path) -> None:
    """Write the chip's file with the block to `out`, and read it back.

    Raises:
        InputError: the stem of `out` is not the chip's name.
        CannotRun: it cannot be written.
    """
    if out.suffix not in (".yaml", ".yml"):
        raise InputError(f"--out: expected a file ending in .yaml, got {str(out)!r}")
    content = with_block(source_file.read_text(encoding="utf-8"), block)
    write_whole(out, lambda path: path.write_text(content, encoding="utf-8"))
    load_hardware(out)
