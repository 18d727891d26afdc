"""`dse probe`: what is measured, in which order, and what is refused before anything is."""

from __future__ import annotations

import datetime
import math
import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from dse.calibrate import allreduce, cuda, disk, gemm, host, machine
from dse.calibrate.reading import WIDE, Reading, Result, Step
from dse.calibrate.write import Findings, choose, specification, write
from dse.errors import CannotRun, Fault, InputError, Interrupted
from dse.run.store import writing
from dse.spec.catalog import load_hardware
from dse.spec.hardware import HardwareSpec

Device = Literal["cpu", "cuda"]
Say = Callable[[str], None]

BUSY = 0.5
"""Load average per core above which the machine is not idle."""
_HOST_MEMORY = "box.host_memory_bandwidth_gb_per_s"


@dataclass(frozen=True, slots=True)
class Probe:
    """A finished probe."""

    path: Path
    hardware: HardwareSpec
    """What stands in the file."""
    readings: tuple[Reading, ...]

    def rows(self) -> list[dict[str, Any]]:
        """One row per reading, for a table; `fills` names the fields it went into."""
        chosen, _ = choose(self.readings)
        return [
            {
                "measured": reading.what,
                "best": reading.value,
                "unit": reading.unit,
                "repeats": reading.repeats,
                "slowest": f"-{reading.spread:.0%}",
                "fills": ", ".join(field for field in reading.fields if chosen.get(field) is reading) or None,
            }
            for reading in self.readings
        ]


def probe(
    out: str | Path,
    *,
    device: Device = "cpu",
    disk_folder: str | Path | None = None,
    disk_gb: float = 4.0,
    seconds: float = 30.0,
    base: str | None = None,
    force: bool = False,
    say: Say = lambda text: None,
) -> Probe:
    """Measure this machine and write its hardware file.

    Args:
        out: the file; its stem is the machine's name.
        device: what serves the model: the processors themselves, or the first GPU.
        disk_folder: a folder on the disk to measure; by default that of `out`.
        disk_gb: how much to write there; 0 measures no disk.
        seconds: about how long to measure, all together.
        base: a chip whose power, prices and the like, which cannot be measured, are taken over.
        force: overwrite `out`.
        say: told of every step.

    Raises:
        InputError: an argument is at fault.
        CannotRun: this machine cannot do it, or the file cannot be written.
        Interrupted: Ctrl-C or SIGTERM; nothing is left behind.
    """
    try:
        with _terminated_as_interrupted():
            return _probe(Path(out), device, disk_folder, disk_gb, seconds, base, force, say)
    except BaseException as error:
        # A signal may strike while a lock is taken or a buffer still moves, so that tidying up fails in its turn
        # ("release unlocked lock": https://github.com/python/cpython/issues/74174).
        if not any(isinstance(cause, KeyboardInterrupt) for cause in _causes(error)):
            raise
        raise Interrupted("interrupted; nothing was written") from None


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception, and those in whose handling it came up."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__context__


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM ends the block as Ctrl-C does, so that it tidies up; signals belong to the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before or signal.SIG_DFL)


def _probe(
    out: Path, device: Device, disk_folder: str | Path | None, disk_gb: float, seconds: float,
    base: str | None, force: bool, say: Say,
) -> Probe:  # fmt: skip
    _check_numbers(disk_gb, seconds)
    _check_out(out, force)
    chip = _base(base, device)
    if os.name != "posix":
        raise CannotRun("dse probe knows Linux and macOS only")
    torch = cuda.load() if device == "cuda" else None
    gpu = cuda.look(torch) if torch is not None else None
    size = int(disk_gb * 1e9)
    place = disk.look(Path(disk_folder) if disk_folder is not None else out.parent, size) if size else None
    box = machine.look()
    say(f"{gpu.name if gpu else box.label}, {box.cores} cores; about {seconds:g} s")
    plan = list(_steps(box, torch, gpu, place, size))
    results = [Result(notes=(*_busy(box), *_narrow(gpu)))]
    results += [_run(step, seconds * step.weight / sum(s.weight for s in plan), say) for step in plan]
    findings = Findings(
        name=out.stem,
        date=datetime.date.today().isoformat(),
        machine=box,
        gpu=gpu,
        disk=place,
        readings=tuple(reading for result in results for reading in result.readings),
        notes=tuple(note for result in results for note in result.notes),
    )
    found = specification(findings, chip)
    _check_out(out, force)  # minutes may have passed
    write(found, out)
    return Probe(out, found, findings.readings)


