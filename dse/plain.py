"""Values as JSON: NaN and infinities, which JSON does not have, are null; NumPy's scalars and arrays are plain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY


def json_bytes(value: Any, *, pretty: bool = False) -> bytes:
    """The value as JSON in UTF-8.

    Args:
        value: mappings, sequences, text, numbers, dates; anything else as its text.
        pretty: indented, with a line break at the end.
    """
    layout = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE if pretty else 0
    return orjson.dumps(value, default=_known, option=OPTIONS | layout)


def plain(value: Any) -> Any:
    """The value as it is read back from its JSON."""
    return orjson.loads(json_bytes(value))


def _known(value: Any) -> Any:
    """What orjson does not know."""
    if isinstance(value, Mapping):
        return dict(value)
    return value.tolist() if hasattr(value, "tolist") else str(value)
