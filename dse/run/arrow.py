"""Complete rows as Arrow tables, each column with its fixed type.

`pa.array` imports pandas, a third of the time of a small sweep and 40 MB: hence buffers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dse.cost.techniques import TECHNIQUES
from dse.run.cells import Cells, Coded, Counted

if TYPE_CHECKING:
    import pyarrow as pa

TEXT = (
    "model", "hardware", "precision", "workload", "serving", "offload", "runtime", "fidelity", *TECHNIQUES,
    "prefill_bound", "decode_bound", "host_computes", "accuracy_evidence", "compute_dtype", "evidence",
    "saturation", "price_kind", "price_date", "price_source", "status", "prefill_hardware", "prefill_precision",
    "prefill_price_kind", "prefill_price_date", "prefill_price_source",
)  # fmt: skip
WHOLE = (
    "number", "input", "output", "tp", "pp", "dp", "ep", "batch", "devices", "max_context", "max_batch",
    "gpu_batch", "num_batches", "prefill_tp", "prefill_pp", "prefill_dp", "prefill_ep", "prefill_batch",
    "prefill_workers", "decode_workers",
)  # fmt: skip


def table(columns: Mapping[str, Cells], text: Collection[str] = ()) -> pa.Table:
    """An Arrow table of complete rows, each column with its fixed type.

    Args:
        columns: values by column.
        text: columns of text beside those that always are.
    """
    import pyarrow as pa

    arrays = []
    for name, cells in columns.items():
        few = cells.values if isinstance(cells, Coded) else cells
        if name in TEXT or name in text:
            array = _text_array(few)
        else:
            array = _number_array(few, "int64" if name in WHOLE else "float64")
        arrays.append(array.take(arrow(cells.index)) if isinstance(cells, Coded) else array)
    return pa.Table.from_arrays(arrays, list(columns))


def arrow(numbers: NDArray[Any], validity: pa.Buffer | None = None) -> pa.Array:
    """An array of NumPy's numbers, not copied."""
    import pyarrow as pa

    return pa.Array.from_buffers(pa.from_numpy_dtype(numbers.dtype), len(numbers), [validity, pa.py_buffer(numbers)])


def _number_array(cells: Sequence[Any] | NDArray[Any] | Counted, dtype: str) -> pa.Array:
    if isinstance(cells, Counted):
        none = np.isnan(cells.numbers)
        return arrow(np.where(none, 0.0, cells.numbers).astype(dtype), _bitmap(~none))
    if isinstance(cells, np.ndarray):
        return arrow(np.ascontiguousarray(cells, dtype=dtype))
    return arrow(np.array([0 if value is None else value for value in cells], dtype=dtype), _validity(cells))


def _text_array(cells: Sequence[Any] | NDArray[Any] | Counted) -> pa.Array:
    import pyarrow as pa

    values = cells if isinstance(cells, Sequence) else cells.tolist()
    encoded = [b"" if value is None else str(value).encode() for value in values]
    ends = np.zeros(len(values) + 1, dtype=np.int32)
    np.cumsum([len(item) for item in encoded], out=ends[1:])
    buffers = [_validity(values), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))]
    return pa.Array.from_buffers(pa.string(), len(values), buffers)


def _validity(values: Sequence[Any]) -> pa.Buffer | None:
    """Arrow's bitmap of the values that are there; None where all are."""
    return _bitmap(np.array([value is not None for value in values], dtype=bool))


def _bitmap(there: NDArray[np.bool_]) -> pa.Buffer | None:
    import pyarrow as pa

    return None if there.all() else pa.py_buffer(np.packbits(there, bitorder="little").tobytes())