def _check_numbers(disk_gb: float, seconds: float) -> None:
    faults = []
    if not 0 <= disk_gb < math.inf:
        faults.append(Fault(f"expected GB, or 0 for no disk, got {disk_gb:g}", "--disk-gb"))
    if not 0 < seconds < math.inf:
        faults.append(Fault(f"expected a number above 0, got {seconds:g}", "--seconds"))
    if faults:
        raise InputError(faults)


def _busy(box: machine.Machine) -> Iterator[str]:
    """Whether others were using the machine when the probe began: ceilings need it alone."""
    load = os.getloadavg()[0]
    if load > BUSY * box.cores:
        yield f"The machine was in use (load {load:.1f} on {box.cores} cores): these rates may be below its ceilings."


def _narrow(gpu: cuda.Gpu | None) -> Iterator[str]:
    """Whether only fp32 can be measured: NumPy multiplies nothing narrower."""
    if gpu is None and gemm.optional_torch() is None:
        yield (
            "Only fp32 was measured, as PyTorch is not installed: with this file every number format is multiplied as "
            "fp32. For bf16, fp16 and int8: pip install torch, and probe again."
        )


def _check_out(out: Path, force: bool) -> None:
    """Whether the file may be written, before anything is measured.

    Raises:
        InputError: the path is at fault.
        CannotRun: its folder cannot be written.
    """
    if out.is_dir():
        raise InputError(Fault("is a folder; expected the name of a file to write", file=str(out)))
    if out.suffix not in (".yaml", ".yml"):
        raise InputError(Fault("expected a name that ends in .yaml", file=str(out)))
    if not out.parent.is_dir():
        raise InputError(Fault(f"there is no folder {out.parent}", file=str(out)))
    if out.exists() and not force:
        raise InputError(Fault("there is such a file; --force overwrites it", file=str(out)))
    with writing(out), disk.nameless(out.parent):
        pass


def _base(name: str | None, device: Device) -> HardwareSpec | None:
    """The chip to take over from.

    Raises:
        InputError: there is none of that name, or it is of another kind.
    """
    if name is None:
        return None
    chip = load_hardware(name)
    if (chip.kind == "cpu") != (device == "cpu"):
        wanted = "a processor" if device == "cpu" else "a GPU"
        raise InputError(f"--base {name}: is of kind {chip.kind}; --device {device} measures {wanted}")
    return chip


def _steps(
    box: machine.Machine, torch: Any, gpu: cuda.Gpu | None, place: disk.Disk | None, size: int
) -> Iterator[Step]:
    """All steps: the accelerator, the host, the disk."""
    own = gpu is None  # the host is itself the accelerator
    if gpu is not None:
        yield from cuda.steps(torch, gpu)
        if gpu.count > 1:
            yield Step("all-reduce", partial(allreduce.measure, torch, gpu.count))
    bandwidth_fields = ("memory.bandwidth_gb_per_s", _HOST_MEMORY) if own else (_HOST_MEMORY,)
    for pattern in host.PATTERNS:
        yield Step(f"memory {pattern}", partial(host.bandwidth, pattern, box, bandwidth_fields))
    rate_fields = ("peak_tflops.fp32", "box.cpu_tflops") if own else ("box.cpu_tflops",)
    yield Step("GEMM fp32", partial(host.gemm, box, rate_fields), weight=2)
    if (library := torch or gemm.optional_torch()) is not None:
        for dtype in host.TORCH_DTYPES if own else ("fp32",):
            fields = rate_fields if dtype == "fp32" else (f"peak_tflops.{dtype}",)
            yield Step(f"GEMM {dtype} (PyTorch)", partial(host.torch_gemm, library, dtype, fields))
    if place is not None:
        yield Step("disk", partial(disk.measure, place, size), weight=4)


def _run(step: Step, seconds: float, say: Say) -> Result:
    """Run a step, telling what it is and what it found.

    Raises:
        CannotRun: PyTorch or the GPU's driver gave up, for which they raise RuntimeError.
    """
    say(f"measuring {step.what} ...")
    try:
        result = step.run(seconds)
    except RuntimeError as error:
        raise CannotRun(f"measuring {step.what}: {(str(error) or 'failed').splitlines()[0]}") from error
    for reading in result.readings:
        apart = f"  (repeats up to {reading.spread:.0%} slower)" if reading.spread > WIDE else ""
        say(f"  {reading.what}: {reading.value:.4g} {reading.unit}{apart}")
    return result
