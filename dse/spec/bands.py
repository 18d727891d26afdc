"""How far predictions were off, by evidence class: 90 % bands, and which parts of the error points have in common.

`configs/error_bands.yaml` holds what `dse validate MEASURED.csv --bands` measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Annotated, Literal, get_args

from pydantic import Field

from dse.errors import InputError
from dse.spec.reading import Strict, build, library_file, read

FILE = "configs/error_bands.yaml"

EvidenceClass = Literal["ideal", "datasheet", "transferred", "calibrated"]

CLASSES: tuple[EvidenceClass, ...] = get_args(EvidenceClass)
"""What a row's timing rests on (contract 6 of the design), weakest first."""

METRICS = ("ttft", "tpot", "throughput")

Share = Annotated[float, Field(ge=0)]


class Band(Strict):
    """The error of one metric."""

    error_pct: Annotated[float, Field(ge=0)]
    """The 90th percentile of |predicted / measured - 1|, averaged over the sources, percent."""
    rows: Annotated[int, Field(ge=1)]
    sources: dict[str, float]
    """Source of measurements -> its own 90th percentile, percent."""


class Shares(Strict):
    """The variance of the log error that two points do not have in common, as shares of the band's.

    Each holds where the two differ in it; what is left of 1 is common to all points of a comparison.
    """

    model: Share
    chip: Share
    scheme: Share
    """Formats of weights, activations and KV cache."""
    engine: Share
    """Serving engine and its version."""
    layout: Share
    """Degrees of parallelism, and whatever else is configured."""
    octave: Share
    """Per doubling of the batch between them."""


class Errors(Strict):
    """What was measured of one evidence class; a metric without measurements is absent."""

    ttft: Band | None = None
    tpot: Band | None = None
    throughput: Band | None = None
    shares: Shares | None = None


class _File(Strict):
    source: str
    cost_model: int
    classes: dict[EvidenceClass, Errors]


class ErrorModel(Strict):
    """The errors of one evidence class, complete."""

    bands: tuple[float, float, float]
    """Error of `METRICS` in nine cases of ten, percent."""
    shares: Shares


@cache
def error_models() -> Mapping[str, ErrorModel]:
    """The error model of every evidence class.

    What was not measured of a class is taken from the next weaker one that was: better kernels are no worse.

    Raises:
        InputError: the file is damaged, or lacks figures of the weakest class.
    """
    document = read(library_file(FILE))
    content = build(_File, document)
    found: dict[str, ErrorModel] = {}
    known = Errors()
    for name in CLASSES:
        measured = content.classes.get(name, Errors())
        known = Errors(
            ttft=measured.ttft or known.ttft,
            tpot=measured.tpot or known.tpot,
            throughput=measured.throughput or known.throughput,
            shares=measured.shares or known.shares,
        )
        if known.ttft is None or known.tpot is None or known.throughput is None or known.shares is None:
            raise InputError(document.fault(("classes",), f"no figures of the class {CLASSES[0]}"))
        bands = (known.ttft.error_pct, known.tpot.error_pct, known.throughput.error_pct)
        found[name] = ErrorModel(bands=bands, shares=known.shares)
    return found
