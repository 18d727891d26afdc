"""Which function reads which `model_type`."""

from __future__ import annotations

from collections.abc import Callable

from dse.spec.families.fields import Fields
from dse.spec.model import ModelSpec

Parser = Callable[[Fields], ModelSpec]
FAMILIES: dict[str, Parser] = {}
"""model_type -> the function that reads its config.json; filled by `family`."""


def family(*model_types: str) -> Callable[[Parser], Parser]:
    """Register the reader of these model types."""

    def register(parser: Parser) -> Parser:
        FAMILIES.update(dict.fromkeys(model_types, parser))
        return parser

    return register
