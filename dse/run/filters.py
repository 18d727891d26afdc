"""Which points of a run are wanted: a mapping of columns to values, or what pyarrow's datasets filter by."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

from dse.errors import Fault, InputError
from dse.spec.reading import suggest

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.compute as pc

FORMS = (
    "a mapping such as {'tp': 2, 'batch': [1, 16]}, filters such as [('tp', '>=', 2), ('hardware', 'in', ['h200-sxm'])]"
    ", or a pyarrow expression"
)


def expression(where: Any, schema: pa.Schema) -> pc.Expression | None:
    """What to filter a table by; None for all rows.

    Args:
        where: None; column -> value, or values of which any will do, all columns to be met (None: no value there);
            tuples (column, operator, value), all to be met, or lists of such of which one is to be met; or a
            pyarrow expression.
        schema: of the table.

    Raises:
        InputError: it is none of these, a column does not exist, or a value is not of its column's type.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if where is not None and not isinstance(where, pc.Expression):
        check_columns(where if isinstance(where, Mapping) else _named(where), schema.names)
    try:
        if isinstance(where, Mapping):
            parts = [_equal(pc.field(name), value) for name, value in where.items()]
            found = reduce(and_, parts) if parts else None
        elif where is None or isinstance(where, pc.Expression):
            found = where
        else:
            found = pq.filters_to_expression(where)
        if found is not None:  # on no rows: a column that is not there, a text where numbers stand
            schema.empty_table().filter(found)
    except (pa.ArrowException, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(Fault(f"cannot filter by {where!s}: {reason}; expected {FORMS}", "where")) from None
    return found


def check_columns(names: Collection[Any], known: Collection[str]) -> None:
    """Refuse columns that are not there.

    Raises:
        InputError: some are not.
    """
    unknown = [str(name) for name in names if name not in known]
    if unknown:
        raise InputError([Fault(f"no such column{suggest(name, known)}", name) for name in unknown])


def _equal(field: pc.Expression, value: Any) -> pc.Expression:
    import pyarrow.compute as pc

    if value is None:
        return field.is_null()
    if isinstance(value, str) or not hasattr(value, "__iter__"):
        return field == value
    values = list(value)
    return field.isin(values) if values else pc.scalar(False)  # pyarrow gives no type to no values


def _named(where: Any) -> list[Any]:
    """Columns of filters in pyarrow's form."""
    if not isinstance(where, list | tuple) or not where:
        raise _neither(where)
    return [name for part in where for name in _names_of(part, where)]


def _names_of(part: Any, where: Any) -> Iterator[Any]:
    for one in part if isinstance(part, list) else [part]:
        if not isinstance(one, tuple) or len(one) != 3:
            raise _neither(where)
        yield one[0]


def _neither(where: Any) -> InputError:
    return InputError(Fault(f"expected {FORMS}; got {where!r}", "where"))
