"""A plan that brings its own throughputs: which rows compete, which are today's, what it cannot say beside them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from dse.errors import Fault, InputError
from dse.run.demand import Bucket
from dse.run.hardware_keys import in_use
from dse.spec.catalog import load_hardware
from dse.spec.hardware import HardwareSpec
from dse.spec.plan import PlanFile
from dse.spec.reading import Document, suggest
from dse.spec.throughput import Measured

Floats = NDArray[np.float64]

OF_AN_ENGINE = ("precision", "tp", "pp", "dp", "ep")
"""Fields of `current` that a row of a table is silent about."""


def hardware_of(table: Sequence[Measured]) -> list[str]:
    """The accelerators of a table, in its order."""
    return list(dict.fromkeys(row.hardware for row in table))


def competing(file: PlanFile, table: Sequence[Measured], document: Document) -> list[str]:
    """The accelerators of a table that `candidates.hardware` names; all of them by default.

    Raises:
        InputError: it names one that has no rows, or describes one.
    """
    known, stated = hardware_of(table), file.candidates.hardware
    if stated == "all":
        return known
    entries = stated if isinstance(stated, list) else [stated]
    found, faults = [], []
    for place, entry in enumerate(entries):
        at = ("candidates", "hardware", *((place,) if isinstance(stated, list) else ()))
        if not isinstance(entry, str):
            faults.append(document.fault(at, "expected the name of an accelerator of the table"))
        elif (name := in_use(entry, known, document)) is None:
            faults.append(document.fault(at, f"{entry!r} has no rows in the table{suggest(entry, known)}"))
        else:
            found.append(name)
    if faults:
        raise InputError(faults)
    return [name for name in known if name in found]


def library_chip(name: str) -> HardwareSpec | None:
    """What the library knows of a name; None where it does not."""
    try:
        return load_hardware(name)
    except InputError:
        return None


def unused(source: Mapping[str, object]) -> list[str]:
    """Fields of `candidates` that a table leaves without a meaning, as the user wrote them."""
    stated = source.get("candidates")
    return [str(name) for name in stated if name != "hardware"] if isinstance(stated, Mapping) else []


def misplaced(file: PlanFile, table: Sequence[Measured], document: Document) -> Iterator[Fault]:
    """What a plan with measured throughputs cannot say."""
    if file.constraints:
        message = "goes without 'throughput': the table does not say in which precision its rows were measured"
        yield document.fault(("constraints",), message, key=True)
    known = hardware_of(table)
    for place, entry in enumerate(file.current):
        for name in OF_AN_ENGINE:
            if name in entry.model_fields_set:
                message = "goes without 'throughput': a row of the table is a replica, whatever is in it"
                yield document.fault(("current", place, name), message, key=True)
        if known and in_use(entry.hardware, known, document) is None:
            message = f"{entry.hardware!r} has no rows in the table{suggest(entry.hardware, known)}"
            yield document.fault(("current", place, "hardware"), message)


def row_name(word: str, table: Sequence[Measured], document: Document) -> str:
    """What the table calls an accelerator that has rows in it."""
    return in_use(word, hardware_of(table), document) or word


def table_rates(rows: Sequence[Measured], buckets: Sequence[Bucket], model: int) -> tuple[Floats, list[str]]:
    """What one accelerator serves of each bucket, by the row of its size or else the next larger one.

    A larger request asks for more of everything, so that the row is on the safe side.

    Args:
        rows: of one accelerator and model.
        buckets: of the plan.
        model: the index of the model.

    Returns:
        Requests/s, shape (buckets,), and the size of the row taken for each; empty text where there is none.
    """
    rates, texts = np.zeros(len(buckets)), [""] * len(buckets)
    for place, bucket in enumerate(buckets):
        larger = [row for row in rows if row.input >= bucket.input and row.output >= bucket.output]
        if bucket.model == model and larger:
            row = min(larger, key=lambda row: (row.input + row.output, row.input))
            rates[place], texts[place] = row.requests_per_s, f"{row.input}x{row.output}"
    return rates, texts


def rows_of(table: Sequence[Measured], hardware: str, model: str, *, single: bool) -> list[Measured]:
    """The rows of one accelerator and model.

    Args:
        table: all rows.
        hardware: as the table spells it.
        model: its name in the plan.
        single: whether it is the only one: rows without a model are its.
    """
    names = (model, "") if single else (model,)
    return [row for row in table if row.hardware == hardware and row.model in names]
