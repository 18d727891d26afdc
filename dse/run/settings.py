"""`--set KEY=VALUE`: changes to the fields of a sweep from the command line."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dse.errors import Fault, InputError
from dse.run.faults import Faults
from dse.spec.composer import Steps, compose, dotted
from dse.spec.reading import Document


def set_values(document: Document, assignments: Sequence[str]) -> Document:
    """The document with `KEY=VALUE` assignments applied; keys are dotted, values YAML.

    Raises:
        InputError: an assignment has no `=`, its value is not YAML, or its key leads through a value.
    """
    if not assignments or not isinstance(document.value, dict):
        return document
    value = copy.deepcopy(document.value)
    assigned = []
    faults = Faults()
    for text in assignments:
        with faults.collected():
            assigned.append(_assign(value, text))
    faults.check()
    return _Changed(document.file, value, document.text, tuple(assigned))


@dataclass(frozen=True)
class _Changed(Document):
    """A document of which some values stand on the command line."""

    assigned: tuple[tuple[str, ...], ...] = ()
    """Their paths."""

    def fault(self, path: Steps, message: str, *, key: bool = False) -> Fault:
        """A fault at `path`, in the file or on the command line."""
        if any(tuple(path[: len(own)]) == own for own in self.assigned):
            return Fault(message, dotted(path), "--set")
        return super().fault(path, message, key=key)


def value_of(raw: str, where: str) -> Any:
    """What a text on the command line means as YAML.

    Raises:
        InputError: it is not YAML.
    """
    node = compose(raw, where) if raw.strip() else None
    return None if node is None else node.value


def _assign(value: dict[str, Any], text: str) -> tuple[str, ...]:
    """Change one value; its path."""
    key, equals, raw = text.partition("=")
    *parents, last = key.strip().split(".")
    if not equals or not last or not all(parents):
        raise InputError(Fault(f"expected KEY=VALUE, got {text!r}", "--set"))
    node = compose(raw, f"--set {key}") if raw.strip() else None
    target = value
    for step in parents:
        inner = target.setdefault(step, {})
        if not isinstance(inner, dict):
            raise InputError(Fault(f"{step!r} holds no fields to set", f"--set {key}"))
        target = inner
    target[last] = None if node is None else node.value
    return (*parents, last)
